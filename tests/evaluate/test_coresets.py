"""Each rule of choice against its definition, spelled out or brute-forced."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import pytest
import torch
from torch import Tensor

from raycond.core.errors import UserError
from raycond.core.registry import Entry
from raycond.evaluate.coresets import CORESETS, choose, easiest, herding, k_center, medoids
from raycond.evaluate.proxy import Proxy
from raycond.methods.quantize.quantization import quantize


def points(n: int, d: int, seed: int = 0) -> Tensor:
    """A few clumps far from the origin, as features behind a ReLU are."""
    generator = torch.Generator().manual_seed(seed)
    centres = 3 * torch.randn(4, d, generator=generator) + 20
    return centres[torch.randint(4, (n,), generator=generator)] + torch.randn(n, d, generator=generator)


def to_mean(features: Tensor, picked: Tensor) -> float:
    return float((features[picked].mean(0) - features.mean(0)).norm())


def radius(features: Tensor, picked: Tensor) -> float:
    return float(torch.cdist(features, features[picked]).min(1).values.max())


@pytest.mark.parametrize("seed", range(3))
def test_herding_follows_its_definition(seed: int) -> None:
    features = points(40, 5, seed)
    expected: list[int] = []
    for _ in range(12):
        options = [i for i in range(40) if i not in expected]
        expected.append(min(options, key=lambda i: to_mean(features, torch.tensor([*expected, i]))))
    assert herding(features, 12).tolist() == expected


def test_herding_beats_random_by_far() -> None:
    features = points(300, 16)
    generator = torch.Generator().manual_seed(1)
    for k in (5, 20, 60):
        by_chance = [to_mean(features, torch.randperm(300, generator=generator)[:k]) for _ in range(50)]
        assert to_mean(features, herding(features, k)) < 0.8 * min(by_chance)


@pytest.mark.parametrize("seed", range(5))
def test_k_center_is_within_twice_the_best_radius(seed: int) -> None:
    features = points(14, 3, seed)
    picked = k_center(features, 4)
    best = min(radius(features, torch.tensor(rows)) for rows in combinations(range(14), 4))
    assert radius(features, picked) <= 2 * best
    assert picked[0] == (features - features.mean(0)).norm(dim=1).argmin()
    for k in range(1, 4):
        farthest = torch.cdist(features, features[picked[:k]]).min(1).values.argmax()
        assert picked[k] == farthest


def test_medoids_are_the_samples_nearest_to_the_centroids() -> None:
    features = points(200, 8)
    book = quantize(features, [7], kind="lloyd", seed=3, restarts=5)[0]
    nearest = torch.cdist(book.centroids, features).argmin(1)
    assert medoids(features, 7, 3).tolist() == nearest.tolist()
    assert medoids(features, 200, 3).unique().numel() == 200


def test_easiest_are_the_lowest_scores_ties_by_row() -> None:
    assert easiest(torch.tensor([3.0, 1.0, 2.0, 1.0, 0.5]), 4).tolist() == [4, 1, 3, 2]


RULES: list[Callable[[Tensor, int], Tensor]] = [herding, k_center, lambda f, k: medoids(f, k, 0)]


@pytest.mark.parametrize("rule", RULES)
def test_copies_are_not_picked_twice(rule: Callable[[Tensor, int], Tensor]) -> None:
    features = torch.tensor([[1.0, 2.0]]).repeat(6, 1)
    assert sorted(rule(features, 6).tolist()) == list(range(6))
    twice = points(10, 4).repeat(2, 1)
    assert rule(twice, 20).unique().numel() == 20


@pytest.mark.parametrize("rule", RULES[:2])
def test_of_equals_the_first_row_is_picked(rule: Callable[[Tensor, int], Tensor]) -> None:
    features = points(30, 6)
    order = torch.arange(30).repeat_interleave(2)
    assert rule(features[order], 8).remainder(2).tolist()[:3] == [0, 0, 0]
    assert rule(torch.zeros(5, 3), 3).tolist() == [0, 1, 2]


@pytest.mark.parametrize("rule", [*RULES, lambda f, k: easiest(f[:, 0], k)])
@pytest.mark.parametrize("k", [0, 11])
def test_more_than_there_are_is_an_error(rule: Callable[[Tensor, int], Tensor], k: int) -> None:
    with pytest.raises(UserError, match=f"from 1 to the 10 images of the class, not {k}"):
        rule(points(10, 3), k)


def test_a_smaller_ipc_is_a_prefix() -> None:
    features = points(60, 6)
    for rule in RULES[:2]:
        assert rule(features, 20)[:7].tolist() == rule(features, 7).tolist()


LABELS = torch.tensor([2, 0, 1] * 30)
PROXY = Proxy(points(90, 6), torch.rand(90, generator=torch.Generator().manual_seed(2)))


@pytest.mark.parametrize("kind", CORESETS.names())
def test_choose_gives_ipc_rows_of_each_class_in_label_order(kind: str) -> None:
    rows = choose(kind, PROXY, LABELS, 5, 0)
    assert LABELS[rows].tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert rows.unique().numel() == 15
    assert rows.tolist() == choose(kind, PROXY, LABELS, 5, 0).tolist()


def test_choose_picks_within_the_class() -> None:
    own = (LABELS == 1).nonzero().flatten()
    for kind, rule in (("herding", herding), ("k-center", k_center)):
        picked = own[rule(PROXY.features[own], 4)]
        assert choose(kind, PROXY, LABELS, 4, 7)[4:8].tolist() == picked.tolist()
    assert choose("el2n", PROXY, LABELS, 4, 7)[4:8].tolist() == own[easiest(PROXY.el2n[own], 4)].tolist()


def test_choose_names_what_is_wrong() -> None:
    with pytest.raises(UserError, match="medoid, herding, k-center, el2n"):
        choose("kmeans", PROXY, LABELS, 1, 0)
    with pytest.raises(UserError, match="herding, class 0: ipc must be from 1 to the 30 images"):
        choose("herding", PROXY, LABELS, 31, 0)
    with pytest.raises(UserError, match="90 images, and there are 89 labels"):
        choose("herding", PROXY, LABELS[1:], 1, 0)


def test_a_new_coreset_is_one_file_and_one_entry(
    new_file: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = new_file("""
        import torch

        def last(proxy, rows, k, seed):
            return torch.arange(len(rows))[-k:]
    """)
    monkeypatch.setitem(CORESETS.entries, "last", Entry("last", "the last images", f"{module}:last"))
    assert choose("last", PROXY, LABELS, 1, 0).tolist() == [88, 89, 87]
