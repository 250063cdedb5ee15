"""Seeds for independent random streams."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from raycond.core import files


def seed_of(*what: str | int) -> int:
    """The seed of one random stream, from all that names it, such as the run's seed and what is drawn.

    60 bits of a digest: other names or another order of them give an unrelated stream, on every machine the same.
    """
    return int(files.digest(list(what))[:15], 16)


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Torch's global generator for initial weights, put back afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
