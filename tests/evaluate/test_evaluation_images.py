"""Test images are read from where they lie, batch by batch."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from raycond.data.labelled import LabelledImages
from raycond.evaluate.evaluation_images import EvaluationImages
from raycond.evaluate.protocol import preset
from raycond.evaluate.train import train_and_test


def split(n: int = 30, side: int = 8, classes: int = 3, channels: int = 3) -> LabelledImages:
    generator = torch.Generator().manual_seed(n)
    images = torch.randint(0, 256, (n, channels, side, side), dtype=torch.uint8, generator=generator)
    return LabelledImages(images, torch.arange(n) % classes, classes)


def joined(tests: EvaluationImages, size: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    parts = list(tests.batches(size))
    assert all(len(images) <= size for images, _ in parts)
    return torch.cat([images for images, _ in parts]), torch.cat([labels for _, labels in parts])


def test_batches_are_the_split_in_order_and_copy_nothing() -> None:
    whole = split()
    tests = EvaluationImages.of(whole)
    images, labels = joined(tests)
    assert torch.equal(images, whole.images)
    assert torch.equal(labels, whole.labels)
    first, _ = next(tests.batches(7))
    assert first.data_ptr() == whole.images.data_ptr()


def test_the_central_part_is_that_of_the_labelled_images() -> None:
    for side, crop in ((8, 6), (9, 6), (8, 7)):
        whole = split(side=side)
        tests = EvaluationImages.of(whole, crop=crop)
        assert tests.shape == (3, crop, crop)
        assert torch.equal(joined(tests)[0], whole.centre(crop).images)


def test_averaged_down_bit_for_bit() -> None:
    whole = split(600, 9)
    for crop in (None, 8):
        expected = (whole if crop is None else whole.centre(crop)).at_most(4).images
        assert torch.equal(joined(EvaluationImages.of(whole, crop).at_most(4))[0], expected)
    assert EvaluationImages.of(whole).at_most(9).images is whole.images
    assert EvaluationImages.of(whole).at_most(None).images is whole.images


def test_some_classes_with_their_labels_counted_anew() -> None:
    whole = split()
    tests = EvaluationImages.of(whole).of_classes([0, 2])
    images, labels = joined(tests)
    kept = whole.labels != 1
    assert torch.equal(images, whole.images[kept])
    assert labels.tolist() == (whole.labels[kept] // 2).tolist()
    assert (tests.classes, len(tests)) == (2, 20)
    again = tests.of_classes([1])
    assert torch.equal(joined(again)[0], whole.images[whole.labels == 2])
    assert joined(again)[1].tolist() == [0] * 10
    assert tests.images is whole.images


def test_a_read_only_memory_map_is_enough(tmp_path: Path) -> None:
    """The map is larger than what may be taken from it at once: no batch may touch the images beyond it."""
    whole = split(3000, 8)
    np.save(tmp_path / "images.npy", whole.images.numpy())
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        mapped = torch.from_numpy(np.load(tmp_path / "images.npy", mmap_mode="r"))
    outcomes = [
        train_and_test(
            whole,
            LabelledImages(images, whole.labels, 3),
            student="convnet3-w8",
            protocol=preset("quick").override(steps=2, checks=2),
            seed=0,
            device="cpu",
            threads=1,
        )
        for images in (whole.images, mapped)
    ]
    assert outcomes[0].curve == outcomes[1].curve


def test_a_test_never_holds_more_than_a_batch_in_floats(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every conversion to floats while testing is counted: none is of more images than a batch has."""
    whole, sizes = split(2000, 8), []
    convert = torch.Tensor.float

    def counted(tensor: torch.Tensor, *args: object) -> torch.Tensor:
        if tensor.dtype == torch.uint8:
            sizes.append(len(tensor))
        return convert(tensor, *args)

    monkeypatch.setattr(torch.Tensor, "float", counted)
    protocol = preset("quick").override(steps=1, batch=16, max_size=4)
    train_and_test(whole, whole, student="mlp", protocol=protocol, seed=0, device="cpu", threads=1)
    assert len(sizes) > 8
    assert max(sizes) <= 512
