from __future__ import annotations

import pytest
import torch

from raycond.methods.quantize.faiss_kmeans import faiss_kmeans
from raycond.methods.quantize.lloyd import lloyd
from tests.methods.quantize.make import low_rank, squared


def test_close_to_lloyd_and_reproducible() -> None:
    x = low_rank(400, 30)
    found = faiss_kmeans(x, 20, seed=2**60 + 1)
    assert found.dtype == torch.float32
    assert found.shape == (20, 30)
    ours = lloyd(x[None], [20], seeds=[0])[20][0]
    theirs, best = (float(squared(x, c).min(1).values.mean()) for c in (found, ours))
    assert best <= theirs <= 1.1 * best
    assert torch.equal(found, faiss_kmeans(x, 20, seed=2**60 + 1))
    assert not torch.equal(found, faiss_kmeans(x, 20, seed=5))


def test_more_centroids_than_points() -> None:
    with pytest.raises(ValueError, match="3 centroids asked of 2 points"):
        faiss_kmeans(low_rank(2, 4), 3, seed=0)
