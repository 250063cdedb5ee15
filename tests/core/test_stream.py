"""Retrying, and streams that are written as a whole or not at all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from raycond.core import files, retry, stream
from raycond.core.errors import UserError


@pytest.mark.parametrize("scheme", ["", "memory://"])
def test_a_stream_appears_only_when_it_is_whole(tmp_path: Path, scheme: str) -> None:
    uri = f"memory://test-stream{tmp_path}/x.bin" if scheme else str(tmp_path / "sub" / "x.bin")

    def broken() -> None:
        with stream.writer(uri) as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken()
    assert not files.exists(uri)
    with stream.writer(uri) as file:
        file.write(b"one ")
        assert not files.exists(uri)
        file.write(b"two")
    with stream.reader(uri) as file:
        file.seek(4)
        assert file.read() == b"two"
    with pytest.raises(KeyboardInterrupt):
        broken()
    assert files.read_bytes(uri) == b"one two"
    if not scheme:
        assert [path.name for path in (tmp_path / "sub").iterdir()] == ["x.bin"]


def test_waits_double_and_the_last_error_comes_out(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(retry.time, "sleep", waits.append)
    calls: list[int] = []

    def fail() -> None:
        calls.append(1)
        raise OSError(f"failure {len(calls)}")

    with pytest.raises(OSError, match="failure 3"):
        retry.retrying(fail, attempts=3, first_wait=1.0)
    assert waits == [1.0, 2.0]


@pytest.mark.parametrize("error", [FileNotFoundError(), PermissionError(), MemoryError(), UserError("x")])
def test_permanent_errors_come_out_at_once(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    monkeypatch.setattr(retry.time, "sleep", lambda _: pytest.fail("waited"))

    def fail() -> None:
        raise error

    with pytest.raises(type(error)):
        retry.retrying(fail)


FULL = """
import gc, resource, signal, sys
import numpy as np, pyarrow as pa
from raycond.core import files, stream
from raycond.core.tables import parquet_writer
from raycond.data.labelled import pixel_writer
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))  # what a full disk does, at this size
table = pa.table({"a": np.random.default_rng(0).integers(0, 2**60, 50_000)})

def parquet():
    with stream.writer("x.parquet") as out, parquet_writer(out, table.schema) as writer:
        for start in range(0, 50_000, 5000):
            writer.write_table(table.slice(start, 5000))

def pixels():
    with pixel_writer("x.pixels", 100, (3, 64, 64)) as writer:
        for _ in range(100):
            writer.add(np.zeros((64, 64, 3), np.uint8), 0)

for action in (parquet, pixels, lambda: files.write_bytes("x.bytes", bytes(300_000))):
    try:
        action()
    except OSError as error:
        print(error.strerror)
    gc.collect()
"""


def test_a_full_disk_is_one_error_and_leaves_nothing(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FULL], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("File too large\n" * 3, "")
    assert list(tmp_path.iterdir()) == []
