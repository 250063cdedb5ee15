"""The decoded images of a source, one file of each class, as trainings of teachers and projectors take them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from raycond.core.errors import UserError
from raycond.core.seeds import seed_of


def split(counts: Sequence[int], held_out: int, seed: int) -> tuple[Tensor, Tensor]:
    """Rows to learn from and rows held out: of each class `held_out`, at most a fifth of it, drawn by `seed`.

    Raises UserError if nothing would be held out.
    """
    learn, held, start = [], [], 0
    for label, count in enumerate(counts):
        random = torch.Generator().manual_seed(seed_of(seed, "held out", label))
        order = start + torch.randperm(count, generator=random)
        most = min(held_out, count // 5)
        held.append(order[:most].sort().values)
        learn.append(order[most:].sort().values)
        start += count
    if not sum(len(part) for part in held):
        raise UserError(
            f"--holdout {held_out}: no class has the five images it takes to hold one out, or the number is 0"
        )
    return torch.cat(learn), torch.cat(held)
