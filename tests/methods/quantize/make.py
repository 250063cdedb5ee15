"""Points to quantize, and slow ways of finding the same results."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def low_rank(n: int, d: int, seed: int = 0, rank: int = 12, modes: int = 8) -> Tensor:
    """(n, d) float32: a mixture in `rank` dimensions plus noise in all, as latents of one class are."""
    random = np.random.default_rng(seed)
    basis = random.normal(size=(rank, d)) / rank**0.5
    centres = 2 * random.normal(size=(modes, rank))
    inside = centres[random.choice(modes, n, p=random.dirichlet(np.ones(modes)))] + random.normal(size=(n, rank))
    return torch.from_numpy(inside @ basis + 0.3 * random.normal(size=(n, d))).float()


def squared(points: Tensor, centroids: Tensor) -> Tensor:
    """(n, K) squared distances in float64, by differences."""
    return (points.double()[:, None] - centroids.double()[None]).square().sum(2)


def within(points: Tensor, labels: Tensor) -> float:
    """Sum of squared distances to the means of the cells, in float64."""
    x = points.double()
    return sum(float((x[labels == k] - x[labels == k].mean(0)).square().sum()) for k in labels.unique())


def macqueen(points: Tensor, centroids: Tensor) -> Tensor:
    """CLVQ point by point in float64; every centroid starts with mass one."""
    z, mass = centroids.double().clone(), torch.ones(len(centroids))
    for x in points.double():
        k = int((z - x).square().sum(1).argmin())
        mass[k] += 1
        z[k] += (x - z[k]) / mass[k]
    return z
