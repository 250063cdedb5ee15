"""One filesystem layer for local paths, s3://, gs://, hf:// and memory://, with atomic writes."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import platform
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import IO, Any, NamedTuple

from raycond.core.errors import is_full
from raycond.core.remote import filesystem, reached

# A temporary file carries the machine and the process that writes it: .HOST.PID.RANDOM.part
_PART = re.compile(r"\.(?P<host>.*)\.(?P<pid>\d+)\.[^.]*\.part")
_OLD_SECONDS = 24 * 3600  # after which a temporary file of another machine is taken for abandoned


class Entry(NamedTuple):
    """One name in a folder. `size` in bytes; `stamp` changes when the content does (mtime or etag)."""

    name: str
    uri: str
    is_dir: bool
    size: int
    stamp: str


def is_local(uri: str) -> bool:
    return "://" not in uri or uri.startswith("file://")


def absolute(uri: str) -> str:
    """The same place, valid from any working directory (workers do not share the driver's)."""
    if is_local(uri):
        return os.path.abspath(os.path.expanduser(uri.removeprefix("file://")))
    return uri.rstrip("/")


def join(uri: str, *parts: str) -> str:
    return "/".join([uri.rstrip("/"), *parts]) if parts else uri


def exists(uri: str) -> bool:
    if is_local(uri):
        return os.path.exists(absolute(uri))
    fs, path = filesystem(uri)
    with reached(uri):
        return bool(fs.exists(path))


def is_dir(uri: str) -> bool:
    if is_local(uri):
        return os.path.isdir(absolute(uri))
    fs, path = filesystem(uri)
    with reached(uri):
        return bool(fs.isdir(path))


def entry(uri: str) -> Entry:
    """Size and stamp of one file. Raises FileNotFoundError or another OSError."""
    if is_local(uri):
        path = absolute(uri)
        status = os.stat(path)
        return Entry(os.path.basename(path), path, os.path.isdir(path), status.st_size, str(status.st_mtime_ns))
    fs, path = filesystem(uri)
    with reached(uri):
        return _remote_entry(uri, fs.info(path))


def _remote_entry(uri: str, info: dict[str, Any]) -> Entry:
    stamp = info.get("ETag") or info.get("etag") or info.get("md5Hash") or info.get("LastModified")
    stamp = stamp or info.get("blob_id") or info.get("created") or ""
    if isinstance(stamp, datetime):  # one filesystem gives a date for a file and a number for its folder's listing
        stamp = stamp.timestamp()
    return Entry(
        uri.rstrip("/").rsplit("/", 1)[-1],
        uri,
        info["type"] == "directory",
        info.get("size") or 0,
        str(stamp),
    )


def listdir(uri: str) -> list[Entry]:
    """Entries of a folder, sorted by name, hidden ones left out. Raises FileNotFoundError or another OSError."""
    if is_local(uri):
        root = absolute(uri)
        entries = []
        with os.scandir(root) as scan:
            for item in scan:
                if not item.name.startswith("."):
                    try:
                        status, folder = item.stat(), item.is_dir()
                    except OSError:  # a dangling link still is an image reference; reading it quarantines it
                        status, folder = item.stat(follow_symlinks=False), False
                    path = os.path.join(root, item.name)
                    entries.append(Entry(item.name, path, folder, status.st_size, str(status.st_mtime_ns)))
        return sorted(entries)
    fs, path = filesystem(uri)
    scheme = uri.split("://", 1)[0]
    entries = []
    with reached(uri):
        infos = fs.ls(path, detail=True)
    for info in infos:
        name = info["name"].rstrip("/").rsplit("/", 1)[-1]
        if not name.startswith(".") and info["name"].rstrip("/") != path.rstrip("/"):
            entries.append(_remote_entry(f"{scheme}://{info['name'].lstrip('/')}", info))
    return sorted(entries)


def names_in(uri: str) -> Iterator[tuple[str, bool]]:
    """Names in a folder and whether they are folders, hidden ones left out, in any order.

    Of a local folder as they are read, without a look at each file: the caller may stop at the first that it needs.
    Raises FileNotFoundError or another OSError.
    """
    if is_local(uri):
        with os.scandir(absolute(uri)) as scan:
            for item in scan:
                if not item.name.startswith("."):
                    yield item.name, item.is_dir()
    else:
        for entry in listdir(uri):
            yield entry.name, entry.is_dir


def read_bytes(uri: str, offset: int = 0, length: int = -1, most: int | None = None) -> bytes:
    """`length` bytes from `offset` (-1: to the end). Raises FileNotFoundError or another OSError.

    most: raise OSError for more bytes than this, of a local file before any is read.
    """
    if is_local(uri):
        with open_local(absolute(uri)) as file:
            if offset:
                file.seek(offset)
            if most is not None and length < 0:
                _require_at_most(most, os.fstat(file.fileno()).st_size - offset, uri)
            return file.read(length)
    fs, path = filesystem(uri)
    wanted = most + 1 if length < 0 and most is not None else length
    with reached(uri):
        data: bytes = fs.cat_file(path, start=offset or None, end=None if wanted < 0 else offset + wanted)
    if most is not None:
        _require_at_most(most, len(data), uri)
    return data


def _require_at_most(most: int, size: int, uri: str) -> None:
    if size > most:
        raise OSError(errno.EFBIG, f"more than {most} bytes", uri)


def open_local(path: str) -> IO[bytes]:
    """Open a regular file to read. Raises OSError for a pipe, socket or device, which could block for ever."""
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # a folder has an error of its own
        raise OSError(errno.EINVAL, "not a regular file (a pipe, socket or device)", path)
    return open(path, "rb")


def write_bytes(uri: str, data: bytes) -> None:
    """Write all or nothing: a reader sees the old content or the new, never a part."""
    if not is_local(uri):
        fs, path = filesystem(uri)
        with reached(uri):
            fs.pipe_file(path, data)  # object stores make a put visible as a whole
        return
    with replacing(absolute(uri)) as file:
        file.write(data)


def hidden_file(folder: str) -> tuple[int, str]:
    """An open temporary file in a local folder, as descriptor and path: hidden, and named so that `sweep` removes it
    once the process that made it has gone."""
    return tempfile.mkstemp(dir=folder, prefix=f".{platform.node()}.{os.getpid()}.", suffix=".part")


def hidden_folder(parent: str) -> str:
    """A new temporary folder in a local one, named as `hidden_file` names files. Those that killed processes left there
    are removed."""
    for path in Path(parent).glob(".*.part"):
        with contextlib.suppress(OSError):
            if path.is_dir() and _PART.fullmatch(path.name) and _abandoned(path):
                shutil.rmtree(path)
    return tempfile.mkdtemp(dir=parent, prefix=f".{platform.node()}.{os.getpid()}.", suffix=".part")


@contextlib.contextmanager
def replacing(path: str) -> Iterator[IO[bytes]]:
    """A seekable stream that becomes the local file `path` only if the block ends without an error."""
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    handle, temporary = hidden_file(folder)
    try:
        with os.fdopen(handle, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp's 0600 would hide the set from the people it is shared with
        os.replace(temporary, path)
    except BaseException as error:
        if os.path.exists(temporary):
            os.unlink(temporary)
        if is_full(error) and isinstance(error, OSError) and error.filename is None:
            raise OSError(error.errno, error.strerror, path) from error  # a write does not say of which file it was
        raise


def delete(uri: str) -> None:
    """Delete one file; nothing happens if it is not there."""
    if is_local(uri):
        if os.path.exists(absolute(uri)):
            os.unlink(absolute(uri))
        return
    fs, path = filesystem(uri)
    with reached(uri):
        if fs.exists(path):
            fs.rm_file(path)


def delete_folder(uri: str) -> None:
    """Delete a folder with all that is in it; what is not there, or cannot be deleted, is left."""
    if is_local(uri):
        shutil.rmtree(absolute(uri), ignore_errors=True)
        return
    fs, path = filesystem(uri)
    with contextlib.suppress(OSError), reached(uri):
        fs.rm(path, recursive=True)


def sweep(folder: str) -> None:
    """Remove, at any depth of a local folder, the temporary files that killed writes have left.

    Those of a process that is still at work stay; so do those of other machines that are less than a day old.
    """
    if is_local(folder):
        for path in Path(absolute(folder)).rglob(".*.part"):
            with contextlib.suppress(FileNotFoundError):  # its writer has just finished, or another run swept it
                if path.is_file() and _abandoned(path):
                    path.unlink()


def _abandoned(path: Path) -> bool:
    match = _PART.fullmatch(path.name)
    if match is None:
        return True
    if match["host"] != platform.node():
        return time.time() - path.stat().st_mtime > _OLD_SECONDS
    return not is_running(int(match["pid"]))


def is_running(pid: int) -> bool:
    """Whether this machine has a process of that number. On Windows, where asking would end it: True."""
    if os.name == "nt":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it belongs to somebody else
        return True
    return True


def read_json(uri: str) -> Any:
    """Raises OSError, or ValueError if the content is not JSON."""
    return parse_json(read_bytes(uri))


def parse_json(data: bytes) -> Any:
    """`json.loads` whose every failure is a ValueError, nesting too deep for the parser among them."""
    try:
        return json.loads(data)
    except RecursionError as error:
        raise ValueError("JSON nested too deep") from error


def write_json(uri: str, value: Any) -> None:
    write_bytes(uri, (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode())


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def digest(value: Any) -> str:
    """SHA-256 of a JSON-able value in canonical form: equal values, equal digest, on every machine."""
    return sha256(json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode())
