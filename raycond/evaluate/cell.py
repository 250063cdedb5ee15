"""One cell of an evaluation: take the training set of a method, train a student, test it. Needs only files."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from raycond.core.device import require_device
from raycond.core.errors import UserError
from raycond.data.classes import Classes
from raycond.data.images import Decoding
from raycond.data.labelled import pixels
from raycond.evaluate.continual import incremental
from raycond.evaluate.evaluation_images import EvaluationImages
from raycond.evaluate.method_names import former_name
from raycond.evaluate.protocol import EvaluationProtocol
from raycond.evaluate.results import AT_RATE
from raycond.evaluate.table import Check, Row
from raycond.evaluate.train import train_and_test
from raycond.evaluate.training_sets import TrainingImages
from raycond.labels.registry import open_labeler
from raycond.sets.normalization import Normalization

TESTED = "bilinear, center crop"
"""How test images are decoded, whatever the set's own were: a part of what an accuracy depends on."""


@dataclass(frozen=True)
class Cell:
    """One training of a grid: method × images per class × student × seed under a protocol. Small and picklable."""

    method: str
    """What is trained on, as `raycond.evaluate.method_names` names it."""

    ipc: int | None
    """Images per class; None for the whole data."""

    student: str
    """The network, as `raycond.models.students` names it."""

    seed: int
    """Of initial weights, batches and augmentation."""

    protocol: EvaluationProtocol
    """The recipe of training and test."""

    classes: Classes
    """In label order."""

    options: Decoding
    """How real training images are decoded; its size is that of the condensed set."""

    train: TrainingImages
    """Where the training images come from."""

    test: str
    """A decoded split whose images have `protocol.test_side(options.size)` pixels a side."""

    device: str
    """Where the student is trained and tested."""

    labeler: str = "hard"
    """What the student learns, as `open_labeler` takes it."""

    set: str = ""
    """As in `Row`."""

    weights: str = ""
    """As in `Row`."""

    variant: str = "own"
    """As in `Row`."""

    normalization: Normalization | None = None
    """By the constants of the real images, for protocols that normalize by them."""

    @property
    def name(self) -> str:
        """Unique in a grid, for people."""
        return self._named(self.method)

    @property
    def former(self) -> str:
        """The name by which records know this training: that of earlier versions, whose work so is found again."""
        return self._named(former_name(self.method))

    @property
    def slug(self) -> str:
        """The name for files."""
        return re.sub(r"[^\w.-]+", "-", self.former).strip("-")

    def _named(self, method: str) -> str:
        ipc = "" if self.ipc is None else f" ipc{self.ipc}"
        variant = "" if self.variant == "own" else f" {self.variant}"
        return f"{method}{ipc} {self.student} seed{self.seed}{variant}"


def run_cell(cell: Cell, report: Callable[[Check], None] | None = None) -> Row:
    """Train and test; `report` is called with every check. On a CPU one thread, so that cells run side by side."""
    require_device(cell.device)
    cuda = cell.device.startswith("cuda")
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    split = pixels(cell.test, len(cell.classes))
    view = cell.protocol.view_size or cell.options.size
    if (side := split.images.shape[-1]) < view:
        raise UserError(f"{cell.test}: test images of {side} pixels have no central {view}")
    tests = EvaluationImages.of(split, crop=view if side > view else None)
    labeler = open_labeler(cell.labeler, classes=cell.classes, device=cell.device)
    train = cell.train.load(len(cell.classes), cell.options)
    real = None if cell.normalization is None else cell.normalization.open(tests.shape)
    evaluated = incremental if cell.protocol.tasks > 1 else train_and_test
    outcome = evaluated(
        train,
        tests,
        student=cell.student,
        protocol=cell.protocol,
        seed=cell.seed,
        device=cell.device,
        threads=None if cuda else 1,
        labeler=labeler,
        report=report,
        real=real,
    )
    return Row(
        method=cell.method,
        ipc=cell.ipc,
        student=cell.student,
        seed=cell.seed,
        top1=outcome.top1,
        best=outcome.best,
        steps=outcome.steps,
        seconds=outcome.seconds,
        images=len(train),
        protocol=cell.protocol.name,
        set=cell.set,
        weights=cell.weights,
        labeler=labeler.name,
        variant=cell.variant,
        memory=torch.cuda.max_memory_reserved() if cuda else peak_memory(),
        curve=outcome.curve,
    )


def peak_memory() -> int:
    """The most resident bytes this process has had; 0 where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def as_hard(cell: Cell) -> Cell:
    """The same training with hard labels, and as in DD-Ranking's HLR without mixing and without DSA or its like."""
    protocol = cell.protocol.override(loss="cross-entropy", mix="none", dsa=None, diffaug=None)
    return replace(cell, labeler="hard", protocol=protocol, variant="hard")


def tuned(cell: Cell, lrs: Sequence[float]) -> list[Cell]:
    """The same training at each learning rate; scores take the best of them, as DD-Ranking does."""
    return [
        replace(cell, protocol=cell.protocol.override(lr=lr), variant=f"{cell.variant}{AT_RATE}{lr:g}") for lr in lrs
    ]


def as_plain(cell: Cell) -> Cell:
    """The same training without augmentation (DD-Ranking's ARS)."""
    return replace(cell, protocol=cell.protocol.without_augmentation(), variant="plain")
