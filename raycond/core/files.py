"""One filesystem layer for local paths, s3://, gs://, hf:// and memory://, with atomic writes."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import fsspec

from raycond.core.errors import UserError


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


def _remote(uri: str) -> tuple[Any, str]:
    try:
        return fsspec.core.url_to_fs(uri)
    except ImportError as error:
        raise UserError(f"{uri}: this kind of address needs one more package: {error}") from error
    except ValueError as error:
        raise UserError(f"{uri}: not an address that can be opened: {error}") from error


def exists(uri: str) -> bool:
    if is_local(uri):
        return os.path.exists(absolute(uri))
    fs, path = _remote(uri)
    return bool(fs.exists(path))


def is_dir(uri: str) -> bool:
    if is_local(uri):
        return os.path.isdir(absolute(uri))
    fs, path = _remote(uri)
    return bool(fs.isdir(path))


def entry(uri: str) -> Entry:
    """Size and stamp of one file. Raises FileNotFoundError."""
    if is_local(uri):
        path = absolute(uri)
        stat = os.stat(path)
        return Entry(os.path.basename(path), path, os.path.isdir(path), stat.st_size, str(stat.st_mtime_ns))
    fs, path = _remote(uri)
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
    """Entries of a folder, sorted by name, hidden ones left out. Raises FileNotFoundError."""
    if is_local(uri):
        root = absolute(uri)
        entries = []
        with os.scandir(root) as scan:
            for item in scan:
                if not item.name.startswith("."):
                    try:
                        stat, folder = item.stat(), item.is_dir()
                    except OSError:  # a dangling link still is an image reference; reading it quarantines it
                        stat, folder = item.stat(follow_symlinks=False), False
                    path = os.path.join(root, item.name)
                    entries.append(Entry(item.name, path, folder, stat.st_size, str(stat.st_mtime_ns)))
        return sorted(entries)
    fs, path = _remote(uri)
    scheme = uri.split("://", 1)[0]
    entries = []
    for info in fs.ls(path, detail=True):
        name = info["name"].rstrip("/").rsplit("/", 1)[-1]
        if not name.startswith(".") and info["name"].rstrip("/") != path.rstrip("/"):
            entries.append(_remote_entry(f"{scheme}://{info['name'].lstrip('/')}", info))
    return sorted(entries)


def read_bytes(uri: str, offset: int = 0, length: int = -1) -> bytes:
    """`length` bytes from `offset` (-1: to the end). Raises FileNotFoundError or OSError."""
    if is_local(uri):
        with open(absolute(uri), "rb") as file:
            if offset:
                file.seek(offset)
            return file.read(length)
    fs, path = _remote(uri)
    data: bytes = fs.cat_file(path, start=offset or None, end=None if length < 0 else offset + length)
    return data


def write_bytes(uri: str, data: bytes) -> None:
    """Write all or nothing: a reader sees the old content or the new, never a part."""
    if not is_local(uri):
        fs, path = _remote(uri)
        fs.pipe_file(path, data)  # object stores make a put visible as a whole
        return
    path = absolute(uri)
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=".", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp's 0600 would hide the set from the people it is shared with
        os.replace(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise


def delete(uri: str) -> None:
    """Delete one file; nothing happens if it is not there."""
    if is_local(uri):
        if os.path.exists(absolute(uri)):
            os.unlink(absolute(uri))
        return
    fs, path = _remote(uri)
    if fs.exists(path):
        fs.rm_file(path)


def sweep(folder: str) -> None:
    """Remove what killed writes have left in a local folder that is made to be given away."""
    if is_local(folder):
        for path in Path(folder).rglob(".*.part"):
            path.unlink()


def read_json(uri: str) -> Any:
    return json.loads(read_bytes(uri))


def write_json(uri: str, value: Any) -> None:
    write_bytes(uri, (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode())


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def digest(value: Any) -> str:
    """SHA-256 of a JSON-able value in canonical form: equal values, equal digest, on every machine."""
    return sha256(json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode())
