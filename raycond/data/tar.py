"""WebDataset tars: `key.jpg` with `key.cls` or `key.json`, indexed without reading image bytes."""

from __future__ import annotations

import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO

from raycond.core import files, stream
from raycond.core.errors import UserError
from raycond.core.text import visible
from raycond.data.class_list import ClassList, beside
from raycond.data.entries import ending, has_image_ending, may_be_image
from raycond.data.formats import kind_of
from raycond.data.index import IndexSource, Input, Record, open_index
from raycond.data.tar_headers import Damaged, Member, Unfinished, members

UNPACK = "images are read by their byte range, which needs plain .tar files; decompress it first (gunzip, zstd -d)"

_FIELDS = ("label", "cls", "class", "class_id")
_PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}

# A label file larger than this is not one.
_LABEL_BYTES = 1 << 20

_HEAD_BYTES = 64
_PEEKED = 64  # members looked at to see whether a tar is a data set


def open_tars(
    uri: str,
    split: str,
    tars: Sequence[str],
    index_dir: str,
    wanted: ClassList | None = None,
    by_content: bool = False,
) -> IndexSource:
    """Open WebDataset tars. Classes: classes.json or classes.txt beside them, else the labels in the order of
    `in_order`.

    wanted: the user's class list, in place of these. by_content: see `RowSource.by_content`.
    Raises UserError if a tar is compressed or damaged, or nothing in them is usable.
    """
    declared = None if wanted else beside([tars[0].rsplit("/", 1)[0], uri])
    return open_index(
        *(uri, "tar", split, tars, index_dir, scan),
        declared=declared,
        wanted=wanted,
        options={},
        by_content=by_content,
    )


def is_dataset(uri: str) -> bool:
    """Whether a tar begins with labelled images; an archive of class folders does not."""
    try:
        with stream.reader(uri) as file:
            endings = {ending(m.name) for m in itertools.islice(members(file, files.entry(uri).size), _PEEKED)}
    except (OSError, Damaged):
        return False
    return bool(endings & {"cls", "json"}) and any(has_image_ending(f"x.{end}") for end in endings)


@dataclass
class _Sample:
    """What was met of one key so far."""

    image: Member | None = None
    label: str | None = None
    labelled: str = ""
    """Name of the member that holds the label."""

    problem: str | None = None
    """What is wrong with that label."""


@dataclass
class _Samples:
    """The samples of one tar, by the name without its last ending."""

    by_key: dict[str, _Sample] = field(default_factory=dict)
    names: Counter[str] = field(default_factory=Counter)

    def add(self, member: Member, data: bytes | None) -> str | None:
        """Put a member where it belongs; gives the reason if it cannot be used."""
        stem, dot, last = member.name.rpartition(".")
        key, last = (stem, last.lower()) if dot and "/" not in last else (member.name, "")
        sample = self.by_key.setdefault(key, _Sample())
        if last in ("cls", "json"):
            if last == "cls" or sample.label is None:
                sample.labelled = member.name
                try:
                    sample.label = _from_cls(data) if last == "cls" else _from_json(data)
                except ValueError as error:
                    sample.problem = str(error)
            return None
        if member.sparse:
            return "a sparse member, whose bytes do not lie together"
        if sample.image is not None:
            return "a second image with the same key"
        sample.image = member
        return None

    def join(self) -> None:
        """WebDataset ends a key at the first dot: what has no partner under the longer key is looked for under that.

        An image beside a complete sample of the shorter key is one more field of it, such as a mask (x.seg.png beside
        x.jpg and x.cls), unless a number tells the two apart; it is not a sample that lost its label.
        """
        short = defaultdict(list)
        for key in self.by_key:
            short[_short(key)].append(key)
        for start, keys in short.items():
            if len(keys) == 1:
                continue
            complete = [key for key in keys if self.by_key[key].image and self.by_key[key].labelled]
            images = [key for key in keys if self.by_key[key].image and not self.by_key[key].labelled]
            labels = [key for key in keys if self.by_key[key].labelled and not self.by_key[key].image]
            if start in complete:
                for key in images:
                    if not key.removeprefix(start).strip(".").isdigit():
                        del self.by_key[key]
            elif len(images) == len(labels) == 1 and not complete:
                image = self.by_key.pop(images[0]).image
                self.by_key[labels[0]].image = image


