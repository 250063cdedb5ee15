"""A class's codebook: centroids with the exact mass of their Voronoi cells, and the weights made from it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from raycond.core.errors import RaycondError, UserError

WEIGHT_MODES = {"uniform": 0.0, "sqrt": 0.5, "density": 1.0}
_CHUNK_BYTES = (2**22, 2**28)  # of points looked at together: a CPU's cache, a GPU's memory
_MARGIN = 1e-4  # relative gap below which float32 cannot be trusted to name the nearest centroid


@dataclass(frozen=True)
class Codebook:
    """K centroids of one class at one IPC, heaviest cell first.

    centroids: (K, *latent) float32. counts: (K,) int64, images per Voronoi cell, every one ≥ 1, their sum
    the class size. distortion: mean squared distance of an image to its nearest centroid, which equals W2² between
    the class's latents and the count-weighted centroids (a float64 mean of float32 distances). medoids: (K,) int64,
    position (in the class's image order) of the real image nearest to each centroid within its cell.
    """

    centroids: Tensor
    counts: Tensor
    distortion: float
    medoids: Tensor

    def __len__(self) -> int:
        return self.counts.shape[0]

    def weights(self, mode: str) -> Tensor:
        return weights(self.counts, mode)


def weights(counts: Tensor, mode: str) -> Tensor:
    """Training weights w ∝ (count / n)^α with mean 1: (K,) float32.

    α is 0 for `uniform` (D4M), 1 for `density` (DDOQ, Algorithm 1) and 0.5 for `sqrt` (the variance-reducing
    heuristic that DDOQ's Eq. 34 is believed to be; its printed form is not public, so the exponent is a choice).
    """
    if mode not in WEIGHT_MODES:
        raise UserError(f"weights: {mode!r} is not one of {', '.join(WEIGHT_MODES)}")
    mass = (counts.double() / counts.sum()) ** WEIGHT_MODES[mode]
    return (mass / mass.mean()).float()


def effective_size(w: Tensor) -> float:
    """Effective sample size (Σw)² / Σw² of weights, in samples; divide by K to compare."""
    w = w.double()
    return float(w.sum() ** 2 / w.square().sum())


def nearest(points: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """Nearest centroid of each point and the squared distance to it: (n,) int64, (n,) float64.

    points (n, d) and centroids (K, d) float32. The products are float32; every point whose two best centroids are
    closer than float32 can tell apart is decided again in float64. The distance is that of the differences, not of
    the products, so that a point at its centroid is at distance zero.
    """
    shift = centroids.mean(0)
    centred = centroids - shift
    rows = max(1, _CHUNK_BYTES[points.device.type == "cuda"] // (4 * points.shape[1]))
    parts = [_nearest(chunk, centroids, shift, centred, centred.square().sum(1)) for chunk in points.split(rows)]
    return torch.cat([labels for labels, _ in parts]), torch.cat([distance for _, distance in parts])


def _nearest(points: Tensor, centroids: Tensor, shift: Tensor, centred: Tensor, norms: Tensor) -> tuple[Tensor, Tensor]:
    scores = torch.addmm(norms, points - shift, centred.T, alpha=-2)  # |x|² is common to a row
    best = scores.topk(min(2, len(centroids)), largest=False)
    labels = best.indices[:, 0].clone()
    distance = (points - centroids[labels]).square_().sum(1).double()
    gap = best.values[:, -1] - best.values[:, 0]
    for i in (gap <= _MARGIN * (distance + norms.max())).nonzero().flatten().tolist() if len(centroids) > 1 else ():
        exact = (points[i].double() - centroids.double()).square().sum(1)
        distance[i], labels[i] = exact.min(0)
    return labels, distance


def fill_empty(labels: Tensor, distance: Tensor, count: int) -> Tensor:
    """Labels in which every one of `count` cells has a point: an empty cell takes the worst-served point.

    The point comes from a cell that has more than one. Needs count ≤ number of points.
    """
    sizes = torch.bincount(labels, minlength=count)
    empty = (sizes == 0).nonzero().flatten().tolist()
    if not empty:
        return labels
    labels = labels.clone()
    order = iter(distance.argsort(descending=True, stable=True).tolist())
    for cell in empty:
        point = next(i for i in order if sizes[labels[i]] > 1)
        sizes[labels[point]] -= 1
        sizes[cell] += 1
        labels[point] = cell
    return labels


def codebook(blocks: Iterable[Tensor], centroids: Tensor, latent_shape: tuple[int, ...]) -> Codebook:
    """The final assignment pass: exact counts, distortion and medoids of given centroids.

    blocks: the class's latents in image order, each (m, d) float32; only one is needed at a time, and they may be
    gone through several times. centroids: (K, d). A centroid that nothing is nearest to moves onto a worst-served
    image. Raises RaycondError if latents or centroids are not finite.
    """
    count = centroids.shape[0]
    while True:
        parts = [nearest(block, centroids) for block in blocks]
        labels = torch.cat([p[0] for p in parts])
        distance = torch.cat([p[1] for p in parts])
        if not math.isfinite(distortion := float(distance.mean())):
            raise RaycondError("latents are NaN or infinite; try --dtype float32")
        filled = fill_empty(labels, distance, count)
        moved = (filled != labels).nonzero().flatten()
        if len(moved):
            centroids = centroids.index_copy(0, filled[moved], _rows(blocks, moved))
        if not distance[moved].any():  # no empty cell, or only repeats of one image are left to fill them
            break
    labels = filled
    counts = torch.bincount(labels, minlength=count)
    # smallest distance per cell: the first of each cell in the order of distance. A minimum of places, since of several
    # writes to one element a GPU keeps any
    order = distance.argsort(stable=True)
    places = torch.arange(len(order), device=labels.device)
    first = places.new_full((count,), len(order)).scatter_reduce_(0, labels[order], places, "amin")
    medoids = order[first]
    rank = counts.argsort(descending=True, stable=True)
    return Codebook(
        centroids[rank].view(count, *latent_shape).float().cpu(),
        counts[rank].cpu(),
        distortion,
        medoids[rank].cpu(),
    )


def _rows(blocks: Iterable[Tensor], positions: Tensor) -> Tensor:
    """The points at ascending positions."""
    found, start = [], 0
    for block in blocks:
        found.append(block[positions[(positions >= start) & (positions < start + len(block))] - start])
        start += len(block)
    return torch.cat(found)
