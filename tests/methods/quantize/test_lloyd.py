from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from raycond.methods.quantize import lloyd as module
from raycond.methods.quantize.codebook import nearest
from raycond.methods.quantize.kmeans_plus_plus import _Space
from raycond.methods.quantize.lloyd import _exchange, lloyd
from tests.methods.quantize.make import low_rank, squared, within

FORMS = pytest.mark.parametrize(("n", "d"), [(120, 400), (300, 24)], ids=["gram", "direct"])


def one(points: Tensor, counts: list[int], seed: int = 3, **options: int) -> dict[int, Tensor]:
    return {k: c[0] for k, c in lloyd(points[None], counts, seeds=[seed], **options).items()}


def distortion(points: Tensor, centroids: Tensor) -> float:
    return float(squared(points, centroids).min(1).values.mean())


@FORMS
@pytest.mark.parametrize("count", [10, 40])
def test_as_good_as_sklearn(n: int, d: int, count: int) -> None:
    from sklearn.cluster import KMeans

    x = low_rank(n, d, seed=5)
    theirs = [KMeans(count, n_init=1, random_state=seed).fit(x.double().numpy()).inertia_ / n for seed in range(5)]
    for seed in range(2):
        assert distortion(x, one(x, [count], seed)[count]) <= 1.002 * sum(theirs) / 5


def test_both_forms_find_equally_good_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    x = low_rank(150, 200)
    gram = one(x, [12])[12]
    real = _Space.__init__

    def direct(self: _Space, points: Tensor) -> None:
        real(self, points)
        self.gram = None

    monkeypatch.setattr(_Space, "__init__", direct)
    assert distortion(x, one(x, [12])[12]) == pytest.approx(distortion(x, gram), rel=0.002)


@FORMS
def test_centroids_are_the_means_of_voronoi_cells(n: int, d: int) -> None:
    x = low_rank(n, d)
    for count, c in one(x, [1, 5, 30]).items():
        labels, _ = nearest(x, c)
        means = torch.stack([x[labels == k].double().mean(0) for k in range(count)])
        torch.testing.assert_close(c.double(), means, rtol=0, atol=1e-5)


@FORMS
def test_one_count_does_not_depend_on_the_others(n: int, d: int) -> None:
    x = low_rank(n, d)
    alone = one(x, [7])[7]
    assert torch.equal(one(x, [2, 7, 33])[7], alone)
    assert torch.equal(one(x, [33, 7])[7], alone)


@FORMS
def test_a_class_does_not_depend_on_its_companions(n: int, d: int) -> None:
    classes = torch.stack([low_rank(n, d, seed) for seed in range(3)])
    together = lloyd(classes, [4, 15], seeds=[10, 11, 12])
    for b in range(3):
        alone = lloyd(classes[b : b + 1], [4, 15], seeds=[10 + b])
        for count in (4, 15):
            assert torch.equal(together[count][b], alone[count][0])


@FORMS
def test_same_seed_same_bits(n: int, d: int) -> None:
    x = low_rank(n, d)
    assert torch.equal(one(x, [9], seed=2**60)[9], one(x, [9], seed=2**60)[9])
    assert not torch.equal(one(x, [9], seed=1, restarts=1)[9], one(x, [9], seed=2, restarts=1)[9])


@FORMS
def test_a_huge_offset_moves_the_centroids_with_it(n: int, d: int) -> None:
    x = (low_rank(n, d) * 64).round() / 64  # multiples of 2^-6: exact with an offset of 2^12
    moved = one(x + 4096, [11])[11]
    torch.testing.assert_close(moved - 4096, one(x, [11])[11], rtol=0, atol=1e-3)


def test_order_of_points_does_not_change_exact_cells() -> None:
    """Six clear groups: whatever the order and seed, the cells are the groups."""
    random = torch.Generator().manual_seed(0)
    group = torch.arange(90) % 6
    x = 20 * torch.eye(6)[group].repeat(1, 20) + torch.randn(90, 120, generator=random)
    expected = torch.stack([x[group == k].double().mean(0) for k in range(6)]).float()
    for seed in range(3):
        order = torch.randperm(90, generator=random)
        found = one(x[order], [6], seed)[6]
        labels, _ = nearest(expected, found)
        assert sorted(labels.tolist()) == list(range(6))
        torch.testing.assert_close(found[labels], expected, rtol=0, atol=1e-5)


@FORMS
def test_as_many_centroids_as_points(n: int, d: int) -> None:
    x = low_rank(n, d)
    found = one(x, [n])[n]
    assert {tuple(row) for row in found.tolist()} == {tuple(row) for row in x.tolist()}


