"""Class-incremental learning on a memory: classes arrive in parts, and a new student learns all of them each time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from raycond.core import files
from raycond.core.errors import UserError
from raycond.data.labelled import LabelledImages
from raycond.evaluate.evaluation_images import EvaluationImages
from raycond.evaluate.protocol import EvaluationProtocol
from raycond.evaluate.table import Check
from raycond.evaluate.train import Outcome, train_and_test
from raycond.methods.kernels.whitening import Preprocessing

if TYPE_CHECKING:
    from raycond.labels.registry import Labeler


def incremental(
    train: LabelledImages,
    test: LabelledImages | EvaluationImages,
    *,
    student: str,
    protocol: EvaluationProtocol,
    seed: int,
    device: str | torch.device,
    threads: int | None = None,
    labeler: Labeler | None = None,
    report: Callable[[Check], None] | None = None,
    real: Preprocessing | None = None,
) -> Outcome:
    """GDumb (Prabhu et al., ECCV 2020) on the memory `train`, as DM (arXiv 2110.04181) uses it for condensed sets.

    The classes come in `protocol.tasks` parts, in the order of `class_order`. After each part a new student is
    trained from scratch on the memory of every class seen so far and tested on the test images of those classes and
    no others. A protocol that counts steps spends as many on each student. Each student is tested once, at its end.

    In the outcome `top1` is the accuracy after the last task, when all classes are known; `best` is the MEAN of the
    accuracies after each task, which the literature calls average incremental accuracy, not a maximum. Steps and
    seconds are sums. The curve has one check a task: its `epoch` is the number of the task, from 1, its `step` all
    steps so far, its `loss` the mean over that student's training; `report` is called with each check. As every student
    has the same seed and labels keep their order, the last one is bit for bit the student that `train_and_test` makes
    of the whole memory, whatever the order of the classes. Raises UserError for more tasks than classes, for a class
    without images, and as `train_and_test` does."""
    tests = EvaluationImages.of(test) if isinstance(test, LabelledImages) else test
    if train.classes != tests.classes:
        raise UserError(f"the memory has {train.classes} classes and the test set {tests.classes}")
    curve: list[Check] = []
    seconds = 0.0
    for number, seen in enumerate(seen_classes(train.classes, protocol.tasks, seed), start=1):
        outcome = train_and_test(
            _of_classes(train, seen),
            _tests_of_classes(tests, seen),
            student=student,
            protocol=dataclasses.replace(protocol, tasks=1, checks=1),
            seed=seed,
            device=device,
            threads=threads,
            labeler=_labeler_of(labeler, seen),
            real=real,
        )
        before = curve[-1].step if curve else 0
        curve.append(Check(before + outcome.steps, float(number), outcome.top1, outcome.curve[-1].loss))
        seconds += outcome.seconds
        if report is not None:
            report(curve[-1])
    mean = sum(check.top1 for check in curve) / len(curve)
    return Outcome(curve[-1].top1, mean, curve[-1].step, seconds, tuple(curve))


def class_order(classes: int, seed: int) -> list[int]:
    """The order in which classes arrive: a function of their number and the seed, the same for every method."""
    generator = torch.Generator().manual_seed(int(files.digest(["class order", seed])[:15], 16))
    order: list[int] = torch.randperm(classes, generator=generator).tolist()
    return order


def seen_classes(classes: int, tasks: int, seed: int) -> list[list[int]]:
    """Per task the classes seen by its end, ascending. Parts differ by at most one class, the larger ones first.

    Raises UserError for more tasks than classes.
    """
    if tasks > classes:
        raise UserError(f"tasks: {classes} classes cannot come in {tasks} parts; use --set tasks={classes} or fewer")
    order = class_order(classes, seed)
    small, larger = divmod(classes, tasks)
    ends = [small * k + min(k, larger) for k in range(1, tasks + 1)]
    return [sorted(order[:end]) for end in ends]


def within(images_bytes: Sequence[int], budget: int) -> int:
    """How many images, in order, fit into `budget` bytes together; at least 1, so that a memory is never empty.

    images_bytes: encoded size of each, of at least one image. With the size of another method's set as the budget
    this makes a memory of real images of equal bytes, not of equal number.
    """
    count, total = 0, 0
    for size in images_bytes:
        total += size
        if total > budget:
            break
        count += 1
    return max(count, 1)


def _of_classes(images: LabelledImages, seen: Sequence[int]) -> LabelledImages:
    """The images of the classes `seen` (ascending), labels 0..len(seen) - 1, in the same order as before."""
    new = torch.full((images.classes,), -1)
    new[list(seen)] = torch.arange(len(seen))
    labels = new[images.labels.cpu()]
    rows = (labels >= 0).nonzero().flatten()
    labels = labels[rows]
    _require_every_class(labels, seen, "memory")
    rows = rows.to(images.images.device)
    return LabelledImages(
        images.images[rows],
        labels.to(images.labels.device),
        len(seen),
        None if images.weights is None else images.weights[rows.to(images.weights.device)],
        images.normalized,
    )


def _tests_of_classes(tests: EvaluationImages, seen: Sequence[int]) -> EvaluationImages:
    """A selection of the test images: none of them is copied."""
    chosen = tests.of_classes(seen)
    _require_every_class(chosen.labels, seen, "test set")
    return chosen


def _require_every_class(labels: Tensor, seen: Sequence[int], what: str) -> None:
    missing = (torch.bincount(labels, minlength=len(seen)) == 0).nonzero().flatten().tolist()
    if missing:
        raise UserError(f"the {what} has no image of class {seen[missing[0]]}, which class-incremental learning needs")


def _labeler_of(labeler: Labeler | None, seen: Sequence[int]) -> Labeler | None:
    """The labeler's logits of the classes `seen` only: a student that has not met a class cannot learn of it."""
    if labeler is None or labeler.logits is None:
        return labeler
    everything, columns = labeler.logits, torch.tensor(seen)

    def logits(images: Tensor) -> Tensor:
        answers = everything(images)
        return answers.index_select(1, columns.to(answers.device))

    return dataclasses.replace(labeler, logits=logits)
