from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from raycond.methods.match.formation import Formation, compose, tiles
from tests.methods.match.make import normal


def bilinear(image: Tensor, height: int, width: int) -> Tensor:
    """One channel (h, w) enlarged, pixel by pixel: centers of pixels lie at half integers, edges repeat."""
    h, w = image.shape
    out = torch.empty(height, width, dtype=image.dtype)
    for y in range(height):
        for x in range(width):
            v = max(0.0, (y + 0.5) * h / height - 0.5)
            u = max(0.0, (x + 0.5) * w / width - 0.5)
            top, left = min(int(v), h - 1), min(int(u), w - 1)
            bottom, right = min(top + 1, h - 1), min(left + 1, w - 1)
            a, b = v - top, u - left
            upper = (1 - b) * image[top, left] + b * image[top, right]
            lower = (1 - b) * image[bottom, left] + b * image[bottom, right]
            out[y, x] = (1 - a) * upper + a * lower
    return out


@pytest.mark.parametrize(("side", "factor"), [(8, 2), (6, 3), (7, 3)])
def test_tiles_are_cut_row_by_row_and_enlarged(side: int, factor: int) -> None:
    images = normal(2, 1, side, side)
    out = tiles(images, factor, fill=0.5)
    part = math.ceil(side / factor)
    padded = torch.full((2, 1, part * factor, part * factor), 0.5, dtype=torch.float64)
    padded[:, :, :side, :side] = images
    for i in range(factor):
        for j in range(factor):
            for n in range(2):
                tile = padded[n, 0, i * part : (i + 1) * part, j * part : (j + 1) * part]
                decoded = out[(i * factor + j) * 2 + n, 0]
                torch.testing.assert_close(decoded, bilinear(tile, side, side), rtol=0, atol=1e-12)


@pytest.mark.parametrize("decoder", ["single", "multi", "bound"])
@pytest.mark.parametrize("factor", [1, 2, 3])
def test_constant_images_stay_constant_and_are_counted(decoder: str, factor: int) -> None:
    formation = Formation(factor, decoder, bound=40)  # type: ignore[arg-type]
    for stored in (1, 5, 11):
        values = torch.arange(1, stored + 1, dtype=torch.float64)
        decoded = formation.decode(values.view(-1, 1, 1, 1).expand(-1, 2, 6, 6))
        assert len(decoded) == formation.count(stored)
        torch.testing.assert_close(decoded, decoded[:, :1, :1, :1].expand_as(decoded), rtol=0, atol=1e-12)
        assert set(decoded[:, 0, 0, 0].round().tolist()) == set(values.tolist())


def test_number_of_training_images() -> None:
    assert Formation(2).count(10) == 40
    assert Formation(3, "multi").count(2) == 2 * (1 + 4 + 9)
    # 12 images cut into 9, then 3 into 4, then 5 as they are: 108 + 12 + 5
    assert Formation(3, "bound", 128).count(20) == 125
    assert Formation(3, "bound", 128).count(10) == 90
    assert Formation(3, "bound", 16).count(20) == 20  # more images than the bound: none is cut


def test_composed_images_hold_one_shrunk_image_in_each_tile() -> None:
    images = normal(8, 2, 6, 6)
    stored = compose(images, 2)
    assert stored.shape == (2, 2, 6, 6)
    for i in range(2):
        for j in range(2):
            for n in range(2):
                tile = stored[n, :, 3 * i : 3 * i + 3, 3 * j : 3 * j + 3]
                assert torch.equal(tile, images[(2 * i + j) * 2 + n][:, ::2, ::2])


def test_sides_that_the_factor_does_not_divide_give_larger_first_tiles() -> None:
    images = torch.arange(9.0).view(9, 1, 1, 1).expand(9, 1, 8, 8)
    rows = compose(images, 3)[0, 0]
    edges = [0, 3, 6, 8]
    for i in range(3):
        for j in range(3):
            assert bool((rows[edges[i] : edges[i + 1], edges[j] : edges[j + 1]] == 3 * i + j).all())


def test_a_factor_of_one_changes_nothing() -> None:
    images = normal(3, 2, 6, 6)
    assert torch.equal(compose(images, 1), images)
    assert torch.equal(Formation(1, "multi").decode(images), images)


def test_gradients_reach_the_stored_images() -> None:
    images = normal(2, 1, 4, 4).requires_grad_()
    torch.autograd.gradcheck(Formation(2, "multi").decode, images)