def test_more_centroids_than_points() -> None:
    with pytest.raises(ValueError, match="6 centroids asked of 5 points"):
        one(low_rank(5, 8), [2, 6])


@pytest.mark.parametrize("d", [2, 50])
def test_repeated_points(d: int) -> None:
    x = low_rank(3, d).repeat(10, 1)
    found = one(x, [3, 5])
    assert distortion(x, found[3]) < 1e-10
    assert distortion(x, found[5]) < 1e-10


@pytest.mark.parametrize("d", [1, 30])
def test_constant_points_and_single_points(d: int) -> None:
    x = torch.full((8, d), 0.3)
    torch.testing.assert_close(one(x, [1, 4])[4], x[:4])
    assert torch.equal(one(x[:1], [1])[1], x[:1])


@FORMS
def test_one_centroid_is_the_mean(n: int, d: int) -> None:
    x = low_rank(n, d)
    torch.testing.assert_close(one(x, [1])[1][0], x.double().mean(0).float(), rtol=0, atol=1e-6)


@FORMS
def test_exchanges_never_raise_the_cost_and_end_in_voronoi_cells(n: int, d: int) -> None:
    x = low_rank(n, d)
    random = torch.Generator().manual_seed(0)
    for _ in range(4):
        start = torch.cat([torch.arange(9), torch.randint(9, (n - 9,), generator=random)])
        end = _exchange(_Space(x[None]), start[None], 9)[0]
        assert torch.bincount(end, minlength=9).min() >= 1
        assert within(x, end) < within(x, start)
        means = torch.stack([x[end == k].mean(0) for k in range(9)])
        assert torch.equal(squared(x, means).argmin(1), end)
        again = _exchange(_Space(x[None]), end[None], 9)[0]
        assert torch.equal(again, end)


@pytest.mark.parametrize("d", [3, 60], ids=["direct", "gram"])
def test_no_single_exchange_is_left_that_helps(d: int) -> None:
    """Every move of one point is tried: Hartigan's optimum, which is stricter than Lloyd's."""
    x = low_rank(24, d)
    for seed in range(4):
        start = torch.randint(5, (24,), generator=torch.Generator().manual_seed(seed))
        start[:5] = torch.arange(5)
        end = _exchange(_Space(x[None]), start[None], 5)[0]
        cost = within(x, end)
        for i, cell in itertools.product(range(24), range(5)):
            if int((end == end[i]).sum()) > 1:
                other = end.clone()
                other[i] = cell
                assert within(x, other) >= cost * (1 - 1e-5)


@FORMS
def test_every_sweep_lowers_the_cost(n: int, d: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x = low_rank(n, d)
    monkeypatch.setattr(module, "MAX_SWEEPS", 1)
    labels = torch.arange(n)[None] % 6
    costs = [within(x, labels[0])]
    for _ in range(12):
        labels = _exchange(_Space(x[None]), labels, 6)
        costs.append(within(x, labels[0]))
    assert all(after <= before * (1 + 1e-6) for before, after in itertools.pairwise(costs))
    assert costs[-1] < 0.95 * costs[0]


def test_restarts_keep_the_best() -> None:
    x = low_rank(200, 20, modes=20)
    costs = [distortion(x, one(x, [20], seed, restarts=1)[20]) for seed in range(8)]
    assert distortion(x, one(x, [20], 0, restarts=8)[20]) < sum(costs) / len(costs)


@pytest.mark.gpu
@FORMS
def test_cuda_finds_the_cpus_cells_class_by_class_or_together(n: int, d: int) -> None:
    x = torch.stack([low_rank(n, d, seed=seed) for seed in range(3)])
    there = x.cuda()
    expected, actual = (lloyd(points, [3, 8], seeds=[4, 5, 6]) for points in (x, there))
    for count in (3, 8):
        torch.testing.assert_close(actual[count].cpu(), expected[count], rtol=1e-4, atol=1e-4)
        alone = [lloyd(there[b : b + 1], [count], seeds=[4 + b])[count] for b in range(3)]
        torch.testing.assert_close(torch.cat(alone), actual[count], rtol=1e-5, atol=1e-5)


@pytest.mark.gpu
@FORMS
def test_cuda_gives_the_same_bits_again(n: int, d: int) -> None:
    x = low_rank(n, d)[None].cuda()
    first, second = (lloyd(x, [40], seeds=[0])[40] for _ in range(2))
    assert torch.equal(first, second)
