from __future__ import annotations

import pytest
import torch

from raycond.core.errors import RaycondError, UserError
from raycond.methods.quantize.codebook import codebook, effective_size, fill_empty, nearest, weights
from raycond.methods.quantize.wasserstein import w2
from tests.methods.quantize.make import low_rank, squared


def test_counts_distortion_and_medoids_are_those_of_brute_force() -> None:
    x = low_rank(150, 40)
    c = x[::15].mul(0.9)
    book = codebook([x], c, (40,))
    distance = squared(x, book.centroids)
    labels = distance.argmin(1)
    assert book.counts.tolist() == torch.bincount(labels, minlength=10).tolist()
    assert book.counts.tolist() == sorted(book.counts.tolist(), reverse=True)
    assert book.distortion == pytest.approx(float(distance.min(1).values.mean()), rel=1e-6)
    own = distance.masked_fill(labels[:, None] != torch.arange(10), torch.inf)
    assert book.medoids.tolist() == own.argmin(0).tolist()
    # heaviest first is a permutation of what was given
    assert {tuple(row) for row in book.centroids.tolist()} == {tuple(row) for row in c.tolist()}


def test_equal_counts_keep_the_order_of_the_centroids() -> None:
    x = torch.tensor([[0.0], [1.0], [10.0], [11.0], [20.0], [21.0], [22.0]])
    book = codebook([x], torch.tensor([[0.5], [10.5], [21.0]]), (1,))
    assert book.counts.tolist() == [3, 2, 2]
    assert book.centroids.flatten().tolist() == [21.0, 0.5, 10.5]


def test_blocks_do_not_change_the_codebook() -> None:
    x = low_rank(100, 30)
    whole = codebook([x], x[:7], (30,))
    parts = codebook(list(x.split(9)), x[:7], (30,))
    assert torch.equal(whole.counts, parts.counts)
    assert torch.equal(whole.medoids, parts.medoids)
    assert whole.distortion == pytest.approx(parts.distortion, rel=1e-12)


def test_latent_shape_and_types() -> None:
    x = low_rank(20, 24).double()
    book = codebook([x], x[:3], (2, 3, 4))
    assert book.centroids.shape == (3, 2, 3, 4)
    assert book.centroids.dtype == torch.float32
    assert (book.counts.dtype, book.medoids.dtype) == (torch.int64, torch.int64)
    assert len(book) == 3


@pytest.mark.parametrize("blocks", [1, 2, 5])
def test_an_unused_centroid_moves_onto_the_worst_served_point(blocks: int) -> None:
    x = torch.tensor([[0.0], [1.0], [2.0], [30.0], [31.0]])
    book = codebook(list(x.split(blocks)), torch.tensor([[1.0], [900.0]]), (1,))
    assert book.centroids.flatten().tolist() == [1.0, 31.0]
    assert book.counts.tolist() == [3, 2]
    assert book.distortion == pytest.approx((1 + 0 + 1 + 1 + 0) / 5)
    assert book.distortion == pytest.approx(w2(x, book.centroids, book.counts) ** 2)


def test_fewer_different_points_than_centroids() -> None:
    """Every cell gets its image, on top of its centroid: distance to the data stays zero."""
    x = torch.tensor([[5.0], [5.0], [0.0], [0.0], [0.0], [0.0], [9.0]])
    book = codebook([x], torch.tensor([[0.0], [0.0], [5.0], [9.0], [0.0]]), (1,))
    assert int(book.counts.sum()) == 7
    assert int(book.counts.min()) == 1
    assert book.distortion == 0
    assert w2(x, book.centroids, book.counts) == pytest.approx(0, abs=1e-9)
    assert torch.equal(book.centroids, x[book.medoids])
    assert len(set(book.medoids.tolist())) == 5


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_latents_that_are_not_finite(bad: float) -> None:
    x = low_rank(20, 5)
    x[3, 2] = bad
    with pytest.raises(RaycondError, match="NaN or infinite; try --dtype float32"):
        codebook([x], x[5:8], (5,))
    with pytest.raises(RaycondError, match="NaN or infinite"):
        codebook([x[5:]], x[3:4], (5,))


