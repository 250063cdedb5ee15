"""Seeds of random streams."""

from __future__ import annotations

import torch

from raycond.core import files
from raycond.core.seeds import seed_of, seeded


def test_a_seed_depends_on_every_name_and_their_order() -> None:
    seeds = {seed_of(0), seed_of(1), seed_of(0, "a"), seed_of("a", 0), seed_of(0, "a", 1), seed_of(0, "a", "1")}
    assert len(seeds) == 6
    assert all(0 <= seed < 2**60 for seed in seeds)
    assert seed_of(3, "step", 7) == int(files.digest([3, "step", 7])[:15], 16)  # what runs so far have drawn with


def test_seeded_leaves_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    with seeded(5):
        first = torch.rand(3)
    with seeded(5):
        assert torch.equal(torch.rand(3), first)
    assert torch.equal(torch.random.get_rng_state(), before)
