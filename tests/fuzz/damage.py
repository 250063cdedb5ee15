"""Ways to damage bytes, all decided by one random generator."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from random import Random

_NUMBERS = (0, 1, 2, 7, 255, 256, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)
_MOST_BYTES = 1 << 16  # of a damaged input: longer ones find nothing more


def damaged(seeds: Sequence[bytes], random: Random) -> bytes:
    """One of the inputs with one to four kinds of damage."""
    data = bytearray(random.choice(seeds))
    for _ in range(random.randint(1, 4)):
        random.choice(_KINDS)(data, random, seeds)
    return bytes(data[:_MOST_BYTES])


def _place(data: bytearray, random: Random) -> int:
    """Headers are damaged more often than what follows."""
    if not data:
        return 0
    return random.randrange(min(len(data), 64) if random.random() < 0.3 else len(data))


def _flip_bits(data: bytearray, random: Random, _: Sequence[bytes]) -> None:
    for _bit in range(random.randint(1, 8) if data else 0):
        data[_place(data, random)] ^= 1 << random.randrange(8)


def _set_bytes(data: bytearray, random: Random, _: Sequence[bytes]) -> None:
    for _byte in range(random.randint(1, 4) if data else 0):
        data[_place(data, random)] = random.choice((0, 1, 0x20, 0x2D, 0x39, 0x7F, 0x80, 0xFF))


def _set_number(data: bytearray, random: Random, _: Sequence[bytes]) -> None:
    code = random.choice("BHIQ")
    size = struct.calcsize(code)
    if len(data) < size:
        return
    place = min(_place(data, random), len(data) - size)
    number = random.choice((*_NUMBERS, len(data), random.getrandbits(8 * size))) % 2 ** (8 * size)
    data[place : place + size] = struct.pack(random.choice("<>") + code, number)


def _set_digits(data: bytearray, random: Random, _: Sequence[bytes]) -> None:
    """A number written out, as in text formats and in tar headers."""
    text = str(random.choice((*_NUMBERS, -1, -512, 1e999, "NaN", "null", "[]", "{}", '"x"'))).encode()
    digits = [k for k, byte in enumerate(data[:4096]) if 0x30 <= byte <= 0x39]
    if digits:
        place = random.choice(digits)
        data[place : place + random.choice((1, len(text)))] = text


def _cut(data: bytearray, random: Random, _: Sequence[bytes]) -> None:
    del data[_place(data, random) :]


def _drop(data: bytearray, random: Random, _: Sequence[bytes]) -> None:
    place = _place(data, random)
    del data[place : place + random.randint(1, 64)]


def _repeat(data: bytearray, random: Random, _: Sequence[bytes]) -> None:
    place, size = _place(data, random), random.choice((1, 4, 16, 256, 4096))
    data[place:place] = data[place : place + size] * random.choice((1, 1, 2, 30))


def _move(data: bytearray, random: Random, _: Sequence[bytes]) -> None:
    place, size = _place(data, random), random.randint(1, 256)
    piece = data[place : place + size]
    del data[place : place + size]
    place = _place(data, random)
    data[place:place] = piece


def _splice(data: bytearray, random: Random, seeds: Sequence[bytes]) -> None:
    other = random.choice(seeds)
    data[_place(data, random) :] = other[random.randrange(len(other) + 1) :]


def _noise(data: bytearray, random: Random, _: Sequence[bytes]) -> None:
    place = _place(data, random)
    data[place : place + random.randint(0, 32)] = random.randbytes(random.randint(1, 32))


_KINDS: tuple[Callable[[bytearray, Random, Sequence[bytes]], None], ...] = (
    _flip_bits, _flip_bits, _set_bytes, _set_number, _set_number, _set_digits,
    _cut, _drop, _repeat, _move, _splice, _noise,
)  # fmt: skip