def scan(source: Input) -> Iterator[Record]:
    """Records of one tar, bad ones with their reason. Raises UserError if the tar is compressed or damaged."""
    uri, stamp = source.entry.uri, source.entry.stamp
    samples = _Samples()
    with stream.reader(uri) as file:
        _require_plain(uri, file.read(8))
        try:
            for member in members(file, source.entry.size):
                if (data := _needed(file, member)) is None:
                    continue
                if reason := samples.add(_plain_name(member), data):
                    samples.names[member.name] += 1
                    count = samples.names[member.name]
                    name = f"{member.name}#{count}" if count > 1 else member.name
                    yield Record(f"{source.name}/{visible(name)}", None, uri, stamp=stamp, reason=reason)
        except Unfinished as error:
            yield Record(source.name, None, uri, stamp=stamp, reason=str(error))
        except Damaged as error:
            raise UserError(f"{uri}: the tar is cut short or damaged ({error}); copy it again") from error
    samples.join()
    for key, sample in samples.by_key.items():
        yield _record(source, key, sample)


def _record(source: Input, key: str, sample: _Sample) -> Record:
    uri, stamp = source.entry.uri, source.entry.stamp
    if sample.image is None:
        reason = "no image with this key"
        return Record(f"{source.name}/{visible(key)}", sample.label, uri, stamp=stamp, reason=reason)
    name, offset, length, _ = sample.image
    missing = None if sample.label else sample.problem or "no label (.cls or .json) with this key"
    return Record(f"{source.name}/{visible(name)}", sample.label, uri, offset, length, stamp, missing)


def _require_plain(uri: str, head: bytes) -> None:
    for magic, name in _PACKED.items():
        if head.startswith(magic):
            raise UserError(f"{uri}: compressed with {name}; {UNPACK}")


def _plain_name(member: Member) -> Member:
    return member._replace(name=member.name.removeprefix("./"))


def _needed(file: IO[bytes], member: Member) -> bytes | None:
    """The bytes of a label, b"" for an image, None for a member that is neither.

    An image is known by its ending or, where that says nothing, by its first bytes.
    """
    base = member.name.rpartition("/")[2]
    if not base or base.startswith((".", "__")):
        return None  # hidden files, and what archivers and WebDataset itself add
    last = ending(base)
    if last in ("cls", "json"):
        file.seek(member.offset)
        return file.read(member.size) if member.size <= _LABEL_BYTES else b""
    if has_image_ending(base):
        return b""
    if not may_be_image(base):
        return None
    file.seek(member.offset)
    return b"" if kind_of(file.read(min(_HEAD_BYTES, member.size))) else None


def _short(key: str) -> str:
    path, slash, base = key.rpartition("/")
    return path + slash + base.partition(".")[0]


def _from_cls(data: bytes | None) -> str:
    text = (data or b"").decode("utf-8", "replace").strip()
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
        raise ValueError(f".cls holds {text[:40]!r}, not a whole number")
    return f"i{int(text)}"


def _from_json(data: bytes | None) -> str:
    try:
        value = files.parse_json(data or b"")
    except ValueError:
        raise ValueError(".json cannot be parsed") from None
    for name in _FIELDS if isinstance(value, dict) else ():
        label = value.get(name)
        if isinstance(label, int) and not isinstance(label, bool) and abs(label) < 10**18:
            return f"i{label}"
        if isinstance(label, str) and label:
            return f"s{label}"
    raise ValueError(f".json has no label: none of {', '.join(_FIELDS)} is a whole number or a text")
