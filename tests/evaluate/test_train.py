from __future__ import annotations

import dataclasses
from collections.abc import Callable
from itertools import chain
from typing import Any

import pytest
import torch

from raycond.core.errors import RaycondError, UserError
from raycond.data.labelled import class_mean_one, pixel_statistics
from raycond.evaluate import Check, LabelledImages, Outcome, preset, train_and_test
from raycond.evaluate import train as train_module
from raycond.evaluate.train import STREAMED, streams, trained
from raycond.labels.registry import Labeler
from raycond.sets.normalization import channels
from tests.support.digits import STUDENT, TEST, TRAIN, result, subset


def run(train: LabelledImages, seed: int = 0, **changes: object) -> Outcome:
    protocol = preset("quick").override(**changes)
    return train_and_test(train, TEST, student=STUDENT, protocol=protocol, seed=seed, device="cpu", threads=1)


def test_quick_learns_digits_and_more_images_help() -> None:
    full, ten = run(TRAIN), run(subset(10))
    assert full.top1 > 95
    assert 80 < ten.top1 < full.top1
    assert full.steps == ten.steps == preset("quick").steps
    assert (full.curve[-1].step, full.curve[-1].top1) == (full.steps, full.top1)
    assert full.best == max(check.top1 for check in full.curve)
    assert full.curve[0].loss > full.curve[-1].loss > 0
    assert full.curve[-1].epoch == pytest.approx(200 * 64 / len(TRAIN))
    assert len(full.curve) == preset("quick").checks


def test_same_seed_same_bits_whatever_was_drawn_before() -> None:
    few = {"steps": 20, "checks": 4}
    first = run(TRAIN, **few)
    torch.rand(17)
    assert result(run(TRAIN, **few)) == result(first)
    assert result(run(TRAIN, seed=1, **few)).curve != first.curve


def test_global_state_is_put_back() -> None:
    torch.manual_seed(5)
    state, threads = torch.random.get_rng_state(), torch.get_num_threads()
    run(subset(1), steps=2)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("value", [1.0, 0.3, 7.0])
def test_equal_weights_are_bit_for_bit_no_weights(value: float) -> None:
    few = {"steps": 30, "checks": 3}
    weighted = run(subset(10, torch.full((100,), value)), **few)
    assert result(weighted) == result(run(subset(10), **few))


def test_weight_zero_silences_poisoned_labels() -> None:
    clean = subset(20)

    def poisoned(by: int, weight: float) -> LabelledImages:
        labels = torch.cat([clean.labels, (clean.labels + by) % 10])
        weights = torch.cat([torch.ones(200), torch.full((200,), weight)])
        return LabelledImages(torch.cat([clean.images, clean.images]), labels, 10, weights)

    few = {"steps": 40, "checks": 2}
    silenced = run(poisoned(1, 0.0), **few)
    assert result(silenced) == result(run(poisoned(2, 0.0), **few))  # what a silenced label says does not matter
    heard = run(poisoned(1, 1.0), **few)
    assert silenced.top1 > heard.top1 + 10
    assert result(run(poisoned(1, 0.0), weights="none", **few)) == result(heard)


def test_only_weights_as_given_feel_the_scale_between_classes() -> None:
    few = {"steps": 30, "checks": 3, "scale": None}
    plain = subset(10)
    per_class = torch.where(plain.labels < 5, 4.0, 1.0)
    weighted = subset(10, per_class)
    assert result(run(weighted, **few)) == result(run(plain, **few))
    assert run(weighted, weights="given", **few).curve != run(plain, **few).curve


def test_class_mean_one() -> None:
    labels = torch.tensor([0, 0, 2, 2, 2])
    weights = class_mean_one(torch.tensor([1.0, 3.0, 5.0, 5.0, 20.0]), labels)
    assert torch.allclose(weights, torch.tensor([0.5, 1.5, 0.5, 0.5, 2.0]))
    with pytest.raises(UserError, match="class 2"):
        class_mean_one(torch.tensor([1.0, 1, 0, 0, 0]), labels)


