"""Damaged files: the same ones for the same seed. RAYCOND_FUZZ sets how many inputs each reader gets."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from typing import Any

from raycond.core.errors import RaycondError

COUNT = int(os.environ.get("RAYCOND_FUZZ", "40"))
WRONG: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1.5,
    float("nan"),
    10**30,
    "",
    "x",
    "\ud800",
    [],
    [None],
    {},
    {"x": 1},
    [[]],
)


def damaged(data: bytes, seed: int) -> bytes:
    """One to four changes: bits flipped, a part cut out, doubled, overwritten or filled with one value."""
    draw = random.Random(seed)
    result = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        start = draw.randrange(len(result) + 1)
        end = min(len(result), start + draw.choice([1, 1, 2, 8, 64, 1024]))
        match draw.randrange(6):
            case 0 if start < len(result):
                result[start] ^= 1 << draw.randrange(8)
            case 1:
                del result[start:end]
            case 2:
                result[start:start] = result[start:end]
            case 3:
                result[start:end] = draw.randbytes(end - start)
            case 4:
                result[start:end] = bytes([draw.choice([0, 255, 127])]) * (end - start)
            case _:
                del result[start:]
    return bytes(result)


def wrong(value: Any, seed: int) -> Any:
    """Plain data with one part, at any depth, left out or replaced by something of another kind."""
    draw = random.Random(seed)
    whole = json.loads(json.dumps(value))
    places: list[tuple[Any, Any]] = []

    def walk(part: Any) -> None:
        keys = list(part) if isinstance(part, dict) else range(len(part)) if isinstance(part, list) else ()
        for key in keys:
            places.append((part, key))
            walk(part[key])

    walk(whole)
    part, key = draw.choice(places)
    if draw.random() < 0.3:
        del part[key]
    else:
        part[key] = draw.choice(WRONG)
    return whole


def survives(action: Callable[[], Any]) -> Any:
    """The result, or our own error; anything else goes through and fails the test."""
    try:
        return action()
    except RaycondError as error:
        text = str(error)
        assert text
        assert len(text) < 3000
        return error
