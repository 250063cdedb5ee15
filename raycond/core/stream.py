"""Files too large to hold: seekable reading, and writing that appears as a whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import IO, cast

from raycond.core import files
from raycond.core.remote import filesystem, reached


@contextmanager
def reader(uri: str) -> Iterator[IO[bytes]]:
    """A seekable stream over one file, local or remote. Raises OSError."""
    if files.is_local(uri):
        with files.open_local(files.absolute(uri)) as file:
            yield file
    else:
        fs, path = filesystem(uri)
        with reached(uri):
            remote = fs.open(path, "rb")
        with remote as file:
            yield cast(IO[bytes], file)


@contextmanager
def writer(uri: str) -> Iterator[IO[bytes]]:
    """A stream that becomes the file `uri` only if the block ends without an error.

    Local: temporary file, fsync, rename. Remote: an object store shows an upload when it is closed; after an
    error it is discarded.
    """
    if files.is_local(uri):
        with files.replacing(files.absolute(uri)) as file:
            yield file
        return
    fs, path = filesystem(uri)
    # a filesystem has one transaction at a time: a stream opened inside another's appears together with it
    with nullcontext() if fs._intrans else fs.transaction, fs.open(path, "wb") as file:
        yield cast(IO[bytes], file)
