"""D4M's k-means: one pass of scikit-learn's MiniBatchKMeans over small batches."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from raycond.methods.quantize.base import SingleQuantizer


class MiniBatch(SingleQuantizer):
    """`partial_fit` on batches of `expand` · K latents, each latent once and in random order (suduo94/D4M).

    expand is D4M's km_expand: 1 in its script for ImageNet, 10 where its code is given none. With 1 the cells come out
    very unequal, which is what DDOQ's weights make good. D4M loses the last latents of all classes but one, where they
    do not fill a batch; here they are a smaller batch.
    """

    def centroids(self, points: Tensor, count: int, seed: int) -> Tensor:
        if count > len(points):
            raise ValueError(f"{count} centroids asked of {len(points)} points")
        order = torch.randperm(len(points), generator=torch.Generator().manual_seed(seed))
        return partial_fit(points[order.to(points.device)], count, expand=self.expand, seed=seed)


def partial_fit(points: Tensor, count: int, *, expand: int = 1, seed: int = 0) -> Tensor:
    """Centroids (K, d) float32 of points (n, d) in the order in which they stand. seed: of scikit-learn's choices."""
    from sklearn.cluster import MiniBatchKMeans

    data, batch = points.double().cpu().numpy(), expand * count
    model = MiniBatchKMeans(count, random_state=seed % 2**32, batch_size=batch, n_init="auto")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # repeated points make scikit-learn warn, not fail
        for start in range(0, len(data), batch):
            model.partial_fit(data[start : start + batch])
    return torch.from_numpy(model.cluster_centers_).float().to(points.device)
