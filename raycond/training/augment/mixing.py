"""CutMix and mixup: every image of a batch mixed with another of it."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from raycond.core.errors import UserError
from raycond.training.augment.draws import integer, on_host


class Mixed(NamedTuple):
    """A mixed batch: image i is its own with share `own` and image partner[i] with the rest."""

    images: Tensor
    partner: Tensor  # (n,) int64, a permutation
    own: float  # of CutMix the exact share of the pixels


def cutmix(images: Tensor, beta: float, generator: torch.Generator) -> Mixed:
    """Paste one box of each image's partner over it: λ ~ Beta(beta, beta), one λ, box and permutation a batch.

    The box has sides √(1 − λ) of the image's, rounded down to an even number of pixels, and a uniform centre; it is cut
    at the border and `own` corrected to what is left, as in the code of CutMix (ICCV 2019), IDC, SRe2L and RDED.
    Raises UserError for beta not above 0.
    """
    host = on_host(generator)
    side = math.sqrt(1 - _share(beta, host))
    partner = _partner(images, generator)
    height, width = images.shape[2:]
    rows, columns = _span(height, side, host), _span(width, side, host)
    mixed = images.clone()
    mixed[:, :, rows, columns] = images[:, :, rows, columns][partner]
    area = (rows.stop - rows.start) * (columns.stop - columns.start)
    return Mixed(mixed, partner, 1 - area / (height * width))


def mixup(images: Tensor, beta: float, generator: torch.Generator) -> Mixed:
    """λ · own + (1 − λ) · partner, λ ~ Beta(beta, beta), one λ and one permutation a batch (mixup, ICLR 2018).

    Raises UserError for beta not above 0.
    """
    own = _share(beta, on_host(generator))
    partner = _partner(images, generator)
    return Mixed(torch.lerp(images[partner], images, own), partner, own)


def _share(beta: float, host: torch.Generator) -> float:
    if not 0 < beta < math.inf:
        raise UserError(f"the beta of a mix must be above 0, not {beta}")
    if beta == 1:
        return float(torch.rand((), dtype=torch.float64, generator=host))
    # float64: with a small beta both gammas underflow float32 often enough to matter
    one, other = torch._standard_gamma(torch.full((2,), beta, dtype=torch.float64), generator=host).tolist()
    return one / (one + other)


def _partner(images: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randperm(len(images), generator=generator, device=generator.device)


def _span(side: int, share: float, host: torch.Generator) -> slice:
    half, centre = int(side * share) // 2, integer(side, host)
    return slice(max(0, centre - half), min(side, centre + half))
