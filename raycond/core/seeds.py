"""Seeds for independent random streams."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from raycond.core import files


def seed_of(seed: int, *what: str | int) -> int:
    """A stream of its own for everything that is drawn."""
    return int(files.digest([seed, *what])[:15], 16)


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Torch's global generator for initial weights, put back afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
