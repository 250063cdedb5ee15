"""Files too large to hold: seekable reading, and writing that appears as a whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import IO, cast

import fsspec

from raycond.core import files


@contextmanager
def reader(uri: str) -> Iterator[IO[bytes]]:
    """A seekable stream over one file, local or remote. Raises OSError."""
    if files.is_local(uri):
        with open(files.absolute(uri), "rb") as file:
            yield file
    else:
        with fsspec.open(uri, "rb") as file:
            yield cast(IO[bytes], file)


@contextmanager
def writer(uri: str) -> Iterator[IO[bytes]]:
    """A stream that becomes the file `uri` only if the block ends without an error.

    Local: temporary file, fsync, rename. Remote: an object store shows an upload when it is closed; after an
    error it is discarded.
    """
    if not files.is_local(uri):
        fs, path = fsspec.core.url_to_fs(uri)
        # a filesystem has one transaction at a time: a stream opened inside another's appears together with it
        with nullcontext() if fs._intrans else fs.transaction, fs.open(path, "wb") as file:
            yield cast(IO[bytes], file)
        return
    path = files.absolute(uri)
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=".", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as local:
            yield local
            local.flush()
            os.fsync(local.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise
