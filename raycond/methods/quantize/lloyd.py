"""Exact Lloyd k-means with k-means++ and restarts, in the form that is cheapest for the shape.

A class has hundreds to a few thousand images (n) of many thousand latent numbers (d). While n < d everything runs on
the n×n Gram matrix: one product of n²·d multiply-adds serves every IPC, restart and seeding step, and an iteration
costs n² instead of n·d·K. Otherwise the latents themselves are used. Lloyd stalls early when n/K is small, so the
best restart is polished by Hartigan's exchanges of single points, whose optima are a subset of Lloyd's: the cells
remain Voronoi cells (Telgarsky and Vattani, AISTATS 2010).

Everything is batched over B classes of equal size, which is what fills a GPU; on a CPU B = 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from raycond.methods.quantize.base import Quantizer
from raycond.methods.quantize.codebook import fill_empty
from raycond.methods.quantize.kmeans_plus_plus import _members, _plus_plus, _Space

EXCHANGE_GAIN = 1e-6  # an exchange must save this share of the mean squared norm: above float32 noise
MAX_SWEEPS = 1000


class Lloyd(Quantizer):
    """k-means to a fixed point, the best of `restarts`, then exchanges."""

    def fit(self, points: Tensor, counts: Sequence[int], seeds: Sequence[int]) -> dict[int, Tensor]:
        return lloyd(points, counts, seeds=seeds, restarts=self.restarts)


def lloyd(
    points: Tensor, counts: Sequence[int], *, seeds: Sequence[int], restarts: int = 5, iterations: int = 100
) -> dict[int, Tensor]:
    """Centroids of B classes at every K in `counts`: {K: (B, K, d) float32}.

    points: (B, n, d) float32 on any device. seeds: one number per class; the same number gives the same centroids
    whatever the other classes and counts are. Raises ValueError if a K exceeds n.
    """
    B, n, _ = points.shape
    if max(counts) > n:
        raise ValueError(f"{max(counts)} centroids asked of {n} points")
    space = _Space(points)
    start = _plus_plus(space, max(counts), restarts, seeds)
    found = {}
    for K in counts:
        labels, cost = _iterate(space, start[:, :, :K], iterations)
        best = labels.view(B, restarts, n)[torch.arange(B, device=points.device), cost.view(B, restarts).argmin(1)]
        found[K] = _centroids(points, _exchange(space, best, K), K)
    return found


def _iterate(space: _Space, start: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """Lloyd from seed points (B, R, K) to a fixed point: labels (B·R, n) and cost (B·R,)."""
    B, R, K = start.shape
    distance = space.to_points(start.reshape(B, -1)).view(B * R, K, space.n)
    labels = torch.full((B * R, space.n), -1, device=start.device)
    for _ in range(iterations):
        nearest, new = distance.min(1)
        new = _without_empty(new, nearest, K)
        if torch.equal(new, labels):
            break
        labels = new
        distance = space.to_means(*space.cell_sums(labels, K), labels)
    return labels, distance.gather(1, labels[:, None]).sum((1, 2))


def _without_empty(labels: Tensor, distance: Tensor, K: int) -> Tensor:
    seen = torch.zeros(len(labels), K, dtype=torch.bool, device=labels.device)
    seen.scatter_(1, labels, torch.ones_like(labels, dtype=torch.bool))
    for lane in (~seen.all(1)).nonzero().flatten().tolist():
        labels[lane] = fill_empty(labels[lane], distance[lane], K)
    return labels


def _exchange(space: _Space, labels: Tensor, K: int) -> Tensor:
    """Hartigan's exchanges until none helps: labels (B, n) to labels (B, n).

    Moving x from cell a to cell b saves n_a/(n_a−1)·|x−c_a|² − n_b/(n_b+1)·|x−c_b|². Each sweep measures all moves
    at once and makes the best ones in which no cell takes part twice, so that the savings add up exactly. The inner
    products of cell sums and points follow the moves; a sweep costs a few passes over (K, n), no matrix product.
    """
    labels = labels.clone()
    sums, sizes = space.cell_sums(labels, K)
    least = EXCHANGE_GAIN * space.norms.mean(1, keepdim=True)
    for _ in range(MAX_SWEEPS if K > 1 else 0):
        own = labels[:, None]
        distance = space.to_means(sums, sizes, labels)
        mine = sizes.gather(1, labels)
        leave = distance.gather(1, own)[:, 0] * mine / (mine - 1).clamp(min=1)
        leave[mine == 1] = 0  # the last point of a cell stays
        price, target = distance.mul_((sizes / (sizes + 1))[:, :, None]).scatter_(1, own, torch.inf).min(1)
        saving = leave - price
        saving[saving <= least] = 0
        if not bool((saving > 0).any()):
            break
        for b, (rows, goal) in enumerate(_best_moves(labels.cpu(), saving.cpu(), target.cpu())):
            _move(space, b, rows.to(labels.device), goal.to(labels.device), labels[b], sums[b], sizes[b])
    return labels


def _best_moves(labels: Tensor, saving: Tensor, target: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Per class the points to move and their new cells, greatest saving first, every cell at most once."""
    for b in range(labels.shape[0]):
        useful = int((saving[b] > 0).sum())
        order = saving[b].argsort(descending=True, stable=True)[:useful].tolist()
        source, goal = labels[b].tolist(), target[b].tolist()
        taken: set[int] = set()
        rows = []
        for i in order:
            if source[i] not in taken and goal[i] not in taken:
                taken.update((source[i], goal[i]))
                rows.append(i)
        yield torch.tensor(rows, dtype=torch.long), torch.tensor([goal[i] for i in rows], dtype=torch.long)


def _move(space: _Space, b: int, rows: Tensor, goal: Tensor, labels: Tensor, sums: Tensor, sizes: Tensor) -> None:
    """Move points `rows` of class b to the cells `goal`, keeping labels (n,), sums (K, n) and sizes (K,) current."""
    source = labels[rows]
    products = space.products(b, rows)
    one = torch.ones_like(rows, dtype=sizes.dtype)
    for cells, sign in ((source, -1), (goal, 1)):
        sums.index_add_(0, cells, products, alpha=sign)
        sizes.index_add_(0, cells, one, alpha=sign)
    labels[rows] = goal


def _centroids(points: Tensor, labels: Tensor, K: int) -> Tensor:
    """Means of the cells (B, K, d), each summed in image order: they depend on the labels alone."""
    sizes = torch.stack([torch.bincount(one, minlength=K) for one in labels])
    sums = torch.stack([_members(one[None], K, x.dtype) @ x for one, x in zip(labels, points, strict=True)])
    return sums / sizes[:, :, None]
