"""Labelled sets in memory, and decoded splits in a file that all trainings share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from raycond.core.errors import UserError
from raycond.data import labelled
from raycond.data.labelled import LabelledImages
from raycond.evaluate.protocol import preset
from raycond.evaluate.train import train_and_test


def checkers(side: int) -> LabelledImages:
    """Two classes: dark and bright, with a pixel checkerboard that area averaging removes."""
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    board = ((x + y) % 2 * 40).to(torch.uint8)
    images = torch.stack([board + base for base in (0, 100) for _ in range(4)])[:, None]
    return LabelledImages(images, torch.tensor([0] * 4 + [1] * 4), 2, torch.ones(8))


def test_at_most_averages_areas_and_keeps_the_rest() -> None:
    small = checkers(16).at_most(8)
    assert small.images.shape == (8, 1, 8, 8)
    assert small.images.dtype == torch.uint8
    assert small.images[0].unique().tolist() == [20]  # the mean of 0 and 40
    assert small.images[7].unique().tolist() == [120]
    assert small.labels.tolist() == checkers(16).labels.tolist()
    assert small.weights is not None


def test_at_most_leaves_small_images_alone() -> None:
    images = checkers(8)
    assert images.at_most(8) is images
    assert images.at_most(None) is images


def test_a_protocol_with_a_largest_side_trains_on_the_averaged_images() -> None:
    protocol = preset("quick").override(steps=4, checks=1, max_size=8)
    large, small = checkers(16), checkers(16).at_most(8)
    a, b = (
        train_and_test(s, s, student="convnet3-w8", protocol=protocol, seed=0, device="cpu", threads=1)
        for s in (large, small)
    )
    assert a.curve == b.curve


def split(folder: Path | str, count: int = 5, capacity: int | None = None) -> tuple[str, np.ndarray]:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 6, 6, 3), dtype=np.uint8)
    uri = f"{folder}/split.safetensors"
    with labelled.pixel_writer(uri, capacity or count, (3, 6, 6)) as writer:
        for label, image in enumerate(pixels):
            writer.add(image, label)
    return uri, pixels


@pytest.mark.parametrize("remote", [False, True])
def test_a_decoded_split_comes_back_in_the_order_of_torch(tmp_path: Path, remote: bool) -> None:
    place = f"memory://test-labelled{tmp_path}" if remote else str(tmp_path)
    uri, pixels = split(place, capacity=9)  # four images were bad
    found = labelled.pixels(uri, 5)
    assert found.images.is_contiguous()
    assert np.array_equal(found.images.permute(0, 2, 3, 1).numpy(), pixels)
    assert found.labels.tolist() == [0, 1, 2, 3, 4]
    assert labelled.pixels(uri, 5) is found


def test_a_local_split_is_mapped_and_not_copied(tmp_path: Path) -> None:
    uri, _ = split(tmp_path)
    found = labelled.pixels(uri, 5)
    maps = [line for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith("split.safetensors")]
    low, high = (int(edge, 16) for edge in maps[0].split()[0].split("-"))
    assert low <= found.images.data_ptr() < high


def test_batches_of_a_mapped_split(tmp_path: Path) -> None:
    uri, pixels = split(tmp_path)
    found = labelled.pixels(uri, 5).centre(4)
    assert not found.images.is_contiguous()  # a view: the pixels are still those of the file
    expected = pixels[:, 1:5, 1:5].transpose(0, 3, 1, 2)
    assert np.array_equal(torch.cat([part.clone() for part in found.images.split(2)]).numpy(), expected)
    assert np.array_equal(found.images[torch.tensor([4, 0])].numpy(), expected[[4, 0]])


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 an npz of earlier versions", "cut"])
def test_a_damaged_split_is_named(tmp_path: Path, damage: bytes | str) -> None:
    uri, _ = split(tmp_path)
    data = Path(uri).read_bytes()
    Path(uri).write_bytes(data[:-1] if isinstance(damage, str) else damage)
    with pytest.raises(UserError, match=r"split.safetensors: "):
        labelled.pixels(uri, 5)


def test_an_interrupted_split_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), labelled.pixel_writer(f"{tmp_path}/x", 2, (3, 6, 6)) as writer:
        writer.add(np.zeros((6, 6, 3), np.uint8), 0)
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_images_of_other_shapes_are_refused(tmp_path: Path) -> None:
    for image in (np.zeros((6, 6, 1), np.uint8), np.zeros((6, 6, 3), np.float32)):
        with pytest.raises(ValueError, match="an image of"), labelled.pixel_writer(f"{tmp_path}/x", 2, (3, 6, 6)) as w:
            w.add(image, 0)


def test_labelled_takes_an_array_or_a_sequence() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5, 5, 3), dtype=np.uint8)
    for images in (pixels, list(pixels)):
        found = labelled.labelled(images, [0, 1, 1, 0], 2, None)
        assert np.array_equal(found.images.permute(0, 2, 3, 1).numpy(), pixels)