def test_pixel_statistics_match_torch_and_ignore_chunks() -> None:
    images = torch.randint(0, 256, (3000, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images[:, 2] = 7
    mean, std = pixel_statistics(images)
    values = images.double()
    assert torch.allclose(mean.double(), values.mean((0, 2, 3)), rtol=1e-6)
    assert torch.allclose(std.double()[:2], values.std((0, 2, 3), correction=0)[:2], rtol=1e-6)
    assert float(std[2]) == 1.0


def test_epochs_see_every_image_once() -> None:
    from raycond.evaluate.train import _batches

    def indices(n: int, **budget: int) -> list[list[int]]:
        protocol = preset("quick").override(batch=4, **budget)
        generator = torch.Generator().manual_seed(0)
        return [b.tolist() for b in _batches(n, protocol, protocol.total_steps(n), generator)]

    by_epoch = indices(10, epochs=2)
    assert [len(b) for b in by_epoch] == [4, 4, 2, 4, 4, 2]
    assert sorted(chain(*by_epoch[:3])) == sorted(chain(*by_epoch[3:])) == list(range(10))
    by_step = indices(10, steps=5)
    assert [len(b) for b in by_step] == [4] * 5
    assert sorted(chain(*by_step)) == sorted([*range(10), *range(10)])
    assert [sorted(b) for b in indices(3, steps=4)] == [[0, 1, 2]] * 4
    assert [len(b) for b in indices(9, epochs=2)] == [4, 5, 4, 5]  # BatchNorm has no variance of one image
    assert [len(b) for b in indices(1, epochs=2)] == [1, 1]


def test_sgd_by_epochs_also_learns() -> None:
    changes = {"optimizer": "sgd", "momentum": 0.9, "lr": 0.1, "epochs": 20, "schedule": "constant"}
    outcome = run(subset(20), **changes)
    assert outcome.steps == 20 * 4  # 200 images, batch 64
    assert outcome.top1 > 70


def test_a_diverging_run_is_an_error() -> None:
    with pytest.raises(RaycondError, match="seed 3: the loss is nan"):
        run(TRAIN, seed=3, optimizer="sgd", momentum=0.9, lr=1e20, steps=8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": torch.zeros(2, 1, 8, 8, dtype=torch.int16)}, "uint8 or float32"),
        ({"images": torch.zeros(2, 1, 8, 9, dtype=torch.uint8)}, "square"),
        ({"labels": torch.tensor([0, 3])}, "labels go from 0 to 3"),
        ({"labels": torch.tensor([0])}, "shape"),
        ({"weights": torch.tensor([1.0, -1.0])}, "negative"),
        ({"weights": torch.tensor([1.0, float("nan")])}, "finite"),
    ],
)
def test_parts_that_do_not_fit_are_named(change: dict[str, torch.Tensor], message: str) -> None:
    parts = {"images": torch.zeros(2, 1, 8, 8, dtype=torch.uint8), "labels": torch.tensor([0, 1])} | change
    with pytest.raises(UserError, match=message):
        LabelledImages(classes=3, **parts)


def test_sets_must_fit_each_other() -> None:
    tall = LabelledImages(torch.zeros(10, 1, 9, 9, dtype=torch.uint8), torch.arange(10), 10)
    with pytest.raises(UserError, match=r"1x9x9.*1x8x8"):
        run(tall)
    eleven = dataclasses.replace(subset(1), classes=11)
    with pytest.raises(UserError, match="11 classes"):
        run(eleven)


def labeler(mode: str, logits: object = None) -> Labeler:
    return Labeler(mode, mode, mode, logits)  # type: ignore[arg-type]


def one_hot_by_pixels(sharpness: float = 50.0) -> Callable[[torch.Tensor], torch.Tensor]:
    """Logits that name the label of the nearest training image: a perfect teacher of un-augmented images."""
    table = TRAIN.images.flatten(1).float() / 255

    def logits(images: torch.Tensor) -> torch.Tensor:
        nearest = torch.cdist(images.flatten(1), table).argmin(1)
        return sharpness * torch.nn.functional.one_hot(TRAIN.labels[nearest], 10).float()

    return logits


def test_fixed_soft_labels_that_say_the_label_are_hard_labels() -> None:
    few = {"steps": 30, "checks": 3}
    hard = run(subset(10), **few)
    protocol = preset("quick").override(**few)
    common = {"student": STUDENT, "protocol": protocol, "seed": 0, "device": "cpu", "threads": 1}
    fixed = train_and_test(subset(10), TEST, labeler=labeler("fixed", one_hot_by_pixels(200.0)), **common)  # type: ignore[arg-type]
    assert [c.top1 for c in fixed.curve] == [c.top1 for c in hard.curve]
    assert [c.loss for c in fixed.curve] == pytest.approx([c.loss for c in hard.curve], rel=1e-4)
    assert result(train_and_test(subset(10), TEST, labeler=labeler("hard"), **common)) == result(hard)  # type: ignore[arg-type]


def test_an_online_teacher_labels_the_view_that_the_student_sees() -> None:
    seen: list[torch.Tensor] = []

    def logits(images: torch.Tensor) -> torch.Tensor:
        seen.append(images)
        return one_hot_by_pixels()(images)

    protocol = preset("quick").override(steps=60, loss="kl", temperature=4.0, mix="cutmix")
    outcome = train_and_test(
        subset(20),
        TEST,
        student=STUDENT,
        protocol=protocol,
        seed=0,
        device="cpu",
        threads=1,
        labeler=labeler("online", logits),
    )
    assert len(seen) == 60
    assert all(float(views.min()) >= 0 and float(views.max()) <= 1 for views in seen)
    assert outcome.top1 > 60


def test_soft_losses_need_a_labeler() -> None:
    with pytest.raises(UserError, match="loss kl learns soft labels: give --labeler"):
        run(subset(1), loss="kl")


@pytest.mark.parametrize(
    ("changes", "at_least"),  # of 200 images in 60 steps; a tenth is chance
    [
        ({"mix": "cutmix"}, 65),
        ({"mix": "mixup", "mix_probability": 0.5, "mix_weights": "mix"}, 65),
        ({"dsa": "color_crop_cutout_scale_rotate"}, 65),
        ({"shuffle": 2, "jitter": [0.4, 0.4, 0.4]}, 30),
        ({"optimizer": "adam", "cosine_smoothing": 2.0, "decay_norms": False}, 65),
    ],
)
def test_every_augmentation_learns_and_repeats(changes: dict[str, object], at_least: float) -> None:
    assert run(subset(20), **changes, steps=60, checks=1).top1 > at_least
    few = {**changes, "steps": 8, "checks": 2}
    assert result(run(subset(20), **few)) == result(run(subset(20), **few))


def test_checks_are_told_as_they_come() -> None:
    told: list[Check] = []
    protocol = preset("quick").override(steps=20, checks=4, checks_from=0.5)
    outcome = train_and_test(
        subset(5), TEST, student=STUDENT, protocol=protocol, seed=0, device="cpu", threads=1, report=told.append
    )
    assert tuple(told) == outcome.curve
    assert [check.step for check in told] == [12, 15, 18, 20]


def test_trained_gives_the_student_and_its_input() -> None:
    protocol = preset("quick").override(steps=60, checks=1)
    net, normalize = trained(subset(20), student=STUDENT, protocol=protocol, seed=0, device="cpu", threads=1)
    assert not net.training
    with torch.no_grad():
        top1 = 100 * (net(normalize(TEST.images)).argmax(1) == TEST.labels).double().mean()
    expected = run(subset(20), steps=60, checks=1)
    assert float(top1) == pytest.approx(expected.top1)


def test_imagenet_constants_are_for_colour() -> None:
    with pytest.raises(UserError, match="constants of 3 channels and the images have 1"):
        run(subset(1), normalize="imagenet")


@pytest.mark.gpu
@pytest.mark.parametrize("student", [STUDENT, "resnet18", "resnetap10-w16"])
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_cuda_gives_the_same_bits_again(student: str, precision: str) -> None:
    augmented = {"mix": "cutmix", "scale": (0.5, 1.0), "jitter": (0.2, 0.2, 0.2)}
    protocol = preset("quick").override(steps=8, checks=4, precision=precision, **augmented)

    def run() -> tuple[Outcome, dict[str, torch.Tensor]]:
        options: dict[str, object] = {"student": student, "protocol": protocol, "seed": 1, "device": "cuda"}
        outcome = train_and_test(subset(10), TEST, **options)  # type: ignore[arg-type]
        net, _ = trained(subset(10), **options)  # type: ignore[arg-type]
        return result(outcome), net.state_dict()

    first, second = run(), run()
    assert first[0] == second[0]
    assert next(iter(first[1].values())).is_cuda
    assert all(torch.equal(tensor, second[1][name]) for name, tensor in first[1].items())


@pytest.mark.gpu
def test_cuda_learns_digits_too() -> None:
    protocol = preset("quick")
    outcome = train_and_test(subset(10), TEST, student=STUDENT, protocol=protocol, seed=0, device="cuda")
    assert outcome.top1 > 80


def test_only_very_large_sets_stay_on_the_host() -> None:
    assert streams(STREAMED + 1, "cuda")
    assert not streams(STREAMED, "cuda")
    assert not streams(STREAMED + 1, "cpu")  # where they are in any case


def test_float_images_train_as_their_bytes_do() -> None:
    few = {"steps": 10, "checks": 2}
    ten = subset(10)
    floats = dataclasses.replace(ten, images=ten.images.float() / 255)
    first, second = run(ten, **few), run(floats, **few)
    assert second.curve[-1].loss == pytest.approx(first.curve[-1].loss, rel=1e-3)
    assert second.top1 == pytest.approx(first.top1, abs=2)


def test_normalized_images_need_the_constants_that_they_are_normalized_by() -> None:
    ten = subset(10)
    mean, std = ([float(v) / 255 for v in values] for values in pixel_statistics(TRAIN.images))
    real = channels(mean, std)
    normalized = dataclasses.replace(ten, images=real.apply(ten.images.float() / 255), normalized=True)
    protocol = preset("quick").override(steps=10, checks=2, normalize="real", scale=None)

    def trained_on(train: LabelledImages, **changes: object) -> Outcome:
        changed = protocol.override(**changes)
        return train_and_test(
            train, TEST, student=STUDENT, protocol=changed, seed=0, device="cpu", threads=1, real=real
        )

    first, second = trained_on(ten), trained_on(normalized)
    assert second.curve[-1].loss == pytest.approx(first.curve[-1].loss, rel=1e-3)
    with pytest.raises(UserError, match="use normalize=real"):
        trained_on(normalized, normalize="train")
    with pytest.raises(UserError, match="jitter and lighting need pixels"):
        trained_on(normalized, jitter=[0.1, 0.1, 0.1])


def test_images_are_mixed_after_idcs_augmentation(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is pasted in was augmented as every other image, and normalized."""
    seen: list[str] = []
    for name in ("diffaug", "mixed"):
        real = getattr(train_module, name)

        def noted(images: torch.Tensor, *args: object, name: str = name, real: Any = real) -> Any:
            seen.append(f"{name} {'normalized' if float(images.min()) < 0 else 'pixels'}")
            return real(images, *args)

        monkeypatch.setattr(train_module, name, noted)
    outcome = run(subset(10), steps=3, checks=1, diffaug="color_crop", mix="cutmix")
    assert seen == ["diffaug normalized", "mixed normalized"] * 3
    assert outcome.steps == 3


def test_the_transfer_of_kip_learns_the_labels_of_a_set() -> None:
    """At a rate from the tangent kernel, which is not known before the images are."""
    few = subset(5)
    protocol = preset("kip-transfer").override(steps=250)
    real = channels(*((values / 255).tolist() for values in pixel_statistics(TRAIN.images)))

    def top1(train: LabelledImages, **changes: object) -> float:
        changed = protocol.override(**changes)
        kind = {"student": "kipnet2-w16", "seed": 0, "device": "cpu", "threads": 1, "real": real}
        return train_and_test(train, TEST, protocol=changed, **kind).top1  # type: ignore[arg-type]

    own = top1(few)
    assert own > 60
    wrong = torch.nn.functional.one_hot((few.labels + 1) % 10, 10).float() - 0.1
    assert top1(dataclasses.replace(few, values=wrong)) < 10
    with pytest.raises(RaycondError, match="the loss is"):  # far above the largest stable rate
        top1(few, lr=20.0)


def test_squared_errors_take_no_labeler() -> None:
    labeler = Labeler("fixed", "zeros", "", lambda images: images.new_zeros(len(images), 10))
    with pytest.raises(UserError, match="loss mse learns the labels of the set itself: leave --labeler out"):
        train_and_test(
            TRAIN, TEST, student=STUDENT, protocol=preset("quick").override(loss="mse"), seed=0, device="cpu",
            labeler=labeler,
        )  # fmt: skip


def test_the_rate_is_that_of_real_images_and_not_of_learned_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Tensor] = []

    def rate(_: object, images: torch.Tensor) -> float:
        seen.append(images)
        return 1e-3

    monkeypatch.setattr("raycond.evaluate.train.largest_stable_rate", rate)
    protocol = preset("kip-transfer").override(steps=1, normalize="train")
    few = subset(1)
    train_and_test(few, TEST, student="kipnet1-w4", protocol=protocol, seed=0, device="cpu", threads=1)
    mean, std = pixel_statistics(few.images)
    rows = torch.linspace(0, len(TEST) - 1, 50).long()
    expected = (TEST.images[rows].float() - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)
    torch.testing.assert_close(seen[0], expected, rtol=1e-4, atol=1e-5)
