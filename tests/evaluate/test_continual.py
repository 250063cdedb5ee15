"""Classes in parts: who is trained on what, tested on what, and what is reported."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from raycond.core.errors import UserError
from raycond.evaluate import LabelledImages, Outcome, preset, train_and_test
from raycond.evaluate import continual as module
from raycond.evaluate.continual import class_order, incremental, seen_classes, within
from raycond.evaluate.evaluation_images import EvaluationImages
from raycond.evaluate.table import Check
from raycond.labels.registry import Labeler
from tests.support.digits import TEST, subset

STUDENT = "convnet3-w16"
MEMORY = subset(10)


def run(memory: LabelledImages = MEMORY, test: LabelledImages = TEST, seed: int = 0, **changes: Any) -> Outcome:
    more = {name: changes.pop(name) for name in ("labeler", "report") if name in changes}
    protocol = preset("quick").override(**({"steps": 40, "tasks": 5} | changes))
    return incremental(memory, test, student=STUDENT, protocol=protocol, seed=seed, device="cpu", threads=1, **more)


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    return run()


def test_one_check_a_task_and_all_is_summed(outcome: Outcome) -> None:
    assert [check.epoch for check in outcome.curve] == [1, 2, 3, 4, 5]
    assert [check.step for check in outcome.curve] == [40, 80, 120, 160, 200]
    assert outcome.steps == 200
    assert outcome.top1 == outcome.curve[-1].top1
    assert outcome.best == pytest.approx(sum(check.top1 for check in outcome.curve) / 5)
    assert outcome.curve[0].top1 > 90  # two classes are easy
    assert outcome.top1 > 60
    assert all(check.loss > 0 for check in outcome.curve)


def test_last_task_is_a_plain_training_on_the_whole_memory(outcome: Outcome) -> None:
    for checks in (1, 4):
        protocol = preset("quick").override(steps=40, checks=checks)
        plain = train_and_test(MEMORY, TEST, student=STUDENT, protocol=protocol, seed=0, device="cpu", threads=1)
        assert outcome.top1 == plain.top1
    assert run(tasks=1).top1 == outcome.top1


def test_same_seed_same_outcome_and_report_is_told(outcome: Outcome) -> None:
    told: list[Check] = []
    again = run(report=told.append)
    assert dataclasses.replace(again, seconds=0.0) == dataclasses.replace(outcome, seconds=0.0)
    assert tuple(told) == outcome.curve


def spy(monkeypatch: pytest.MonkeyPatch) -> list[tuple[LabelledImages, EvaluationImages, Any]]:
    calls = []

    def instead(train: LabelledImages, test: EvaluationImages, *, labeler: Any, **_: Any) -> Outcome:
        calls.append((train, test, labeler))
        return Outcome(50.0, 50.0, 1, 1.5, (Check(1, 1.0, 50.0, 0.1),))

    monkeypatch.setattr(module, "train_and_test", instead)
    return calls


def numbered(labels: list[int], classes: int, weights: Tensor | None = None) -> LabelledImages:
    """Images whose pixels say their row."""
    images = torch.arange(len(labels), dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 4, 4)
    return LabelledImages(images, torch.tensor(labels), classes, weights)


def test_only_seen_classes_are_trained_and_tested_on(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = spy(monkeypatch)
    train_labels, test_labels = [4, 0, 3, 1, 2, 2, 4, 1], [0, 1, 2, 3, 4, 4, 3, 2, 1, 0]
    weights = torch.arange(8.0)
    outcome = run(numbered(train_labels, 5, weights), numbered(test_labels, 5), seed=3, tasks=3)
    assert outcome.seconds == 4.5
    for (train, test, _), seen in zip(calls, seen_classes(5, 3, 3), strict=True):
        ((tested, _),) = test.batches(len(test))
        for part, images, labels in ((train, train.images, train_labels), (test, tested, test_labels)):
            rows = images[:, 0, 0, 0].tolist()
            assert rows == [i for i, label in enumerate(labels) if label in seen]
            assert [seen[label] for label in part.labels.tolist()] == [labels[row] for row in rows]
            assert part.classes == len(seen)
        assert train.weights is not None
        assert train.weights.tolist() == train.images[:, 0, 0, 0].tolist()


def soft(logits: Callable[[Tensor], Tensor]) -> Labeler:
    return Labeler("online", "teacher:x", "x", logits)


def test_labeler_speaks_of_seen_classes_only(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = spy(monkeypatch)
    labeler = soft(lambda images: torch.arange(5.0).expand(len(images), 5))
    run(numbered([0, 1, 2, 3, 4], 5), numbered([0, 1, 2, 3, 4], 5), tasks=3, labeler=labeler)
    for (_, _, given), seen in zip(calls, seen_classes(5, 3, 0), strict=True):
        assert given.logits(torch.zeros(2, 1, 4, 4)).tolist() == [[float(c) for c in seen]] * 2
        assert (given.mode, given.name, given.digest) == ("online", "teacher:x", "x")


def test_soft_labels_train() -> None:
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(64, 10, generator=generator)
    labeler = soft(lambda images: images.flatten(1) @ matrix)
    assert len(run(steps=3, labeler=labeler).curve) == 5


def test_parts_are_even_and_the_order_is_the_seeds() -> None:
    assert [len(seen) for seen in seen_classes(10, 5, 0)] == [2, 4, 6, 8, 10]
    assert [len(seen) for seen in seen_classes(11, 4, 0)] == [3, 6, 9, 11]
    assert [len(seen) for seen in seen_classes(3, 3, 0)] == [1, 2, 3]
    assert sorted(class_order(100, 1)) == list(range(100))
    assert class_order(100, 1) == class_order(100, 1) != class_order(100, 2)
    for seen, more in zip(seen_classes(10, 5, 4), seen_classes(10, 5, 4)[1:], strict=False):
        assert set(seen) < set(more)


def test_what_cannot_be_done_is_said() -> None:
    with pytest.raises(UserError, match="3 classes cannot come in 5 parts"):
        run(numbered([0, 1, 2], 3), numbered([0, 1, 2], 3))
    with pytest.raises(UserError, match="the memory has no image of class 1"):
        run(numbered([0, 2], 3), numbered([0, 1, 2], 3), tasks=1)
    with pytest.raises(UserError, match="the test set has no image of class 2"):
        run(numbered([0, 1, 2], 3), numbered([0, 1], 3), tasks=1)
    with pytest.raises(UserError, match="3 classes and the test set 2"):
        run(numbered([0, 1, 2], 3), numbered([0, 1], 2), tasks=1)


def test_within_counts_images_in_order() -> None:
    assert within([10, 20, 30], 60) == 3
    assert within([10, 20, 30], 59) == 2
    assert within([10, 20, 30, 1], 31) == 2
    assert within([10, 20], 5) == 1
    assert within([10, 20], 10**9) == 2
