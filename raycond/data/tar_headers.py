"""Where the members of a .tar file lie, read from its headers alone.

`tarfile` is not used, because it trusts what a header says: depending on the version of Python it loops for ever on a
negative size, reads gigabytes for one name, or takes a damaged header for the end of the archive.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, NamedTuple

BLOCK = 512
_MOST_NAME_BYTES = 1 << 20  # of a long name or of extended headers, before one member


class Damaged(ValueError):  # noqa: N818 - reads as the thing it reports
    """The archive is cut short or damaged; the message says where."""


class Unfinished(Damaged):
    """The archive ends without its end mark; what it holds before may be all of it."""


class Member(NamedTuple):
    """One regular file in an archive."""

    name: str
    """As in the archive; bytes that are not UTF-8 are carried as lone surrogates."""

    offset: int
    """Where its bytes begin in the archive."""

    size: int
    """Bytes."""

    sparse: bool
    """Whether the bytes in the archive are only parts of the file."""


def members(file: IO[bytes], size: int) -> Iterator[Member]:
    """The regular files of an uncompressed archive of `size` bytes, in order; v7, ustar, GNU and pax headers.

    The caller may read from `file` between members. Raises Damaged at the first header that makes no sense, Unfinished
    at the end if the archive has no end mark.
    """
    position, extra = 0, _Extra()
    while True:
        file.seek(position)
        block = file.read(BLOCK)
        if not any(block) and len(block) == BLOCK:
            return
        if not block and position:
            raise Unfinished("the tar has no end mark; it may be cut short")
        if len(block) < BLOCK:
            raise Damaged(f"cut short at {position}")
        header = _header(block, position)
        position += BLOCK
        if header.kind in _EXTENDED:
            extra.add(header.kind, _content(file, header, position))
            position += _padded(header.size)
            continue
        if header.kind == b"S":  # a GNU sparse file may have more blocks of header
            position = _skip_sparse(file, block, position)
        length = header.size if extra.size is None else extra.size
        length = 0 if header.kind in _WITHOUT_DATA else length
        if length < 0 or position + length > size:
            raise Damaged(f"a member of {length} bytes at {position}, the file has {size}")
        name = extra.name or header.name
        if header.kind in _REGULAR and not (header.kind == b"\0" and name.endswith("/")):  # in v7 a folder
            yield Member(name, position, length, header.kind == b"S" or extra.sparse)
        position += _padded(length)
        extra = _Extra()


_REGULAR = (b"0", b"\0", b"7", b"S")
_WITHOUT_DATA = (b"1", b"2", b"3", b"4", b"5", b"6")  # links, devices, folders, pipes
_EXTENDED = (b"L", b"K", b"x", b"g", b"X")


class _Header(NamedTuple):
    name: str
    size: int
    kind: bytes


class _Extra:
    """What the extended headers before a member say of it."""

    def __init__(self) -> None:
        self.name = ""
        self.size: int | None = None
        self.sparse = False

    def add(self, kind: bytes, content: bytes) -> None:
        if kind == b"L":
            self.name = _text(content.split(b"\0", 1)[0])
        elif kind in (b"x", b"X"):
            self._add_pax(content)

    def _add_pax(self, content: bytes) -> None:
        """Records of the form "LENGTH KEY=VALUE\\n", of which the length counts all of it."""
        while content.strip(b"\0"):
            number, space, _ = content[:20].partition(b" ")
            length = int(number) if number.isdigit() and space else 0
            record = content[len(number) + 1 : length]
            if not len(number) + 3 <= length <= len(content) or not record.endswith(b"\n") or b"=" not in record:
                raise Damaged("an extended header that makes no sense")
            key, _, value = record[:-1].partition(b"=")
            if key in (b"path", b"GNU.sparse.name"):
                self.name = _text(value)
            elif key == b"size":
                if not value.isdigit() or len(value) > 20:
                    raise Damaged("an extended header with a size that is no number")
                self.size = int(value)
            self.sparse = self.sparse or key.startswith(b"GNU.sparse.")
            content = content[length:]


def _header(block: bytes, position: int) -> _Header:
    """Raises Damaged unless the checksum fits and the size is a number that is not negative."""
    stored = _number(block[148:156])
    rest = block[:148] + b" " * 8 + block[156:]
    signed = sum(byte - 256 if byte > 127 else byte for byte in rest) if stored != sum(rest) else stored
    size = _number(block[124:136])
    if stored is None or stored not in (sum(rest), signed) or size is None:
        raise Damaged(f"damaged header at {position}")
    name = _text(block[:100].split(b"\0", 1)[0])
    if block[257:263] == b"ustar\0" and (prefix := block[345:500].split(b"\0", 1)[0]):
        name = f"{_text(prefix)}/{name}"
    return _Header(name, size, block[156:157])


def _number(field: bytes) -> int | None:
    """An octal number, or GNU's form of large ones; None for anything else, negative ones among them."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:])
    digits = field.split(b"\0", 1)[0].strip()
    if not digits:
        return 0
    return int(digits, 8) if all(byte in b"01234567" for byte in digits) else None


def _content(file: IO[bytes], header: _Header, position: int) -> bytes:
    if header.size > _MOST_NAME_BYTES:
        raise Damaged(f"an extended header of {header.size} bytes at {position}")
    data = file.read(header.size)
    if len(data) < header.size:
        raise Damaged(f"cut short at {position}")
    return data


def _skip_sparse(file: IO[bytes], block: bytes, position: int) -> int:
    """Past the further blocks that list the parts of a sparse file."""
    more = block[482]
    while more:
        file.seek(position)
        block = file.read(BLOCK)
        if len(block) < BLOCK:
            raise Damaged(f"cut short at {position}")
        more, position = block[504], position + BLOCK
    return position


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
