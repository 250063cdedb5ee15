"""k-means by faiss, on its GPU index where there is one."""

from __future__ import annotations

import numpy as np
from torch import Tensor, from_numpy

from raycond.methods.quantize.base import SingleQuantizer


class Faiss(SingleQuantizer):
    """faiss' k-means, once: faiss has its own start and no restarts."""

    def centroids(self, points: Tensor, count: int, seed: int) -> Tensor:
        return faiss_kmeans(points, count, seed=seed)


def faiss_kmeans(points: Tensor, count: int, *, seed: int, iterations: int = 20) -> Tensor:
    """Centroids (K, d) float32 of points (n, d). Raises ValueError if K exceeds n."""
    import faiss

    n, d = points.shape
    if count > n:
        raise ValueError(f"{count} centroids asked of {n} points")
    kmeans = faiss.Kmeans(
        d,
        count,
        niter=iterations,
        seed=seed % 2**31,
        gpu=points.is_cuda and getattr(faiss, "get_num_gpus", int)() > 0,
        min_points_per_centroid=1,  # faiss warns below 39, which every condensed set is
        max_points_per_centroid=n,  # never subsample
    )
    kmeans.train(np.ascontiguousarray(points.cpu().numpy()))
    centroids = np.array(kmeans.centroids)
    return from_numpy(centroids).to(points.device)
