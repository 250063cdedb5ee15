"""Retrying, and streams that are written as a whole or not at all."""

from __future__ import annotations

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
