from __future__ import annotations

import torch

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
