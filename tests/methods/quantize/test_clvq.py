from __future__ import annotations

import pytest
import torch
from torch import Tensor

from raycond.methods.quantize import clvq
from raycond.methods.quantize.clvq import Clvq
from tests.methods.quantize.make import low_rank, macqueen


def learn(points: Tensor, count: int, chunk: int, seed: int = 4) -> Tensor:
    model = Clvq(count, seed)
    for part in points.split(chunk):
        model.add(part)
    return model.centroids()


@pytest.mark.parametrize(("n", "d", "count"), [(700, 60, 10), (700, 300, 100), (200, 30, 12), (30, 8, 30)])
def test_equals_macqueens_rule(n: int, d: int, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the plain loop from the same starting points, over the remaining latents in order."""
    x = low_rank(n, d)
    started: list[Tensor] = []
    real = Clvq._start

    def start(self: Clvq, rows: Tensor, warm: int) -> tuple[Tensor, int]:
        rest = real(self, rows, warm)
        assert self._centroids is not None
        started.append(self._centroids.clone())
        return rest

    monkeypatch.setattr(Clvq, "_start", start)
    found = learn(x, count, 64)
    used = {tuple(row) for row in started[0].tolist()}
    assert len(used) == count
    rest = torch.stack([row for row in x if tuple(row.tolist()) not in used]) if count < n else x[:0]
    assert len(rest) == n - count
    torch.testing.assert_close(found.double(), macqueen(rest, started[0]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("n", [100, 256, 300, 513, 1000])
def test_chunks_do_not_change_the_result(n: int) -> None:
    x = low_rank(n, 40)
    whole = learn(x, 15, n)
    for chunk in (1, 7, 256, 300):
        assert torch.equal(learn(x, 15, chunk), whole)


def test_reading_the_centroids_twice_changes_nothing() -> None:
    model = Clvq(5, 0)
    model.add(low_rank(400, 10))
    assert torch.equal(model.centroids(), model.centroids())


def test_a_far_offset_costs_no_digits() -> None:
    x = (low_rank(600, 30) * 64).round() / 64
    torch.testing.assert_close(learn(x + 4096, 8, 100) - 4096, learn(x, 8, 100), rtol=0, atol=2e-3)


def test_the_pass_improves_on_its_starting_points() -> None:
    x = low_rank(2000, 50)
    start, end = learn(x[: clvq.BLOCK], 10, 256), learn(x, 10, 256)

    def cost(c: Tensor) -> float:
        return float(torch.cdist(x, c).min(1).values.square().mean())

    assert cost(end) < cost(start)


def test_repeated_points_give_as_many_starting_points() -> None:
    x = low_rank(2, 6).repeat(20, 1)
    model = Clvq(5, 4)
    model.add(x)
    found = model.centroids()
    assert found.shape == (5, 6)
    assert model._mass.sum() == 40  # every image counts once
    torch.testing.assert_close(torch.cdist(found, x[:2]).min(1).values, torch.zeros(5), rtol=0, atol=2e-3)


@pytest.mark.parametrize(("n", "message"), [(3, "4 centroids asked of 3 points"), (0, "4 centroids asked of 0 points")])
def test_too_few_points(n: int, message: str) -> None:
    model = Clvq(4, 0)
    if n:
        model.add(low_rank(n, 5))
    with pytest.raises(ValueError, match=message):
        model.centroids()


@pytest.mark.gpu
def test_cuda_learns_what_the_cpu_learns() -> None:
    x = low_rank(700, 60)
    torch.testing.assert_close(learn(x.cuda(), 10, 64).cpu(), learn(x, 10, 64), rtol=1e-4, atol=1e-4)
