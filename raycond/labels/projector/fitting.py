"""Fit a projector: MSE to weak teachers' logits + λ · CE on augmented views, with early stopping; resumable.

HeLlO, arXiv 2408.08201: "multi-weak-teacher knowledge distillation". Optimiser, schedule, views and when to stop are
not published; what is done here is in `raycond.labels.projector.options.FitConfig`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import torch as safetensors
from torch import Tensor

from raycond.data.class_arrays import Pixels
from raycond.labels.projector.delta import Dtype, pack, unpack
from raycond.labels.projector.network import Projector
from raycond.labels.projector.options import FitConfig
from raycond.labels.projector.weak_teachers import Teachers, centred
from raycond.training import augment
from raycond.training.augment.augmentation import Augmentation
from raycond.training.resumable import Resumable, entries_of, steps_of

HELD_OUT_BATCH = 256


@dataclass(frozen=True)
class Check:
    """How a projector does on the held-out images as they are. agreement: same first class as the teachers, percent;
    kl: mean of KL(teachers ‖ projector), nats; mse: of what is fitted; accuracy, teachers: how
    often it and the teachers give the label, percent. Without teachers the labels stand for them."""

    step: int
    agreement: float
    kl: float
    mse: float
    accuracy: float
    teachers: float


class ProjectorFit(Resumable):
    """The fit of a projector's delta, as a training that can go on.

    projector: a module with `delta` and `load_delta` (`raycond.labels.projector.network`), of which only the delta
    needs gradients. learn, held: rows of `pixels` to learn from and to check on. teachers: None for the labels alone.
    """

    what = "fit"

    def __init__(
        self,
        config: FitConfig,
        projector: Any,
        pixels: Pixels,
        learn: Tensor,
        held: Tensor,
        teachers: Teachers | None,
        *,
        seed: int,
        device: str | torch.device,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.config, self.projector, self.pixels, self.teachers = config, projector, pixels, teachers
        self.learn = learn
        # a worker may have none, and networks need not take an empty batch
        self.held = [rows for rows in held[rank::world].split(HELD_OUT_BATCH) if len(rows)]
        total = steps_of(config.epochs, len(learn), config.batch)
        projector.train().to(memory_format=torch.channels_last)
        super().__init__(config, projector, total=total, seed=seed, device=device, rank=rank, world=world)
        self.every = math.ceil(total / config.checks)
        self.augmentation = Augmentation(config.scale, config.shift, config.flip)
        self.checks: list[Check] = []
        self.best: dict[str, Tensor] = {}
        self._targets: list[Tensor] = []

    @property
    def count(self) -> int:
        return len(self.learn)

    @property
    def tensors(self) -> dict[str, Tensor]:
        return dict(zip(self.names, self.parameters, strict=True))

    def run(self) -> Iterator[int]:
        if not self.checks:
            self._check()
        yield from super().run()

    # ---- a step

    def loss_of(self, rows: Tensor) -> Tensor:
        views, labels, targets = self._views(self.learn[rows])
        with self.precision():
            logits = self.wrapped(views)
        logits = logits.float()
        if targets is None:
            return F.cross_entropy(logits, labels)
        loss = F.mse_loss(self._matched(logits), self._matched(targets))
        return loss + self.config.ce * F.cross_entropy(logits, labels) if self.config.ce else loss

    def _matched(self, logits: Tensor) -> Tensor:
        if self.config.targets == "centred":
            return centred(logits)
        return logits.softmax(1) if self.config.targets == "probabilities" else logits

    def _views(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Images in [0, 1], labels as shares of the classes, and the teachers' logits."""
        whole, hard = self.pixels.take(rows)
        shares = F.one_hot(hard, self.pixels.classes).float()
        parts, labels = [], []
        for (images, random), said in zip(self.parts(whole), shares.chunk(self.part_count), strict=True):
            views = self.augmentation(images, random)
            if self.config.mix != "none":
                mix = augment.cutmix if self.config.mix == "cutmix" else augment.mixup
                views, partner, own = mix(views, self.config.mix_beta, random)
                said = own * said + (1 - own) * said[partner]
            parts.append((views, random))
            labels.append(said)
        targets = self.teachers(parts) if self.teachers else None
        return torch.cat([views for views, _ in parts]), torch.cat(labels), targets

    # ---- held-out images

    def due(self) -> bool:
        return self.step % self.every == 0 or self.step == self.total

    def reached(self) -> None:
        if self.due():
            self._check()

    @property
    def stopped(self) -> bool:
        patience = self.config.patience
        return super().stopped or bool(patience and self.stale >= patience)

    @property
    def stale(self) -> int:
        """Checks since the best one of the fit; its start, which large first steps may leave far behind, aside."""
        later = self.checks[1:]
        return len(later) - 1 - later.index(best_of(later)) if later else 0

    @torch.no_grad()
    def _check(self) -> None:
        """In full precision, as the projector will be used. Every worker looks at its share and learns the sum."""
        if not self._targets:
            self._targets = [self._answer(rows) for rows in self.held]
        sums = torch.zeros(6, dtype=torch.float64, device=self.device)
        for rows, answer in zip(self.held, self._targets, strict=True):
            images, labels = self.pixels.take(rows)
            logits = self.projector(images).float()
            said = logits.argmax(1)
            if self.teachers is None:
                kl, mse, right = F.cross_entropy(logits, labels, reduction="sum"), logits.new_zeros(()), labels
            else:
                kl = F.kl_div(logits.log_softmax(1), answer.softmax(1), reduction="sum")
                mse = (self._matched(logits) - self._matched(answer)).square().mean(1).sum()
                right = answer.argmax(1)
            found = ((said == right).sum(), kl, mse, (said == labels).sum(), (right == labels).sum())
            sums += torch.stack([torch.as_tensor(len(rows), device=self.device), *found]).to(sums)
        if self.world > 1:
            torch.distributed.all_reduce(sums)
        agreed, kl_mean, mse_mean, own, theirs = (sums[1:] / sums[0]).tolist()
        check = Check(self.step, 100 * agreed, kl_mean, mse_mean, 100 * own, 100 * theirs)
        self.checks.append(check)
        if best_of(self.checks) is check:
            self.best = {name: value.detach().clone() for name, value in self.projector.delta().items()}

    def _answer(self, rows: Tensor) -> Tensor:
        images, labels = self.pixels.take(rows)
        return labels if self.teachers is None else self.teachers.together(images)

    # ---- what is kept

    def extra(self) -> dict[str, Tensor]:
        checks = torch.tensor([astuple(check) for check in self.checks], dtype=torch.float64).view(-1, 6)
        return {"checks": checks, **{f"best.{name}": value for name, value in self.best.items()}}

    def restore(self, extra: dict[str, Tensor]) -> None:
        self.checks = _checks(extra)
        self.best = {name: value.to(self.device) for name, value in entries_of(extra, "best").items()}


