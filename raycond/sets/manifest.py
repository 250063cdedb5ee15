"""The manifest of a condensed set: what it is, what it was made from, and the digest of every file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from raycond.core import files
from raycond.core.errors import UserError
from raycond.data.classes import Classes

FORMAT_VERSION = 1
NAME = "manifest.json"


@dataclass(frozen=True)
class Manifest:
    """`content` as stored in manifest.json; the properties name what code relies on."""

    content: dict[str, Any]

    @property
    def classes(self) -> Classes:
        return Classes.from_dict(self.content["classes"])

    @property
    def ipcs(self) -> list[int]:
        return [int(i) for i in self.content["ipc"]]

    @property
    def files(self) -> dict[str, dict[str, Any]]:
        """Path inside the set → {"sha256", "bytes"}."""
        found: dict[str, dict[str, Any]] = self.content["files"]
        return found

    def data_files(self, ipc: int) -> list[str]:
        return sorted(name for name in self.files if name.startswith(f"data/ipc{ipc}/"))

    def latent_files(self, ipc: int) -> list[str]:
        return sorted(n for n in self.files if n.startswith((f"latents/ipc{ipc}.", f"latents/ipc{ipc}-")))


def read_manifest(path: str) -> Manifest:
    """Raises UserError if `path` is not a finished condensed set of a format version known here."""
    uri = files.join(files.absolute(path), NAME)
    if not files.exists(uri):
        raise UserError(f"{path}: no {NAME}: not a condensed set, or one whose making was interrupted (run it again)")
    try:
        content = files.read_json(uri)
        version = content["format_version"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise UserError(f"{uri}: damaged: {error}") from error
    if version != FORMAT_VERSION:
        raise UserError(f"{path}: format version {version}; this raycond reads {FORMAT_VERSION}")
    return Manifest(content)
