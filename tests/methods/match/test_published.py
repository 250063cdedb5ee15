from __future__ import annotations

from typing import Any

import pytest

from raycond.core.errors import UserError
from raycond.methods.match.published import DATASETS, LOOPS, normalization, published
from raycond.models import students


@pytest.mark.parametrize("name", ["dc", "dsa", "dm", "idc"])
@pytest.mark.parametrize("dataset", list(DATASETS))
def test_every_method_has_values_for_every_set(name: str, dataset: str) -> None:
    known = DATASETS[dataset]
    assert len(known.mean) == len(known.std) == known.channels
    for sampling in ("random", "dream"):
        settings = published(name, dataset, 10, sampling=sampling)  # type: ignore[arg-type]
        assert settings.method == name
        assert settings.sampling.kind == sampling
        assert settings.init == ("kmeans" if sampling == "dream" else "noise" if name == "dc" else "random")
    if known.size < 224:
        students.build(settings.network, classes=known.classes, size=known.size, channels=known.channels)


@pytest.mark.parametrize(("ipc", "loops"), LOOPS.items())
def test_loops_of_gradient_matching(ipc: int, loops: tuple[int, int]) -> None:
    for name in ("dc", "dsa"):
        settings = published(name, "cifar10", ipc)
        assert (settings.steps, settings.training.epochs) == loops
        assert settings.iterations == 1000


def test_other_numbers_of_images_continue_the_table() -> None:
    settings = published("dc", "cifar10", 5)
    assert (settings.steps, settings.training.epochs) == (5, 100)


def test_digits_are_not_mirrored() -> None:
    for dataset, mirrored in (("mnist", False), ("svhn", False), ("fashion-mnist", True), ("cifar10", True)):
        for name in ("dsa", "dm"):
            assert ("flip" in published(name, dataset, 1).strategy) == mirrored
        assert ("flip" in published("dsa", dataset, 1).training.strategy) == mirrored


def test_distribution_matching_takes_larger_steps_for_many_images() -> None:
    assert published("dm", "cifar10", 50).lr == 1
    assert published("dm", "cifar10", 100).lr == 10
    assert published("dm", "mnist", 100).lr == 1
    assert published("dm", "mnist", 1).total == 20_000


@pytest.mark.parametrize(
    ("dataset", "ipc", "factor", "expected"),
    [
        ("cifar10", 10, 2, {"distance": "mse", "lr": 5e-3, "iterations": 2000, "network": "convnet3"}),
        ("cifar10", 1, 2, {"lr": 5e-4}),
        ("mnist", 10, 2, {"distance": "l1", "lr": 1e-4, "strategy": "color_crop"}),
        ("mnist", 10, 1, {"distance": "l1", "lr": 1e-4, "strategy": "color_crop_cutout"}),
        ("fashion-mnist", 50, 2, {"distance": "l1", "lr": 1e-4 * 5 * (28 / 32) ** 2}),
        ("svhn", 10, 2, {"distance": "mse", "lr": 5e-3}),
        ("tiny-imagenet", 10, 2, {"network": "convnet4", "lr": 5e-3 * 4}),
        ("tiny-imagenet", 50, 2, {"lr": 1e-6 * 5 * 4}),
        ("imagenet-10", 10, 3, {"network": "resnetap10", "iterations": 500, "lr": 3e-3, "decoder": "single"}),
        ("imagenet-10", 20, 3, {"decoder": "bound", "lr": 6e-3}),
        ("imagenet-100", 10, 3, {"batch": 128, "lr": 1e-3}),
    ],
)
def test_values_of_idc(dataset: str, ipc: int, factor: int, expected: dict[str, Any]) -> None:
    settings = published("idc", dataset, ipc, factor=factor)
    assert {key: getattr(settings, key) for key in expected} == pytest.approx(expected)
    assert settings.steps == 100
    assert settings.image_step == "class"


@pytest.mark.parametrize(
    ("dataset", "factor", "expected"),
    [
        ("cifar10", 2, {"images": 2000, "cutmix": 0.5, "strategy": "color_crop", "lr": 0.01, "weight_decay": 5e-4}),
        ("mnist", 2, {"images": 500, "cutmix": 0.0, "strategy": "color_crop"}),
        ("mnist", 1, {"images": 500, "cutmix": 0.5}),
        ("imagenet-10", 3, {"cutmix": 1.0, "pretrain": 10, "batch": 64}),
        ("imagenet-100", 3, {"lr": 0.1, "weight_decay": 1e-4, "batch": 128, "pretrain": 5}),
    ],
)
def test_training_of_networks_in_idc(dataset: str, factor: int, expected: dict[str, Any]) -> None:
    training = published("idc", dataset, 10, factor=factor).training
    assert {key: getattr(training, key) for key in expected} == expected


def test_dream_clusters_and_batches() -> None:
    settings = published("idc", "cifar10", 10, factor=2, sampling="dream")
    assert (settings.real_batch, settings.sampling.recluster, settings.training.batch) == (128, 10, 128)
    assert published("idc", "tiny-imagenet", 10, factor=2, sampling="dream").real_batch == 64
    assert published("idc", "cifar10", 10, factor=2).real_batch == 64


def test_idc_normalizes_cifar100_by_the_constants_of_cifar10() -> None:
    assert normalization("idc", "cifar100") == normalization("idc", "cifar10") == normalization("dc", "cifar10")
    assert normalization("dc", "cifar100")[0] == (0.5071, 0.4866, 0.4409)


def test_unknown_names_are_errors() -> None:
    with pytest.raises(UserError, match=r"--preset cifar-10: not one of .* did you mean cifar10"):
        published("dc", "cifar-10", 1)
    with pytest.raises(UserError, match="--method dcc"):
        published("dcc", "cifar10", 1)
