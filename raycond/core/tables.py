"""Parquet files for Arrow, in memory of its own.

Arrow's threads let go of what they read after the call that asked for it. If that is an object of Python, such as a
BytesIO, and the interpreter ends at this moment, the process is aborted; once in a hundred times on a busy machine.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raycond.core import files, stream


def parquet_table(data: bytes, columns: Sequence[str] | None = None) -> pa.Table:
    """The table in the bytes of a Parquet file. Raises whatever Arrow raises on damaged bytes."""
    return parquet_file(data).read(columns=None if columns is None else list(columns), use_threads=False)


def parquet_file(data: bytes) -> pq.ParquetFile:
    """A Parquet file in memory, opened; read it with use_threads=False. Raises whatever Arrow raises."""
    return pq.ParquetFile(pa.BufferReader(_copied(data)))


@contextmanager
def arrow_file(uri: str) -> Iterator[Any]:
    """What `pyarrow.parquet` opens: Arrow's own file if it is local, a stream otherwise. Raises OSError."""
    if not files.is_local(uri):
        with stream.reader(uri) as file:
            yield file
        return
    path = files.absolute(uri)
    files.open_local(path).close()  # a pipe would block Arrow for ever
    with pa.OSFile(os.fsencode(path)) as file:
        yield file


@contextmanager
def parquet_writer(sink: IO[bytes], schema: pa.Schema, **options: Any) -> Iterator[pq.ParquetWriter]:
    """A writer to an open stream, finished if the block ends without an error.

    After an error, such as a full disk, `pyarrow.parquet.ParquetWriter` would try to write the end of the file, and
    once more when it is collected, with messages that bury the first one.
    """
    writer = pq.ParquetWriter(sink, schema, **options)
    try:
        yield writer
        writer.close()
    finally:
        writer.is_open = False


def _copied(data: bytes) -> pa.Buffer:
    buffer = pa.allocate_buffer(len(data))
    np.frombuffer(buffer, np.uint8)[:] = np.frombuffer(data, np.uint8)
    return buffer
