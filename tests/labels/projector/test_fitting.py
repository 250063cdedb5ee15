"""The fit on a projector of a few numbers, in place of CLIP's: what it learns, when it stops, how it resumes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raycond.data.class_arrays import Pixels
from raycond.data.classes import Classes
from raycond.data.holdout import split
from raycond.labels.projector.fitting import Check, ProjectorFit, best_of, finished, rounding_of
from raycond.labels.projector.network import Projector
from raycond.labels.projector.options import FitConfig
from raycond.labels.projector.weak_teachers import centred
from raycond.models.clip import open_clip_model
from tests.labels.clips import THREE, pictures, saved
from tests.labels.images import halves, pixels
from tests.labels.projectors import shaken
from tests.support.distributed import in_workers

CONFIG = FitConfig(
    epochs=6, batch=8, lr=0.05, checks=3, patience=0, scale=None, shift=0.1, log_every=10, precision="float32"
)
IMAGES = pixels((30, 25))
LEARN, HELD = split((30, 25), 5, 0)


class Small(nn.Module):
    """Four means of the image → two logits: a frozen matrix and a delta."""

    def __init__(self) -> None:
        super().__init__()
        self.base = nn.Parameter(torch.tensor([[0.0, 0, 0, 0], [0.1, 0, 0.1, 0]]), requires_grad=False)
        self.change = nn.Parameter(torch.zeros(2, 4))

    def forward(self, images: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(images, 2).flatten(1) @ (self.base + self.change).T

    def delta(self) -> dict[str, Tensor]:
        return {"head": self.change}

    def load_delta(self, delta: dict[str, Tensor]) -> None:
        with torch.no_grad():
            self.change.copy_(delta["head"])


class Rule:
    """A teacher that knows the rule."""

    def __call__(self, parts: list[tuple[Tensor, torch.Generator]]) -> Tensor:
        return torch.cat([self.together(images) for images, _ in parts])

    def together(self, images: Tensor) -> Tensor:
        left, right = images.chunk(2, dim=3)
        found = 4 * torch.stack([left.mean((1, 2, 3)), right.mean((1, 2, 3))], 1)
        return found - found.mean(1, keepdim=True)


RULE = Rule()


def fit(config: FitConfig = CONFIG, teachers: Any = RULE, **options: Any) -> ProjectorFit:
    return ProjectorFit(config, Small(), IMAGES, LEARN, HELD, teachers, seed=0, device="cpu", **options)


def fitted(config: FitConfig = CONFIG, **options: Any) -> ProjectorFit:
    run = fit(config, **options)
    list(run.run())
    return run


def test_it_comes_to_agree_with_its_teachers() -> None:
    run = fitted()
    start, *_, last = run.checks
    assert [check.step for check in run.checks] == [0, 12, 24, 34]
    assert start.agreement < 70
    assert last.agreement == 100
    assert last.kl < 0.25 * start.kl
    assert last.mse < 0.3 * start.mse
    assert (last.accuracy, start.teachers, last.teachers) == (100, 100, 100)
    assert run.loss < run.curve[0][1]


def test_checks_are_of_held_out_images_as_they_are() -> None:
    run = fit()
    next(run.run())
    images, labels = IMAGES.take(HELD)
    theirs, ours = Rule().together(images), Small()(images)
    kl = (theirs.softmax(1) * (theirs.log_softmax(1) - ours.log_softmax(1))).sum(1).mean()
    found = run.checks[0]
    assert found.step == 0
    assert found.kl == pytest.approx(kl.item(), rel=1e-4)
    assert found.mse == pytest.approx(F.mse_loss(centred(ours), centred(theirs)).item(), rel=1e-4)
    assert found.agreement == pytest.approx(100 * float((ours.argmax(1) == theirs.argmax(1)).float().mean()))
    assert found.accuracy == pytest.approx(100 * float((ours.argmax(1) == labels).float().mean()))


def test_loss_is_mse_and_lambda_times_cross_entropy() -> None:
    rows = torch.arange(8)
    plain = replace(CONFIG, shift=0.0, ce=0.0)
    images, labels = IMAGES.take(LEARN[rows])
    mse = F.mse_loss(centred(Small()(images)), centred(Rule().together(images)))
    ce = F.cross_entropy(Small()(images), labels)
    assert torch.allclose(fit(plain).loss_of(rows), mse)
    assert torch.allclose(fit(replace(plain, ce=0.3)).loss_of(rows), mse + 0.3 * ce)
    assert torch.allclose(fit(plain, teachers=None).loss_of(rows), ce)
    raw = F.mse_loss(Small()(images), Rule().together(images))
    assert torch.allclose(fit(replace(plain, targets="logits")).loss_of(rows), raw)
    assert not torch.allclose(raw, mse)
    probable = F.mse_loss(Small()(images).softmax(1), Rule().together(images).softmax(1))
    assert torch.allclose(fit(replace(plain, targets="probabilities")).loss_of(rows), probable)


def test_only_the_delta_moves() -> None:
    run = fitted()
    assert run.names == ["change"]
    assert torch.equal(run.projector.base, Small().base)
    assert set(run.tensors) == {"change"}


@pytest.mark.parametrize("mix", ["cutmix", "mixup"])
def test_mixed_views_have_mixed_labels(mix: Any) -> None:
    run = fit(replace(CONFIG, mix=mix, shift=0.0))
    rows = LEARN[torch.arange(8)]
    views, shares, targets = run._views(rows)
    assert torch.allclose(shares.sum(1), torch.ones(8))
    assert targets is not None
    assert torch.allclose(targets, Rule().together(views))
    fitted(replace(CONFIG, mix=mix))


def test_labels_alone() -> None:
    run = fitted(replace(CONFIG, epochs=20), teachers=None)
    assert run.checks[-1].accuracy == run.checks[-1].agreement == 100
    assert run.checks[-1].kl < run.checks[0].kl


@pytest.mark.parametrize("stop", [10, 12, 20])
def test_interrupted_fit_goes_on_to_the_same_bytes(stop: int) -> None:
    whole = fitted()
    run = fit()
    state = next(run.state() for step in run.run() if step == stop)
    again = fit()
    again.load(state)
    list(again.run())
    assert again.state() == whole.state()
    assert (again.curve, again.checks) == (whole.curve, whole.checks)


def test_best_delta_is_kept() -> None:
    run = fit()
    kls = []
    for _ in run.run():
        kls.append(best_of(run.checks))
        expected = Small()
        expected.load_delta(run.best)
        run_now = fit()
        run_now.projector.load_delta(run.best)
        run_now._check()
        assert run_now.checks[0].kl == pytest.approx(kls[-1].kl, rel=1e-5)
    found = finished(run.state())
    assert torch.equal(found.delta["head"], run.best["head"])
    assert found.best == best_of(run.checks)
    assert (found.curve, found.checks, found.steps) == (run.curve, run.checks, run.total)


def test_it_stops_when_nothing_gets_better() -> None:
    wild = replace(CONFIG, lr=50.0, schedule="constant", epochs=30, checks=30, patience=2)
    run = fitted(wild)
    assert run.step < run.total
    assert run.stale == 2
    assert finished(run.state()).steps == run.step
    again = fit(wild)
    again.load(run.state())
    assert list(again.run()) == []  # it stays ended
    assert fitted(replace(wild, patience=0)).step == run.total


def test_rounding_is_of_what_is_written(tmp_path: Path) -> None:
    projector = shaken(Projector(open_clip_model(saved(tmp_path), device="cpu"), THREE), by=0.5)
    x, delta = pictures(6, 20), {name: value.detach().clone() for name, value in projector.delta().items()}
    with torch.no_grad():
        before = projector(x)
    none = rounding_of(projector, delta, "float32", x)
    half, few = rounding_of(projector, delta, "float16", x), rounding_of(projector, delta, "int8", x)
    assert (none.images, none.changed, none.kl) == (6, 0.0, 0.0)
    assert half.kl < few.kl < 0.1
    with torch.no_grad():
        assert not torch.equal(projector(x), before)
        expected = F.kl_div(projector(x).log_softmax(1), before.softmax(1), reduction="batchmean")
    assert few.kl == pytest.approx(float(expected), rel=1e-2)


def test_a_good_start_does_not_end_it() -> None:
    run = fit()
    kls = (0.1, 0.9, 0.7, 0.8, 0.6, 0.65, 0.7)
    found = []
    for step, kl in enumerate(kls):
        run.checks.append(Check(step, 50.0, kl, 1.0, 50.0, 50.0))
        found.append(run.stale)
    assert found == [0, 0, 0, 1, 0, 1, 2]
    assert best_of(run.checks).step == 0


def test_a_worker_may_have_no_held_out_images() -> None:
    run = ProjectorFit(CONFIG, Small(), IMAGES, LEARN, HELD[:1], RULE, seed=0, device="cpu")  # type: ignore[arg-type]
    assert [len(rows) for rows in run.held] == [1]
    empty = ProjectorFit(CONFIG, Small(), IMAGES, LEARN, HELD[:0], RULE, seed=0, device="cpu")  # type: ignore[arg-type]
    assert empty.held == []


def test_best_of_equals_is_the_first() -> None:
    checks = [Check(step, 0, kl, 0, 0, 0) for step, kl in ((0, 2.0), (1, 1.0), (2, 1.0))]
    assert best_of(checks).step == 1


def test_bfloat16() -> None:
    run = fitted(replace(CONFIG, precision="bfloat16"))
    assert run.checks[-1].agreement == 100


# ---- several workers


def _worker(rank: int, world: int, folder: str) -> None:
    run = fit(rank=rank, world=world)
    states = {step: run.state() for step in run.run()}
    again = fit(rank=rank, world=world)
    again.load(states[12])
    list(again.run())
    Path(folder, f"{rank}.whole").write_bytes(run.state())
    Path(folder, f"{rank}.resumed").write_bytes(again.state())


def test_workers_share_a_fit(tmp_path: Path) -> None:
    in_workers(_worker, tmp_path, 2)
    states = {(tmp_path / f"{rank}.{kind}").read_bytes() for rank in (0, 1) for kind in ("whole", "resumed")}
    assert len(states) == 1
    together, alone = finished(states.pop()), finished(fitted().state())
    assert [loss for _, loss in together.curve] == pytest.approx([loss for _, loss in alone.curve], rel=1e-3)
    for a, b in zip(together.checks, alone.checks, strict=True):
        assert (a.step, a.agreement) == (b.step, b.agreement)
        assert a.kl == pytest.approx(b.kl, rel=1e-2, abs=1e-5)
    assert torch.allclose(together.delta["head"], alone.delta["head"], rtol=1e-2, atol=1e-3)


@pytest.mark.gpu
def test_a_fit_interrupted_on_cuda_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    clip = open_clip_model(saved(tmp_path), device="cpu")
    config = replace(CONFIG, epochs=2, log_every=5, lr=1e-3, mix="cutmix", scale=(0.5, 1.0))

    def run() -> ProjectorFit:
        images = Pixels(halves((20, 20), size=32, channels=3), "cuda")
        learn, held = split((20, 20), 4, 0)
        projector = Projector(clip, Classes(THREE.ids[:2], THREE.names[:2]), device="cuda")
        return ProjectorFit(config, projector, images, learn, held, RULE, seed=0, device="cuda")  # type: ignore[arg-type]

    whole = run()
    states = {step: whole.state() for step in whole.run()}
    again = run()
    again.load(states[5])
    list(again.run())
    assert again.state() == whole.state()
