"""Small Parquet files."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raycond.core import files
from raycond.core.tables import arrow_file, parquet_table

TABLE = pa.table({"a": list(range(30)), "b": [b"x"] * 30})


def written() -> bytes:
    buffer = io.BytesIO()
    pq.write_table(TABLE, buffer, row_group_size=7)
    return buffer.getvalue()


def test_all_columns_or_some() -> None:
    assert parquet_table(written()) == TABLE
    assert parquet_table(written(), ["b"]) == TABLE.select(["b"])


@pytest.mark.parametrize("data", [b"", b"PAR1", written()[:-9], written()[100:]])
def test_damage_is_what_arrow_raises(data: bytes) -> None:
    with pytest.raises((pa.ArrowException, OSError)):
        parquet_table(data)


def test_arrow_holds_no_object_of_python(monkeypatch: pytest.MonkeyPatch) -> None:
    data, seen = written(), []
    plain = pq.ParquetFile
    monkeypatch.setattr(pq, "ParquetFile", lambda source: (seen.append(source), plain(source))[1])
    before = sys.getrefcount(data)
    parquet_table(data)
    assert sys.getrefcount(data) == before
    assert [type(source) for source in seen] == [pa.BufferReader]


def test_files_of_any_name_and_place(tmp_path: Path) -> None:
    path = os.path.join(str(tmp_path), os.fsdecode(b"caf\xe9.parquet"))
    for uri in (path, "memory://test-tables/x.parquet"):
        files.write_bytes(uri, written())
        with arrow_file(uri) as file:
            assert pq.ParquetFile(file).read() == TABLE
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a regular file"), arrow_file(str(tmp_path / "pipe")):
        pass
    with pytest.raises(FileNotFoundError), arrow_file(str(tmp_path / "none")):
        pass
