"""The manifest of a condensed set: what it is, what it was made from, and the digest of every file."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from raycond.core import files
from raycond.core.errors import UserError, short
from raycond.core.text import shown
from raycond.data.classes import Classes
from raycond.sets.manifest_content import content_problem
from raycond.sets.place import MANIFEST, set_folder

FORMAT_VERSION = 1
NAME = MANIFEST
MOST_BYTES = 2**28  # of manifest.json; one of 21,000 classes at ten IPCs has some ten million


@dataclass(frozen=True)
class Manifest:
    """What manifest.json says; the properties name what code relies on."""

    content: dict[str, Any]
    """All of it, as stored."""

    @cached_property
    def classes(self) -> Classes:
        """In label order."""
        return Classes.from_dict(self.content["classes"])

    @property
    def ipcs(self) -> list[int]:
        """Images per class of each version of the set, ascending."""
        return [int(i) for i in self.content["ipc"]]

    @property
    def files(self) -> dict[str, dict[str, Any]]:
        """Path inside the set → {"sha256", "bytes"}."""
        listed: dict[str, dict[str, Any]] = self.content["files"]
        return listed

    def data_files(self, ipc: int) -> list[str]:
        """The Parquet files of one IPC, in the order of their rows."""
        return sorted(name for name in self.files if name.startswith(f"data/ipc{ipc}/"))

    def latent_files(self, ipc: int) -> list[str]:
        """The safetensors files with the centroids of one IPC, in the order of the rows."""
        return self._beside("latents", ipc)

    def tensor_files(self, ipc: int) -> list[str]:
        """The safetensors files with the float images of one IPC, in the order of the rows; empty where there are
        none."""
        return self._beside("tensors", ipc)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        return self.content["channels"], self.content["size"], self.content["size"]

    def _beside(self, folder: str, ipc: int) -> list[str]:
        return sorted(n for n in self.files if n.startswith((f"{folder}/ipc{ipc}.", f"{folder}/ipc{ipc}-")))


def read_manifest(path: str) -> Manifest:
    """The manifest of the set at `path`, which may also be the folder of its run.

    Raises UserError if there is no finished condensed set, if it has a format version not known here, or if the
    manifest lacks something or has something of a wrong kind.
    """
    uri = files.join(set_folder(path), NAME)
    try:
        content = files.parse_json(files.read_bytes(uri, most=MOST_BYTES))
        version = content["format_version"]
    except OSError as error:
        raise UserError(f"{shown(uri)}: cannot be read: {short(error)}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{shown(uri)}: damaged: {shown(short(error))}") from error
    if version != FORMAT_VERSION:
        raise UserError(f"{shown(uri)}: format version {shown(version)}; this raycond reads {FORMAT_VERSION}")
    if problem := content_problem(content):
        raise UserError(f"{shown(uri)}: damaged: {problem}")
    return Manifest(content)
