from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.cluster import MiniBatchKMeans

from raycond.methods.quantize.minibatch import MiniBatch, partial_fit
from raycond.methods.quantize.quantization import quantize
from tests.methods.quantize.make import low_rank


def d4m(points: np.ndarray, count: int, km_expand: int) -> np.ndarray:
    """D4M's loop over a loader: latents are buffered one by one, and fitted when there are km_expand · K of them."""
    model = MiniBatchKMeans(n_clusters=count, random_state=0, batch_size=km_expand * count, n_init="auto")
    waiting: list[np.ndarray] = []
    for point in points:
        waiting.append(point.reshape(1, -1))
        if len(waiting) == km_expand * count:
            model.partial_fit(np.vstack(waiting))
            waiting = []
    return np.asarray(model.cluster_centers_)


@pytest.mark.parametrize("expand", [1, 4])
def test_it_is_the_loop_of_d4m(expand: int) -> None:
    points = low_rank(400, 30)  # a multiple of both batches
    found = partial_fit(points, 10, expand=expand)
    np.testing.assert_allclose(found.numpy(), d4m(points.double().numpy(), 10, expand), rtol=1e-6, atol=1e-6)


def test_every_latent_is_seen_once_in_an_order_of_its_own() -> None:
    points = low_rank(64, 5)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(3))
    assert torch.equal(MiniBatch(expand=2).centroids(points, 8, 3), partial_fit(points[order], 8, expand=2, seed=3))
    assert not torch.equal(MiniBatch().centroids(points, 8, 3), MiniBatch().centroids(points, 8, 4))


def test_a_tail_is_a_smaller_batch_and_counts_are_of_all_images() -> None:
    points = low_rank(43, 5)
    book = quantize(points, [1, 10, 43], kind="minibatch", seed=1, restarts=1, expand=2)
    assert [int(one.counts.sum()) for one in book] == [43, 43, 43]
    with pytest.raises(ValueError, match="44 centroids asked of 43 points"):
        MiniBatch().centroids(points, 44, 0)
