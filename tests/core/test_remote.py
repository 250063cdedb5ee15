"""Remote filesystems: nothing remembered between calls, failures in one clear line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from raycond.core import files, stream
from raycond.core.errors import RemoteError, UserError
from raycond.core.retry import retrying


class Remembering(MemoryFileSystem):
    """A store whose client remembers listings for ever, as those of S3, Google and Hugging Face do."""

    protocol = "remembering"
    store: ClassVar[dict[str, Any]] = {}

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return MemoryFileSystem._strip_protocol(path.removeprefix("remembering://"))

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        path = self._strip_protocol(path)
        if path not in self.dircache:
            self.dircache[path] = super().ls(path, detail=True)
        return self.dircache[path] if detail else [info["name"] for info in self.dircache[path]]

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        path = self._strip_protocol(path)
        parent = self._parent(path)
        if parent in self.dircache:
            for info in self.dircache[parent]:
                if info["name"] == path:
                    return info
            raise FileNotFoundError(path)
        return super().info(path)

    def invalidate_cache(self, path: str | None = None) -> None:
        path = "" if path is None else self._strip_protocol(path)
        while path:
            self.dircache.pop(path, None)
            path = "" if path in ("", "/") else self._parent(path)


class Unreachable(MemoryFileSystem):
    """Every request fails as `error` says."""

    protocol = "unreachable"
    error: Exception = RuntimeError()

    def _fail(self, *_: Any, **__: Any) -> Any:
        raise self.error

    exists = isdir = info = ls = cat_file = pipe_file = _open = _fail


@pytest.fixture(autouse=True)
def stores() -> Iterator[None]:
    fsspec.register_implementation("remembering", Remembering, clobber=True)
    fsspec.register_implementation("unreachable", Unreachable, clobber=True)
    yield
    Remembering.store.clear()
    Remembering.clear_instance_cache()


def behind(path: str, data: bytes) -> None:
    """What another process writes: the client here does not notice."""
    other = Remembering(skip_instance_cache=True)
    other.pipe_file(path, data)


def test_a_file_that_another_process_wrote_later_is_seen() -> None:
    behind("/bucket/a/1", b"one")
    assert [entry.name for entry in files.listdir("remembering://bucket/a")] == ["1"]
    assert not files.exists("remembering://bucket/a/2")
    behind("/bucket/a/2", b"two")
    assert files.exists("remembering://bucket/a/2")
    assert files.entry("remembering://bucket/a/2").size == 3
    assert [entry.name for entry in files.listdir("remembering://bucket/a")] == ["1", "2"]
    behind("/bucket/a/2", b"longer")
    assert files.entry("remembering://bucket/a/2").size == 6
    with stream.reader("remembering://bucket/a/2") as file:
        assert file.read() == b"longer"
    assert files.is_dir("remembering://bucket/a")


def actions() -> list[Any]:
    uri = "unreachable://bucket/x"
    return [
        lambda: files.exists(uri),
        lambda: files.is_dir(uri),
        lambda: files.entry(uri),
        lambda: files.listdir(uri),
        lambda: files.read_bytes(uri),
        lambda: files.write_bytes(uri, b""),
        lambda: files.delete(uri),
        lambda: stream.reader(uri).__enter__(),
    ]


class NoCredentialsError(Exception):
    """As botocore's: neither an OSError nor of a type known here."""


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (NoCredentialsError("Unable to locate credentials"), "NoCredentialsError: Unable to locate credentials"),
        (RuntimeError("\n\nfirst line\nsecond"), "RuntimeError: first line"),
        (ConnectionRefusedError(111, "Connection refused"), "Connection refused"),
        (TimeoutError(), "TimeoutError"),
    ],
)
def test_failures_of_any_client_are_one_line(error: Exception, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Unreachable, "error", error)
    for action in actions():
        with pytest.raises(RemoteError) as caught:
            action()
        assert str(caught.value).startswith(f"unreachable://bucket/x: cannot be reached ({text}") or text in str(
            caught.value
        )
        assert "\n" not in str(caught.value)
        assert "credentials" in str(caught.value)


@pytest.mark.parametrize("error", [FileNotFoundError("x"), PermissionError("x"), IsADirectoryError("x")])
def test_what_a_store_says_about_a_file_stays(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Unreachable, "error", error)
    for action in actions():
        with pytest.raises(type(error)):
            action()


def test_an_address_that_makes_no_sense_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Unreachable, "error", ValueError("Invalid bucket name"))
    with pytest.raises(UserError, match=r"bucket/x: not an address .*Invalid bucket name"):
        files.entry("unreachable://bucket/x")


def test_failures_are_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[int] = []

    def flaky(*_: Any, **__: Any) -> dict[str, Any]:
        tries.append(1)
        if len(tries) < 3:
            raise NoCredentialsError("slow down")
        return {"name": "/bucket/x", "type": "file", "size": 4}

    monkeypatch.setattr(Unreachable, "info", flaky)
    assert retrying(lambda: files.entry("unreachable://bucket/x"), first_wait=0).size == 4


def test_errors_of_the_reader_are_not_of_the_store() -> None:
    files.write_bytes("remembering://bucket/y", b"abc")
    with pytest.raises(ValueError, match="mine"), stream.reader("remembering://bucket/y"):
        raise ValueError("mine")
