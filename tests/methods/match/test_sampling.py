from __future__ import annotations

import pytest
import torch
from torch import Tensor

from raycond.methods.match.sampling import (
    DreamSampling,
    Position,
    RandomSampling,
    Sampling,
    permutation,
    representatives,
    sampling,
)
from tests.methods.match.make import config, normal

COUNTS = (9, 4, 12)


def none(_label: int, _rows: Tensor) -> Tensor:
    raise AssertionError("random sampling asks for no features")


class Clouds:
    """Features of a class whose images lie in well separated clouds: image i of any class in cloud i mod 4."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, list[int]]] = []
        self.shift = 0.0

    def __call__(self, label: int, rows: Tensor) -> Tensor:
        self.calls.append((label, rows.tolist()))
        centers = 100 * torch.eye(4)[rows % 4]
        return centers + 0.01 * rows[:, None] + self.shift


def test_each_step_draws_other_images_without_repeats() -> None:
    random = RandomSampling(config(batch=5), (0, 1, 2), COUNTS, seed=1)
    steps = [random.rows(Position(step, 0), none) for step in range(30)]
    for rows in steps:
        assert [len(r) for r in rows] == [5, 4, 5]
        assert all(len(set(r.tolist())) == len(r) for r in rows)
    assert {row for rows in steps for row in rows[2].tolist()} == set(range(12))
    assert len({tuple(rows[2].tolist()) for rows in steps}) > 25


def test_batches_by_epochs_go_through_a_shuffle_and_drop_its_rest() -> None:
    settings = config("idc", batch=5)
    random = RandomSampling(settings, (0, 1, 2), COUNTS, seed=1)
    rows = [random.rows(Position(step, 0), none) for step in range(8)]
    for epoch in range(4):  # 12 images give two batches of 5 in each shuffle
        joined = torch.cat([rows[2 * epoch][2], rows[2 * epoch + 1][2]]).tolist()
        assert len(set(joined)) == 10
    assert len({tuple(sorted(torch.cat([rows[2 * e][2], rows[2 * e + 1][2]]).tolist())) for e in range(4)}) > 1
    assert all(sorted(r[1].tolist()) == [0, 1, 2, 3] for r in rows)  # a class smaller than a batch


@pytest.mark.parametrize("order", ["draw", "epochs"])
def test_draws_do_not_depend_on_the_other_classes_of_the_phase(order: str) -> None:
    settings = config(batch=5, sampling={"order": order})
    every = RandomSampling(settings, (0, 1, 2), COUNTS, seed=1)
    part = RandomSampling(settings, (2, 0), (COUNTS[2], COUNTS[0]), seed=1)
    for step in (0, 7):
        at = Position(step, 0)
        assert torch.equal(every.rows(at, none)[2], part.rows(at, none)[0])
        assert torch.equal(every.rows(at, none)[0], part.rows(at, none)[1])


def test_representatives_are_the_samples_nearest_to_the_means_of_their_clusters() -> None:
    features = normal(40, 3, dtype=torch.float32)
    chosen = representatives(features, 5, iterations=100, seed=2)
    # Lloyd by its definition, from the same random samples
    centers = features[permutation(40, 2)[:5]].double()
    for _ in range(100):
        cells: list[list[int]] = [[] for _ in centers]
        for i, x in enumerate(features.double()):
            cells[min(range(5), key=lambda k: float((x - centers[k]).square().sum()))].append(i)
        centers = torch.stack([features[cell].double().mean(0) for cell in cells])
    nearest = [min(range(40), key=lambda i: float((features[i].double() - c).square().sum())) for c in centers]
    assert chosen.tolist() == nearest


def test_one_representative_of_every_cloud_and_several_of_each() -> None:
    rows = torch.arange(12)
    features = Clouds()(0, rows)
    starts = [seed for seed in range(20) if len(set((permutation(12, seed)[:4] % 4).tolist())) == 4]
    assert starts
    for seed in starts:
        assert sorted((representatives(features, 4, seed=seed) % 4).tolist()) == [0, 1, 2, 3]
        # the middle one of three lies at the mean of its cloud
        assert sorted(representatives(features, 4, seed=seed).tolist()) == [4, 5, 6, 7]
        several = representatives(features, 4, per_cluster=2, seed=seed).view(4, 2)
        assert all(len(set(pair)) == 2 and pair[0] % 4 == pair[1] % 4 for pair in several.tolist())


def test_closest_takes_those_nearest_to_their_own_center_over_all_clusters() -> None:
    # two tight pairs, and two loose ones far away: the tight pairs are all closer to their centers
    features = torch.tensor([[0.0], [0.1], [10.0], [10.1], [100.0], [140.0], [300.0], [340.0]])
    chosen = representatives(features, 4, select="closest", iterations=50, seed=_start_in_every_pair())
    assert sorted(chosen.tolist()) == [0, 1, 2, 3]


def _start_in_every_pair() -> int:
    return next(seed for seed in range(1000) if len(set((permutation(8, seed)[:4] // 2).tolist())) == 4)


def test_more_clusters_than_images_take_every_image() -> None:
    features = normal(6, 3, dtype=torch.float32)
    assert sorted(representatives(features, 128, seed=0).tolist()) == list(range(6))


def test_clusters_are_renewed_at_the_interval_counted_from_a_new_network() -> None:
    settings = config(steps=5, sampling={"kind": "dream", "clusters": 4, "recluster": 3})
    dream = DreamSampling(settings, (0, 2), (9, 12), seed=1)
    features = Clouds()
    renewed = []
    for step in range(12):
        before = len(features.calls)
        dream.rows(Position(step, step % 5), features)
        renewed.append(len(features.calls) > before)
    assert renewed == [step % 5 in (0, 3) for step in range(12)]
    assert features.calls[0] == (0, list(range(9)))
    assert features.calls[1] == (2, list(range(12)))


def test_networks_of_few_steps_share_clusters() -> None:
    settings = config("dm", steps=1, sampling={"kind": "dream", "recluster": 3})
    dream = DreamSampling(settings, (0,), (12,), seed=1)
    features = Clouds()
    rows = [dream.rows(Position(step, 0), features)[0] for step in range(7)]
    assert len(features.calls) == 3
    assert torch.equal(rows[0], rows[2])
    assert torch.equal(rows[3], rows[5])


def test_only_drawn_candidates_are_clustered() -> None:
    settings = config(sampling={"kind": "dream", "clusters": 2, "candidates": 5, "recluster": 1})
    dream = DreamSampling(settings, (1,), (12,), seed=1)
    features = Clouds()
    for step in range(4):
        chosen = dream.rows(Position(step, step % 3), features)[0]
        assert set(chosen.tolist()) <= set(features.calls[-1][1])
    assert len({tuple(rows) for _, rows in features.calls}) > 1
    assert all(len(rows) == 5 for _, rows in features.calls)


def test_saved_clusters_go_on_until_the_next_clustering() -> None:
    settings = config(steps=6, sampling={"kind": "dream", "clusters": 4, "recluster": 3})
    one, other = (sampling(settings, (0, 2), (9, 12), 1) for _ in range(2))
    features = Clouds()
    before = one.rows(Position(0, 0), features)
    other.load({name: tensor.clone() for name, tensor in one.state().items()})
    calls = len(features.calls)
    after = other.rows(Position(1, 1), features)
    assert len(features.calls) == calls
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_kinds() -> None:
    def kind(name: str) -> type[Sampling]:
        return type(sampling(config(sampling={"kind": name}), (0,), (4,), 0))

    assert kind("random") is RandomSampling
    assert kind("dream") is DreamSampling
