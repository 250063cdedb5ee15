"""WebDataset tars: `key.jpg` with `key.cls` or `key.json`, indexed without reading image bytes."""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO

from raycond.core import stream
from raycond.core.errors import UserError
from raycond.data.class_names import read_class_list
from raycond.data.index import IndexSource, Input, Record, open_index

UNPACK = "images are read by their byte range, which needs plain .tar files; decompress it first (gunzip, zstd -d)"

_IMAGES = frozenset({"jpg", "jpeg", "png", "webp"})
_FIELDS = ("label", "cls", "class", "class_id")
_PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}

# A label file larger than this is not one.
_LABEL_BYTES = 1 << 20


def open_tars(uri: str, split: str, tars: Sequence[str], index_dir: str) -> IndexSource:
    """Open WebDataset tars. Classes: classes.json or classes.txt beside them, else the labels in sorted order.

    Raises UserError if a tar is compressed or damaged, or nothing in them is usable.
    """
    declared, _ = read_class_list([tars[0].rsplit("/", 1)[0], uri])
    return open_index(uri, "tar", split, tars, index_dir, scan, declared=declared, options={})


@dataclass
class _Sample:
    """What was met of one key so far."""

    image: tuple[str, int, int] | None = None  # member name, offset, length
    label: str | None = None
    problem: str | None = None


def scan(source: Input) -> Iterator[Record]:
    """Records of one tar, bad ones with their reason. Raises UserError if the tar is compressed or damaged."""
    uri, stamp = source.entry.uri, source.entry.stamp
    samples: dict[str, _Sample] = {}
    with stream.reader(uri) as file:
        head = file.read(8)
        for magic, name in _PACKED.items():
            if head.startswith(magic):
                raise UserError(f"{uri}: compressed with {name}; {UNPACK}")
        file.seek(0)
        ends: list[str] = []
        try:
            for member, data in _members(file, ends):
                extra = _add(samples, member, data)
                if extra:
                    yield Record(f"{source.name}/{member.name}", None, uri, stamp=stamp, reason=extra)
        except (tarfile.TarError, EOFError) as error:
            raise UserError(f"{uri}: the tar is cut short or damaged ({error}); copy it again") from error
    for reason in ends:
        yield Record(source.name, None, uri, stamp=stamp, reason=reason)
    for key, sample in samples.items():
        if sample.image is None:
            reason = "no image (jpg, jpeg, png or webp) with this key"
            yield Record(f"{source.name}/{key}", sample.label, uri, stamp=stamp, reason=reason)
            continue
        name, offset, length = sample.image
        missing = None if sample.label else sample.problem or "no label (.cls or .json) with this key"
        yield Record(f"{source.name}/{name}", sample.label, uri, offset, length, stamp, missing)


def _members(file: IO[bytes], ends: list[str]) -> Iterator[tuple[tarfile.TarInfo, bytes | None]]:
    """Each regular member, with its bytes if it holds a label; `ends` gets what is odd about the tar's end."""
    with tarfile.open(fileobj=file, mode="r:") as tar:
        while (member := tar.next()) is not None:
            tar.members.clear()  # type: ignore[attr-defined]  # tarfile keeps them all: much memory for a large tar
            if member.isreg() and not member.issparse():
                data = None
                if member.name.lower().endswith((".cls", ".json")) and member.size <= _LABEL_BYTES:
                    taken = tar.extractfile(member)
                    data = taken.read() if taken else None
                yield member, data
        # tarfile takes a damaged header, or the file's end, for the end of the archive.
        file.seek(tar.offset)
        block = file.read(tarfile.BLOCKSIZE)
    if any(block) or 0 < len(block) < tarfile.BLOCKSIZE:
        raise tarfile.ReadError("damaged header")
    if not block:
        ends.append("the tar has no end mark; it may be cut short")


def _add(samples: dict[str, _Sample], member: tarfile.TarInfo, data: bytes | None) -> str | None:
    """Put a member where it belongs; gives the reason if it cannot be used."""
    path, _, base = member.name.removeprefix("./").rpartition("/")
    stem, dot, ending = base.partition(".")
    if not stem or not dot or base.startswith("__"):
        return None  # hidden files, and what archivers and WebDataset itself add
    key, ending = f"{path}/{stem}" if path else stem, ending.lower()
    sample = samples.setdefault(key, _Sample())
    if ending in _IMAGES:
        if sample.image is not None:
            return "a second image with the same key"
        sample.image = (member.name.removeprefix("./"), member.offset_data, member.size)
    elif ending == "cls" or (ending == "json" and sample.label is None):
        try:
            sample.label = _from_cls(data) if ending == "cls" else _from_json(data)
        except ValueError as error:
            sample.problem = str(error)
    return None


def _from_cls(data: bytes | None) -> str:
    text = (data or b"").decode("utf-8", "replace").strip()
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
        raise ValueError(f".cls holds {text[:40]!r}, not a whole number")
    return f"i{int(text)}"


def _from_json(data: bytes | None) -> str:
    try:
        value = json.loads(data or b"")
    except ValueError:
        raise ValueError(".json cannot be parsed") from None
    for field in _FIELDS if isinstance(value, dict) else ():
        label = value.get(field)
        if isinstance(label, int) and not isinstance(label, bool):
            return f"i{label}"
        if isinstance(label, str) and label:
            return f"s{label}"
    raise ValueError(f".json has no label: none of {', '.join(_FIELDS)} is a whole number or a text")
