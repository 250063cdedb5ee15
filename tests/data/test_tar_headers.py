"""Headers of tars: the same members as `tarfile` gives, and no harm from those that lie."""

from __future__ import annotations

import contextlib
import io
import random
import tarfile

import pytest

from raycond.data.tar_headers import BLOCK, Damaged, Unfinished, members

LONG = "a/" * 70 + "long-" * 30 + ".jpg"


def archive(kind: int, names: list[str] | None = None, encoding: str = "utf-8") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=kind, encoding=encoding, errors="surrogateescape") as tar:
        for k, name in enumerate(names or ["x.jpg", "d/é.jpg", "p/" * 60 + "x" * 80 + ".cls", LONG, "empty"]):
            info = tarfile.TarInfo(name)
            info.size = 700 * k
            info.mtime = 1.5 if kind == tarfile.PAX_FORMAT else 1
            tar.addfile(info, io.BytesIO(bytes(700 * k)))
            for number, odd in enumerate((tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE)):
                link = tarfile.TarInfo(f"{number}.jpg")
                link.type, link.linkname = odd, "x.jpg"
                tar.addfile(link)
    return buffer.getvalue()


def found(data: bytes) -> list[tuple[str, int, int]]:
    return [member[:3] for member in members(io.BytesIO(data), len(data))]


@pytest.mark.parametrize("kind", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_members_are_those_of_tarfile(kind: int) -> None:
    data = archive(kind, None if kind != tarfile.USTAR_FORMAT else ["x.jpg", "p/" * 60 + "x" * 80 + ".cls", "y"])
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        expected = [(m.name, m.offset_data, m.size) for m in tar if m.isreg()]
    assert found(data) == expected
    assert len(expected) >= 3


def test_names_that_are_not_utf8() -> None:
    data = archive(tarfile.GNU_FORMAT, ["caf\udce9.jpg"])
    assert found(data)[0][0] == "caf\udce9.jpg"
    assert found(archive(tarfile.GNU_FORMAT, ["café.jpg"], "latin-1"))[0][0] == "caf\udce9.jpg"


def header(size: bytes, kind: bytes = b"0", name: bytes = b"x") -> bytes:
    """One header with any bytes for a size and the checksum that fits."""
    block = bytearray(BLOCK)
    block[: len(name)] = name
    block[124 : 124 + len(size)] = size
    block[156:157] = kind
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


END = bytes(2 * BLOCK)
NEGATIVE = (-512).to_bytes(12, "big", signed=True)


@pytest.mark.parametrize(
    "data",
    [
        header(NEGATIVE) + END,
        header(b"-0000001000") + END,
        header(NEGATIVE, b"x") + END,
        header(NEGATIVE, b"L") + END,
        header(b"77777777777") + END,
        header(b"\x80" + b"\xff" * 11) + END,
        header(b"zzz") + END,
        header(b"00010000000", b"x") + END,  # two megabytes of extended header
        header(b"00000001000", b"x") + b"99999999 path=x\n".ljust(512, b"\0") + END,
        header(b"00000001000", b"x") + b"path=x\n".ljust(512, b"\0") + END,
        header(b"00000001000", b"x") + b"12 size=-99\n".ljust(512, b"\0") + header(b"0") + END,
        header(b"00000001000", b"x") + (b"1" * 512) + END,
        header(b"00000001000", b"L") + b"x" * 20,
        header(b"0", b"S")[:482] + b"\1" + header(b"0", b"S")[483:],
        b"\1" * BLOCK,
        b"",
        b"x" * 100,
    ],
)
def test_headers_that_lie_are_an_error_and_end(data: bytes) -> None:
    with pytest.raises(Damaged) as caught:
        found(data)
    assert not isinstance(caught.value, Unfinished)


def test_an_archive_without_an_end_is_read_to_there() -> None:
    data = archive(tarfile.GNU_FORMAT, ["x.jpg", "y.jpg"])
    last = found(data)[-1]
    walk = members(io.BytesIO(data[: last[1] + 5 * BLOCK]), last[1] + 5 * BLOCK)
    assert next(walk).name == "x.jpg"
    with pytest.raises(Damaged):
        list(walk)
    single = header(b"0", name=b"a.jpg")
    walk = members(io.BytesIO(single), len(single))
    assert next(walk).name == "a.jpg"
    with pytest.raises(Unfinished, match="no end mark"):
        next(walk)


def test_a_sparse_member_says_so() -> None:
    block = bytearray(header(b"00000001000", b"S", b"x.jpg"))
    assert [m.sparse for m in members(io.BytesIO(bytes(block) + bytes(512) + END), 3 * BLOCK + BLOCK)] == [True]


def test_random_damage_ends() -> None:
    draw = random.Random(0)
    plain = archive(tarfile.PAX_FORMAT)
    for _ in range(300):
        data = bytearray(plain)
        for _ in range(draw.randint(1, 4)):
            data[draw.randrange(len(data))] = draw.randrange(256)
        with contextlib.suppress(Damaged):
            assert len(found(bytes(data))) < 100