@pytest.mark.parametrize(("n", "d", "count"), [(200, 300, 17), (300, 6, 40), (50, 10, 1), (40, 1000, 40)])
def test_nearest_is_the_float64_answer(n: int, d: int, count: int) -> None:
    x, c = low_rank(n, d) + 100, low_rank(count, d, seed=1) + 100
    labels, distance = nearest(x, c)
    exact = squared(x, c)
    assert torch.equal(labels, exact.argmin(1))
    torch.testing.assert_close(distance, exact.min(1).values, rtol=1e-5, atol=0)


def test_nearest_decides_near_ties_in_float64() -> None:
    """Pairs of centroids at almost the same distance: plain float32 gets some of these wrong."""
    random = torch.Generator().manual_seed(0)
    x = torch.randn(200, 512, generator=random)
    step = 1e-4 * torch.randn(8, 512, generator=random)
    c = torch.cat([torch.randn(8, 512, generator=random)] * 2)
    c[8:] += step
    labels, _ = nearest(x, c)
    exact = squared(x, c).argmin(1)
    assert torch.equal(labels, exact)
    plain = (c.square().sum(1) - 2 * x @ c.T).argmin(1)
    assert not torch.equal(plain, exact)  # or else the test shows nothing


def test_nearest_far_from_the_origin() -> None:
    x, c = low_rank(100, 64) + 1e4, low_rank(9, 64, seed=1) + 1e4
    assert torch.equal(nearest(x, c)[0], squared(x, c).argmin(1))


def test_exact_ties_go_to_the_first() -> None:
    labels, distance = nearest(torch.zeros(3, 4), torch.tensor([[1.0], [-1.0], [1.0]]).expand(3, 4))
    assert labels.tolist() == [0, 0, 0]
    assert distance.tolist() == [4, 4, 4]


def test_fill_empty_takes_the_worst_served_from_cells_with_more_than_one() -> None:
    labels = torch.tensor([0, 0, 0, 2, 2])
    distance = torch.tensor([1.0, 3.0, 2.0, 9.0, 8.0])
    filled = fill_empty(labels, distance, 5)
    assert filled.tolist() == [0, 3, 4, 1, 2]
    assert labels.tolist() == [0, 0, 0, 2, 2]
    assert fill_empty(filled, distance, 5) is filled


def test_weights_are_powers_of_the_mass_with_mean_one() -> None:
    counts = torch.tensor([64, 16, 4])
    assert weights(counts, "uniform").tolist() == [1.0, 1.0, 1.0]
    torch.testing.assert_close(weights(counts, "sqrt"), torch.tensor([8.0, 4.0, 2.0]) / (14 / 3))
    torch.testing.assert_close(weights(counts, "density"), torch.tensor([64.0, 16.0, 4.0]) / 28)
    for mode in ("uniform", "sqrt", "density"):
        many = weights(torch.arange(1, 1001), mode)
        assert many.dtype == torch.float32
        assert float(many.double().mean()) == pytest.approx(1, abs=1e-6)
        assert weights(torch.full((7,), 13), mode).tolist() == [1.0] * 7
        assert weights(torch.tensor([9]), mode).tolist() == [1.0]


def test_uniform_weights_are_one_bit_for_bit() -> None:
    assert torch.equal(weights(torch.arange(1, 778), "uniform"), torch.ones(777))


def test_unknown_weights() -> None:
    with pytest.raises(UserError, match="'cubic' is not one of uniform, sqrt, density"):
        weights(torch.ones(2), "cubic")


def test_effective_size() -> None:
    assert effective_size(torch.ones(8)) == 8
    assert effective_size(torch.tensor([5.0, 0, 0])) == 1
    assert effective_size(torch.tensor([3, 1])) == pytest.approx(1.6)


@pytest.mark.gpu
def test_cuda_gives_the_cpus_codebook() -> None:
    x = low_rank(500, 40)
    c = x[::15].mul(0.9)
    here, there = codebook(list(x.split(90)), c, (40,)), codebook(list(x.cuda().split(90)), c.cuda(), (40,))
    assert torch.equal(there.counts, here.counts)
    assert torch.equal(there.medoids, here.medoids)
    assert torch.equal(there.centroids, here.centroids)
    assert there.distortion == pytest.approx(here.distortion, rel=1e-6)
