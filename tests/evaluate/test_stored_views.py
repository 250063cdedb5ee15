"""Training on stored labels: they are those of the views, whatever the batch, and a teacher's but for fp16."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from raycond.core.errors import UserError
from raycond.data.classes import Classes
from raycond.evaluate import EvaluationProtocol, LabelledImages, Outcome, preset, train_and_test
from raycond.evaluate.losses import losses
from raycond.evaluate.stored_views import StoredViews, passes, store_labels
from raycond.evaluate.train import _batches
from raycond.labels.registry import Labeler
from raycond.labels.stored.labels import Encoding, StoredLabels
from raycond.models import students
from tests.support.digits import STUDENT, TEST, result, subset

CLASSES = Classes.of([str(k) for k in range(10)])
SOFT = preset("quick").override(steps=60, checks=1, loss="kl", temperature=4.0)
RECIPES = [
    {},
    {"mix": "cutmix", "shuffle": 2, "jitter": [0.3, 0.3, 0.3]},
    {"mix": "mixup", "mix_beta": 0.3, "mix_probability": 0.5, "scale": None},
]


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return students.build("convnet3-w8", classes=10, size=8, channels=1).eval()


def teacher(sharpness: float = 5.0) -> Labeler:
    net = network()
    return Labeler("online", "teacher:tiny", f"tiny {sharpness}", lambda x: sharpness * net(x).detach())


def nearest(images: LabelledImages, sharpness: float = 30.0) -> Labeler:
    """Names the label of the nearest image of a set."""
    table = images.images.flatten(1).float() / 255

    def logits(views: torch.Tensor) -> torch.Tensor:
        at = torch.cdist(views.flatten(1), table).argmin(1)
        return sharpness * F.one_hot(images.labels[at], 10).float()

    return Labeler("online", "nearest", "nearest", logits)


def store(
    folder: Path, train: LabelledImages, labeler: Labeler, protocol: EvaluationProtocol, **options: object
) -> StoredLabels:
    store_labels(
        str(folder),
        train,
        labeler=labeler,
        protocol=protocol,
        classes=CLASSES,
        device="cpu",
        **options,  # type: ignore[arg-type]
    )
    return StoredLabels(str(folder), CLASSES)


def as_labeler(labels: StoredLabels) -> Labeler:
    return Labeler("online", "stored", "stored", labels)


def run(train: LabelledImages, labeler: Labeler, protocol: EvaluationProtocol = SOFT, seed: int = 0) -> Outcome:
    return train_and_test(
        train, TEST, student=STUDENT, protocol=protocol, seed=seed, device="cpu", threads=1, labeler=labeler
    )


def views(train: LabelledImages, protocol: EvaluationProtocol, labels: StoredLabels) -> StoredViews:
    weights = torch.ones(len(train)) if train.weights is None else train.weights
    return StoredViews(train.images, train.labels, weights, 10, protocol, labels)


@pytest.mark.parametrize("changes", RECIPES, ids=str)
def test_stored_is_the_teacher_online_but_for_fp16(tmp_path: Path, changes: dict[str, object]) -> None:
    protocol, train = SOFT.override(**changes), subset(3)
    labels = store(tmp_path, train, teacher(), protocol, views=4)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    moved = LabelledImages(train.images[order], train.labels[order], 10)
    logits = teacher().logits
    assert logits is not None
    for batch in (7, 30):  # no batch is one that was labelled, nor is the order of the set
        p = protocol.override(batch=batch)
        stream = views(moved, p, labels)
        for index in _batches(30, p, 12, torch.Generator().manual_seed(1)):
            seen, targets = stream.batch(index)
            assert targets.soft_of_mixed_view
            assert targets.soft is not None
            assert torch.allclose(targets.soft, logits(seen), rtol=2**-10, atol=1e-3)


def test_a_student_cannot_tell_stored_labels_from_the_teacher_on_the_same_views(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    protocol, train = SOFT.override(mix="cutmix", steps=30, checks=5), subset(5)
    labels = store(tmp_path, train, teacher(), protocol)
    found = run(train, as_labeler(labels), protocol)
    assert result(run(train, as_labeler(StoredLabels(str(tmp_path), CLASSES)), protocol)) == result(found)
    stored_batch, logits = StoredViews.batch, teacher().logits
    assert logits is not None

    def online(self: StoredViews, index: torch.Tensor) -> object:
        seen, targets = stored_batch(self, index)
        return seen, dataclasses.replace(targets, soft=logits(seen))

    monkeypatch.setattr(StoredViews, "batch", online)
    live = run(train, as_labeler(labels), protocol)
    assert [c.loss for c in found.curve] == pytest.approx([c.loss for c in live.curve], rel=2e-3)
    assert found.top1 == pytest.approx(live.top1, abs=3)


def test_only_the_stored_labels_are_learnt(tmp_path: Path) -> None:
    train = subset(20)
    labels = store(tmp_path, train, nearest(train), SOFT)
    wrong = LabelledImages(train.images, (train.labels + 1) % 10, 10)
    found = run(wrong, as_labeler(labels))
    assert found.top1 > 60
    assert result(found) == result(run(train, as_labeler(labels)))
    assert run(train, as_labeler(labels), seed=1).curve != found.curve  # a seed still makes another student


@pytest.mark.parametrize("encoding", [Encoding(1), Encoding(3), Encoding(3, "minimum")])
def test_top_k_labels_train_too(tmp_path: Path, encoding: Encoding) -> None:
    train = subset(10)
    labels = store(tmp_path, train, nearest(train), SOFT, encoding=encoding, views=2)  # few views, seen again and again
    assert run(train, as_labeler(labels)).top1 > 50


def test_each_pass_takes_the_next_view() -> None:
    assert [passes(SOFT.override(epochs=7, batch=4), n) for n in (3, 10, 100)] == [7, 7, 7]
    assert [passes(SOFT.override(steps=7, batch=4), n) for n in (3, 4, 10, 28, 29)] == [7, 7, 3, 1, 1]


@pytest.mark.parametrize("budget", [{"steps": 10}, {"epochs": 4}])
def test_every_image_shows_its_views_in_turn(tmp_path: Path, budget: dict[str, int]) -> None:
    protocol, train = SOFT.override(batch=7, **budget), subset(1)
    told: list[tuple[int, int]] = []

    class Told(StoredLabels):
        def logits(self, view: int, rows: torch.Tensor) -> torch.Tensor:
            told.extend((int(row), view) for row in rows)
            return super().logits(view, rows)

    labels = store(tmp_path, train, teacher(), protocol, views=3)
    labels.__class__ = Told
    stream = views(train, protocol, labels)
    for index in _batches(10, protocol, protocol.total_steps(10), torch.Generator().manual_seed(0)):
        stream.batch(index)
    for image in range(10):
        found = [view for row, view in told if row == image]
        assert found == [k % 3 for k in range(len(found))]
    assert len(told) == (70 if "steps" in budget else 40)


@pytest.mark.parametrize("mix_weights", ["own", "mix"])
def test_the_hard_part_of_a_mixed_label(tmp_path: Path, mix_weights: str) -> None:
    protocol = SOFT.override(mix="cutmix", loss="mse+ce", ce_weight=0.5, mix_weights=mix_weights)
    train = subset(3, torch.rand(30) + 0.5)
    stream = views(train, protocol, store(tmp_path, train, teacher(), protocol, views=2))
    index = torch.arange(12)
    _, targets = stream.batch(index)
    seen = stream.views(index, torch.zeros_like(index))
    student = torch.randn(12, 10)
    assert seen.second is not None
    assert train.weights is not None
    assert targets.soft is not None
    own, other = (F.cross_entropy(student, train.labels[r], reduction="none") for r in (index, seen.second))
    soft = targets.soft - targets.soft.mean(1, keepdim=True)
    expected = (student - soft).square().mean(1) + 0.5 * (seen.lam * own + (1 - seen.lam) * other)
    assert torch.allclose(losses(student, targets, protocol), expected, atol=1e-5)
    a, b = train.weights[index], train.weights[seen.second]
    wanted = seen.lam * a + (1 - seen.lam) * b if mix_weights == "mix" else a
    assert torch.allclose(targets.weights, wanted)


def cases() -> list[
    tuple[Callable[[LabelledImages, EvaluationProtocol], tuple[LabelledImages, EvaluationProtocol]], str]
]:
    def fewer(t: LabelledImages) -> LabelledImages:
        return LabelledImages(t.images[:20], t.labels[:20], 10)

    return [
        (lambda t, p: (t, p.override(scale=[0.1, 1.0])), r"views with scale=.*use --set scale=.*or store labels"),
        (lambda t, p: (t, p.override(mix="mixup")), "views with mix=cutmix"),
        (lambda t, p: (t, p.override(dsa="flip")), "--set dsa=null"),
        (lambda t, p: (t, p.override(loss="mse+ce")), "store them with rest=minimum, or use loss=kl"),
        (lambda t, p: (fewer(t), p), "mixed .cutmix. from 30 images, and the training set has 20"),
        (lambda _, p: (subset(4), p), "10 of 40 images have no stored labels"),
    ]


@pytest.mark.parametrize(("change", "message"), cases())
def test_labels_that_do_not_belong_to_the_training(tmp_path: Path, change: object, message: str) -> None:
    protocol, train = SOFT.override(mix="cutmix"), subset(3)
    labels = store(tmp_path, train, teacher(), protocol, encoding=Encoding(2), views=1)
    assert callable(change)
    other, wanted = change(train, protocol)
    with pytest.raises(UserError, match=message):
        run(other, as_labeler(labels), wanted)


def test_labels_of_views_that_were_drawn_in_another_way(tmp_path: Path) -> None:
    stored = store(tmp_path, subset(2), teacher(), SOFT, views=1)
    stored.about.pop("drawn")  # as labels of before have none
    with pytest.raises(UserError, match="another version of raycond drew .*store labels again"):
        run(subset(2), as_labeler(stored))


def test_classes_of_a_task_are_not_those_of_the_labels(tmp_path: Path) -> None:
    train = subset(3)
    labels = store(tmp_path, train, teacher(), SOFT, views=1)
    five = LabelledImages(train.images[:15], train.labels[:15], 5)
    with pytest.raises(UserError, match="stored labels are of 10 classes, and these students learn 5"):
        StoredViews(five.images, five.labels, torch.ones(15), 5, SOFT, labels)


def test_unmixed_labels_serve_a_part_of_the_set(tmp_path: Path) -> None:
    labels, train = store(tmp_path, subset(3), teacher(), SOFT, views=2), subset(3)
    part = LabelledImages(train.images[7:19], train.labels[7:19], 10)
    seen, targets = views(part, SOFT, labels).batch(torch.arange(12))
    logits = teacher().logits
    assert logits is not None
    assert targets.soft is not None
    assert torch.allclose(targets.soft, logits(seen), rtol=2**-10, atol=1e-3)


def test_a_labeler_must_label_views(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="labeler hard: labels of views come from one that labels views"):
        store(tmp_path, subset(1), Labeler("hard", "hard", "hard"), SOFT)


@pytest.mark.gpu
@pytest.mark.usefixtures("full_float32")
def test_labels_stored_and_learnt_on_cuda(tmp_path: Path) -> None:
    protocol, train = SOFT.override(mix="cutmix", steps=8), subset(3)
    net = network().cuda()
    labeler = Labeler("online", "teacher:tiny", "tiny 5.0", lambda x: 5 * net(x).detach())
    store_labels(
        str(tmp_path / "cuda"), train, labeler=labeler, protocol=protocol, classes=CLASSES, device="cuda", views=2
    )
    there = StoredLabels(str(tmp_path / "cuda"), CLASSES)
    here = store(tmp_path / "cpu", train, teacher(), protocol, views=2)
    rows = torch.arange(len(train))
    for view in range(2):
        actual = there.logits(view, rows.cuda())
        assert actual.is_cuda
        torch.testing.assert_close(actual.cpu(), here.logits(view, rows), rtol=2**-9, atol=5e-3)
    options: dict[str, object] = {"student": STUDENT, "protocol": protocol, "seed": 0, "device": "cuda"}
    first, second = (
        result(train_and_test(train, TEST, labeler=as_labeler(there), **options))  # type: ignore[arg-type]
        for _ in range(2)
    )
    assert first == second