def best_of(checks: list[Check]) -> Check:
    """The first with the least KL."""
    return min(checks, key=lambda check: check.kl)


def _checks(extra: dict[str, Tensor]) -> list[Check]:
    return [Check(int(step), *values) for step, *values in extra["checks"].tolist()]


@dataclass(frozen=True)
class Rounding:
    """What storing a delta in few bits changes on some images: the share of first classes, percent, and the mean of
    KL(unrounded ‖ rounded), nats."""

    images: int
    changed: float
    kl: float


@torch.no_grad()
def rounding_of(projector: Projector, delta: Mapping[str, Tensor], dtype: Dtype, images: Tensor) -> Rounding:
    """Of a delta of `projector`, which has the rounded one afterwards."""
    answers = []
    for values in (delta, unpack(pack(delta, dtype))):
        projector.load_delta(values)
        answers.append(torch.cat([projector(part).float() for part in images.split(HELD_OUT_BATCH)]))
    whole, rounded = answers
    kl = F.kl_div(rounded.log_softmax(1), whole.log_softmax(1), reduction="batchmean", log_target=True)
    changed = (whole.argmax(1) != rounded.argmax(1)).float().mean()
    return Rounding(len(images), 100 * float(changed), max(0.0, float(kl)))


@dataclass(frozen=True)
class Fitted:
    """delta: of the best check. curve: (step, mean loss since the entry before). checks: the first at step 0."""

    delta: dict[str, Tensor]
    curve: list[tuple[int, float]]
    checks: list[Check]

    @property
    def best(self) -> Check:
        return best_of(self.checks)

    @property
    def steps(self) -> int:
        """That were made."""
        return self.curve[-1][0] if self.curve else 0


def finished(data: bytes) -> Fitted:
    """From the `state` of a fit that has ended."""
    tensors = safetensors.load(data)
    extra = entries_of(tensors, "extra")
    return Fitted(entries_of(extra, "best"), [(int(s), loss) for s, loss in tensors["curve"].tolist()], _checks(extra))
