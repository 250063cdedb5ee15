"""What a resumable training owes to whoever derives from it, on a linear network with a BatchNorm."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from raycond.core.errors import RaycondError, UserError
from raycond.core.seeds import seed_of, seeded
from raycond.training.resumable import Resumable, steps_of


@dataclass(frozen=True)
class Settings:
    batch: int = 8
    lr: float = 0.05
    optimizer: str = "adamw"
    weight_decay: float = 0.01
    schedule: str = "cosine"
    warmup: int = 2
    clip: float = 1.0
    precision: str = "float32"
    log_every: int = 2


class Lines(Resumable):
    """Fits y = sum of x, where each part of a batch gets noise of its own."""

    what = "lines"

    def __init__(self, settings: Settings, total: int = 6, seed: int = 0, **options: Any) -> None:
        with seeded(seed):
            net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)).train()
        self.values = torch.randn(20, 3, generator=torch.Generator().manual_seed(5))
        self.seen: list[Tensor] = []
        super().__init__(settings, net, total=total, seed=seed, device="cpu", **options)

    @property
    def count(self) -> int:
        return len(self.values)

    def draw(self, rows: Tensor) -> Tensor:
        return torch.cat(
            [self.values[part] + 0.01 * torch.randn(len(part), 3, generator=g) for part, g in self.parts(rows)]
        )

    def loss_of(self, rows: Tensor) -> Tensor:
        x = self.draw(rows)
        self.seen.append(x)
        with self.precision():
            y = self.wrapped(x)
        return (y.float()[:, 0] - x.sum(1)).square().mean()


def done(settings: Settings = Settings(), **options: Any) -> Lines:
    run = Lines(settings, **options)
    list(run.run())
    return run


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("stop", [2, 4, 6])
def test_interrupted_training_goes_on_to_the_same_bytes(optimizer: str, stop: int) -> None:
    settings = Settings(optimizer=optimizer)
    whole = done(settings)
    run = Lines(settings)
    state = next(run.state() for step in run.run() if step == stop)
    again = Lines(settings, seed=0)
    with torch.no_grad():
        for parameter in again.parameters:
            parameter.add_(1)  # whatever it was is replaced
    again.load(state)
    assert list(again.run()) == list(range(stop + 2, 7, 2))
    assert again.state() == whole.state()
    assert again.curve == whole.curve
    assert float(again.net[1].running_mean.abs().sum()) > 0  # type: ignore[index, union-attr]


def test_it_learns_and_the_seed_decides() -> None:
    torch.manual_seed(3)
    run = done(total=200)
    assert run.loss < 0.2 * run.curve[0][1]
    torch.manual_seed(4)
    before = torch.random.get_rng_state()
    assert done().state() == done().state()
    assert torch.equal(torch.random.get_rng_state(), before)
    assert done(seed=1).state() != done().state()


@pytest.mark.parametrize("world", [2, 4, 8])
def test_workers_share_the_draws_of_one(world: int) -> None:
    settings = Settings(batch=16)
    alone = Lines(settings)
    parts = []
    for rank in range(world):
        shared = Lines(settings)
        shared.rank, shared.world = rank, world
        parts.append(shared.draw(shared._rows().view(world, -1)[rank]))
    assert torch.equal(torch.cat(parts), alone.draw(alone._rows()))


def test_every_example_comes_once_a_pass() -> None:
    run = Lines(Settings(batch=6))
    seen: list[int] = []
    for step in range(10):
        run.step = step
        seen += run._rows().tolist()
    for start in range(0, 60, 20):
        assert sorted(seen[start : start + 20]) == list(range(20))


def test_learning_rate() -> None:
    def rates(**changes: Any) -> list[float]:
        run = Lines(replace(Settings(lr=1.0), **changes))
        found = []
        for run.step in range(6):
            found.append(run.rate())
        return found

    assert rates(warmup=0, schedule="constant") == [1.0] * 6
    assert rates() == pytest.approx([0.5, 1.0, 1.0, 0.853553, 0.5, 0.146447], abs=1e-6)


def test_decay_spares_offsets() -> None:
    groups = Lines(Settings()).optimizer.param_groups
    assert [(group["weight_decay"], {p.ndim for p in group["params"]}) for group in groups] == [(0.01, {2}), (0.0, {1})]


def test_errors() -> None:
    with pytest.raises(UserError, match="lines: batches of 8 do not divide among 3 workers"):
        Lines(Settings(), world=3)
    run = Lines(Settings())
    run.values = run.values.fill_(float("nan"))
    with pytest.raises(RaycondError, match=r"lines: the loss is nan after 2 of 6 steps; a smaller lr than 0.05"):
        list(run.run())


def test_steps() -> None:
    assert [steps_of(epochs, 1000, 64) for epochs in (1, 2.5, 0.001)] == [16, 39, 1]
    assert seed_of(0, "a", 1) != seed_of(0, "a", 2) != seed_of(1, "a", 2)
