"""k-means++ initialization on a Gram matrix (Arthur and Vassilvitskii, 2007)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

CANDIDATES = 5  # per k-means++ step; one fixed number, so that the seeds of K are a prefix of those of K + 1


class _Space:
    """B sets of n points, seen through inner products: all that k-means needs."""

    def __init__(self, points: Tensor) -> None:
        # centred per class: norms shrink to the spread, and float32 differences keep their digits
        self.points = points - points.mean(1, keepdim=True)
        self.B, self.n, d = points.shape
        self.gram = self.points @ self.points.mT if self.n < d else None
        if self.gram is not None:
            self.norms = self.gram.diagonal(dim1=1, dim2=2).clone()
        else:
            self.norms = self.points.square().sum(2)

    def to_points(self, rows: Tensor) -> Tensor:
        """Squared distances (B, m, n) of the points `rows` (B, m) to all points of their class."""
        lane = torch.arange(self.B, device=rows.device)[:, None]
        if self.gram is not None:
            products = self.gram[lane, rows]
        else:
            products = self.points[lane, rows] @ self.points.mT
        square = self.norms.gather(1, rows)[:, :, None] + self.norms[:, None]
        return (square - 2 * products).clamp_(min=0)

    def products(self, b: int, rows: Tensor) -> Tensor:
        """Inner products (m, n) of the points `rows` (m,) of class b with all its points."""
        if self.gram is not None:
            return self.gram[b, rows]
        return self.points[b, rows] @ self.points[b].T

    def cell_sums(self, labels: Tensor, K: int) -> tuple[Tensor, Tensor]:
        """Inner products (L, K, n) of the cells' sums with all points, and the cells' sizes (L, K) as floats.

        labels: (L, n), L a multiple of B, the lanes of one class together. A sum of Gram rows costs n² per lane
        whatever K is; a product with a dense membership matrix would cost n²·K.
        """
        sums = torch.cat([self._sums(b, lanes, K) for b, lanes in enumerate(labels.view(self.B, -1, self.n))])
        sizes = torch.zeros(len(labels), K, device=labels.device, dtype=self.points.dtype)
        return sums, sizes.scatter_add_(1, labels, torch.ones_like(labels, dtype=sizes.dtype))

    def _sums(self, b: int, labels: Tensor, K: int) -> Tensor:
        member = _members(labels, K, self.points.dtype)
        if self.gram is not None:
            sums = member @ self.gram[b]
        else:
            sums = (member @ self.points[b]) @ self.points[b].T
        return sums.view(len(labels), K, self.n)

    def to_means(self, sums: Tensor, sizes: Tensor, labels: Tensor) -> Tensor:
        """Squared distances (L, K, n) of all points to the means of the cells, from what `cell_sums` gives."""
        square = torch.zeros_like(sizes).scatter_add_(1, labels, sums.gather(1, labels[:, None])[:, 0])
        norms = self.norms.repeat_interleave(len(labels) // self.B, 0)
        distance = (sums * (-2 / sizes)[:, :, None]).add_((square / sizes.square())[:, :, None])
        return distance.add_(norms[:, None])


def _plus_plus(space: _Space, count: int, restarts: int, seeds: Sequence[int]) -> Tensor:
    """Greedy k-means++ (Arthur and Vassilvitskii, SODA 2007): (B, restarts, count) positions of points."""
    B, n, R = space.B, space.n, restarts
    device = space.points.device
    # drawn on the CPU, per class and step by step: independent of device, other classes and `count`
    streams = [torch.Generator().manual_seed(seed) for seed in seeds]
    chosen = torch.empty(B, R, count, dtype=torch.long, device=device)
    chosen[:, :, 0] = torch.stack([torch.randint(n, (R,), generator=s) for s in streams]).to(device)
    nearest = space.to_points(chosen[:, :, 0])
    for step in range(1, count):
        draws = [torch.rand(R, CANDIDATES, generator=s, dtype=torch.float64) for s in streams]
        mass = nearest.double().cumsum(2)
        draw = torch.stack(draws).to(device) * mass[:, :, -1:]
        candidates = torch.searchsorted(mass, draw).clamp_(max=n - 1)
        trial = space.to_points(candidates.view(B, -1)).view(B, R, CANDIDATES, n)
        trial = torch.minimum(trial, nearest[:, :, None])
        best = trial.sum(3).argmin(2, keepdim=True)  # (B, R, 1)
        chosen[:, :, step] = candidates.gather(2, best)[:, :, 0]
        nearest = trial.gather(2, best[..., None].expand(B, R, 1, n))[:, :, 0]
    return chosen


def _members(labels: Tensor, K: int, dtype: torch.dtype) -> Tensor:
    """Sparse (R·K, n) matrix of ones: which of n points are in which cell of each of R labellings (R, n)."""
    R, n = labels.shape
    cells = (labels + torch.arange(R, device=labels.device)[:, None] * K).flatten()
    starts = torch.zeros(R * K + 1, dtype=torch.long, device=labels.device)
    starts[1:] = torch.bincount(cells, minlength=R * K).cumsum(0)
    columns = cells.argsort(stable=True) % n
    ones = torch.ones(R * n, device=labels.device, dtype=dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls its CSR tensors a beta
        return torch.sparse_csr_tensor(starts, columns, ones, (R * K, n))
