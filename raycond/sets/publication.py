"""How the files of a set come into its folder: beside those of the set that is there, and then by one switch.

A set is found through its manifest, and by `datasets` through its card. New data files have names that no set had
before, because the name holds the digest of the content; they disturb nobody. When all of them are there, the card and
the manifest are replaced, each at once, and the files of the former set are removed. Whoever opens the set meanwhile
gets the former or the new one.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from raycond.core import files, stream
from raycond.sets.manifest import NAME

DIGITS = 12  # of a digest, in a file's name
FOLDERS = (
    "data",
    "latents",
    "tensors",
    "labels",
)  # which belong to the set alone: what it does not list is removed from them


class StagedFile(io.RawIOBase):
    """A new file while it is being written: counts and digests what passes through it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._sha256 = file, hashlib.sha256()
        self.size = 0
        self.name = ""
        """The file's name inside the set, once it is written."""

    @property
    def digest(self) -> str:
        return self._sha256.hexdigest()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._sha256.update(data)
        self.size += len(data)
        self._file.write(data)
        return len(data)


class Publication:
    """New files of the set in `folder`. Use as a context manager: without `switch` nothing of them stays behind."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.files: dict[str, dict[str, Any]] = {}
        """Name inside the set → {"sha256", "bytes"} of each file so far."""
        self._hidden: dict[str, str] = {}  # final place → hidden temporary file beside it, on a local disk
        self._small: dict[str, bytes] = {}

    def __enter__(self) -> Publication:
        files.sweep(self.folder)
        return self

    def __exit__(self, *error: object) -> None:
        for temporary in self._hidden.values():
            if os.path.exists(temporary):
                os.unlink(temporary)

    @contextmanager
    def stream(self, stem: str, ending: str) -> Iterator[StagedFile]:
        """A new file named `stem`-DIGEST`ending`. It shows under that name at the switch, or on an object store, where
        nothing can be renamed, when it is complete."""
        with self._file(stem) as (file, hidden):
            yield (staged := StagedFile(file))
            staged.name = f"{stem}-{staged.digest[:DIGITS]}{ending}"
            self._keep(staged, file, hidden)
        self.files[staged.name] = {"sha256": staged.digest, "bytes": staged.size}

    @contextmanager
    def _file(self, stem: str) -> Iterator[tuple[IO[bytes], str]]:
        """A file to write and its path, hidden beside its final place; for an object store one that goes by itself."""
        if not files.is_local(self.folder):
            with tempfile.TemporaryFile() as file:
                yield file, ""
            return
        beside = os.path.dirname(files.absolute(files.join(self.folder, stem)))
        os.makedirs(beside, exist_ok=True)
        handle, temporary = files.hidden_file(beside)
        try:
            with os.fdopen(handle, "w+b") as file:
                yield file, temporary
        except BaseException:
            os.unlink(temporary)
            raise

    def _keep(self, staged: StagedFile, file: IO[bytes], hidden: str) -> None:
        uri = files.join(self.folder, staged.name)
        file.flush()
        if files.is_local(self.folder):
            os.fsync(file.fileno())
            os.chmod(hidden, 0o644)  # a temporary file's 0600 would hide the set from those it is shared with
            self._hidden[files.absolute(uri)] = hidden
            return
        file.seek(0)
        with stream.writer(uri) as target:
            shutil.copyfileobj(file, target, 2**20)

    def put(self, name: str, data: bytes) -> None:
        """A small file that keeps its name; it is written at the switch."""
        self._small[name] = data
        self.files[name] = {"sha256": files.sha256(data), "bytes": len(data)}

    def switch(self, manifest: dict[str, Any]) -> None:
        """Make the new files the set: `manifest`, which lists them, is written last. Then remove the former ones."""
        for place, temporary in self._hidden.items():
            os.replace(temporary, place)
        for name, data in self._small.items():
            files.write_bytes(files.join(self.folder, name), data)
        files.write_json(files.join(self.folder, NAME), manifest)
        for folder in FOLDERS:
            if files.exists(files.join(self.folder, folder)):
                self._sweep(folder)

    def _sweep(self, folder: str) -> None:
        """Remove what the set does not list: readers of whole folders would take it."""
        for entry in files.listdir(files.join(self.folder, folder)):
            name = f"{folder}/{entry.name}"
            if entry.is_dir:
                self._sweep(name)
            elif name not in self.files:
                files.delete(entry.uri)
