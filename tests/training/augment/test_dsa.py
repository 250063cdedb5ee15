from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from raycond.core.errors import UserError
from raycond.training.augment import dc_augment, dsa, dsa_operations
from tests.training.augment.make import generator, images

ALL = "color_crop_cutout_flip_scale_rotate"


def affine(images: Tensor, thetas: list[list[list[float]]]) -> Tensor:
    grid = F.affine_grid(torch.tensor(thetas), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


def draws(*shape: int, seed: int = 4) -> Tensor:
    """The numbers an operation draws after the one that picked it."""
    g = generator(seed)
    torch.randint(1, (), generator=g)
    return torch.rand(shape, generator=g)


@pytest.mark.parametrize("shape", [(16, 3, 12, 12), (16, 1, 9, 14)], ids=str)
def test_scale_is_an_affine_grid(shape: tuple[int, ...]) -> None:
    x = images(*shape) - 0.5
    factors = 1 / 1.2 + (1.2 - 1 / 1.2) * draws(2, 16)
    expected = affine(x, [[[a, 0, 0], [0, b, 0]] for a, b in factors.T.tolist()])
    torch.testing.assert_close(dsa(x, "scale", generator(4)), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("degrees", [15.0, 90.0])
def test_rotate_is_an_affine_grid(degrees: float) -> None:
    x = images() - 0.5
    angles = ((2 * draws(16) - 1) * math.radians(degrees)).tolist()
    expected = affine(x, [[[math.cos(a), -math.sin(a), 0], [math.sin(a), math.cos(a), 0]] for a in angles])
    torch.testing.assert_close(dsa(x, "rotate", generator(4), rotate=degrees), expected, rtol=0, atol=5e-6)


def test_rotate_keeps_circles_round_where_sides_differ() -> None:
    y, x = torch.meshgrid(torch.arange(20) - 9.5, torch.arange(40) - 19.5, indexing="ij")
    disc = torch.sigmoid(4 - (x**2 + y**2).sqrt()).expand(8, 1, 20, 40)
    torch.testing.assert_close(dsa(disc, "rotate", generator(), rotate=90), disc, rtol=0, atol=0.04)


def test_crop_shifts_by_an_eighth_at_most_and_brings_in_zero() -> None:
    x, seen = images(1, 2, 20)[0] + 1, set()  # 20 · 0.125 = 2.5, which rounds up
    known = {F.pad(x, (dx, -dx, dy, -dy)).numpy().tobytes(): (dy, dx) for dy in range(-3, 4) for dx in range(-3, 4)}
    for out in dsa(x.expand(1000, -1, -1, -1), "crop", generator()):
        seen.add(known[out.numpy().tobytes()])
    assert len(seen) == 49


@pytest.mark.parametrize(("side", "hole"), [(8, 4), (9, 5), (10, 5), (28, 14)])
def test_cutout_has_half_the_side_and_is_cut_at_the_border(side: int, hole: int) -> None:
    out = dsa(torch.ones(3000, 2, side, side), "cutout", generator())
    assert torch.equal(out[:, 0], out[:, 1])
    rows, columns = (out[:, 0] == 0).any(2), (out[:, 0] == 0).any(1)
    assert torch.equal(out[:, 0] == 0, rows[:, :, None] & columns[:, None, :])
    for line in (rows, columns):
        length = line.sum(1)
        at_border = line[:, 0] | line[:, -1]
        assert bool((length[~at_border] == hole).all())
        assert int(length.min()) == (hole + 1) // 2  # the centre is never outside
        assert int(length.max()) == hole
        assert bool((line.long().diff(dim=1).abs().sum(1) <= 2).all())  # in one piece


def test_flip_mirrors_about_half() -> None:
    x = images(400)
    out = dsa(x, "flip", generator())
    mirrored = (out == x.flip(-1)).flatten(1).all(1)
    assert bool((mirrored ^ (out == x).flatten(1).all(1)).all())
    assert 150 < int(mirrored.sum()) < 250


@pytest.mark.parametrize("channels", [3, 1])
def test_color_is_brightness_then_saturation_then_contrast(channels: int) -> None:
    x = images(channels=channels) * 4 - 2
    brightness, saturation, contrast = draws(3, 16, 1, 1, 1)
    expected = x + (brightness - 0.5)
    mean = expected.mean(1, keepdim=True)
    expected = (expected - mean) * (2 * saturation) + mean
    mean = expected.mean((1, 2, 3), keepdim=True)
    expected = (expected - mean) * (contrast + 0.5) + mean
    torch.testing.assert_close(dsa(x, "color", generator(4)), expected, rtol=0, atol=2e-6)


def test_one_operation_a_call_each_as_often() -> None:
    x = images(2, 1, 8)
    seen = {"flip": 0, "cutout": 0}
    g = generator()
    for _ in range(400):
        out = dsa(x, "flip_cutout", g)
        seen["cutout" if bool((out == 0).any()) else "flip"] += 1
    assert 150 < seen["flip"] < 250


@pytest.mark.parametrize("seed", range(12))
def test_shared_is_the_same_transform_for_batches_of_any_size(seed: int) -> None:
    x = images(20)
    whole = dsa(x, ALL, generator(seed), shared=True)
    part = dsa(x[5:12], ALL, generator(seed), shared=True)
    torch.testing.assert_close(part, whole[5:12], rtol=0, atol=1e-6)


def test_operations_are_named_in_order_and_checked() -> None:
    assert dsa_operations(ALL) == ("color", "crop", "cutout", "flip", "scale", "rotate")
    assert dsa_operations("dc") == ("dc",)
    for strategy, wrong in (("color_colour", "'colour'"), ("crop_dc", "'dc'"), ("", "''"), ("none", "'none'")):
        with pytest.raises(UserError, match=f"no operation {wrong}"):
            dsa(images(), strategy, generator())


def dc_kinds(n: int, seed: int) -> Tensor:
    return torch.randint(3, (n,), generator=generator(seed))


def test_dc_moves_by_whole_pixels_and_brings_in_the_mean() -> None:
    x = images(300, 2, 16)
    x[:, 1] += 3
    mean = x.mean((0, 2, 3)).view(2, 1, 1)
    out, kinds, seen = dc_augment(x, generator(1)), dc_kinds(300, 1), set()
    for image, moved in zip(x[kinds == 0], out[kinds == 0], strict=True):
        shifts = {
            (dy, dx): F.pad(image - mean, (dx, -dx, dy, -dy)) + mean for dy in range(-4, 5) for dx in range(-4, 5)
        }
        seen |= {by for by, expected in shifts.items() if torch.allclose(moved, expected, rtol=0, atol=1e-4)}
    assert len(seen) > 45
    # the source reads pixels from -4 to +3 away, so that images move by -3 to +4
    assert {dy for dy, _ in seen} == {dx for _, dx in seen} == set(range(-3, 5))
    assert 80 < int((kinds == 0).sum()) < 120


def test_dc_scales_with_zero_and_rotates_with_the_mean_around_it() -> None:
    ones = torch.ones(600, 1, 29, 29)
    ones[::2] = 3  # so that the mean, 2, differs from both
    out, kinds = dc_augment(ones, generator(1)), dc_kinds(600, 1)
    corner, middle = out[:, 0, 0, 0], out[:, 0, 14, 14]
    torch.testing.assert_close(middle, ones[:, 0, 0, 0])
    torch.testing.assert_close(
        corner[kinds == 2].sort().values[300 // 4 : -300 // 4].mean(), torch.tensor(2.0), atol=0.1, rtol=0
    )
    covered = (out[kinds == 1, 0].sum(2) > 0).sum(1)  # rows that a shrunk image reaches
    assert int(covered.min()) in (23, 24, 25)
    assert int(covered.max()) == 29
    assert float(corner[kinds == 1].min()) == 0


def test_dc_rotates_up_to_45_degrees() -> None:
    bar = torch.zeros(400, 1, 41, 41)
    bar[:, :, 20, 2:39] = 1
    out, kinds = dc_augment(bar, generator(2)), dc_kinds(400, 2)
    y, x = torch.meshgrid(torch.arange(41) - 20.0, torch.arange(41) - 20.0, indexing="ij")
    turned = (out[kinds == 2, 0] - bar.mean()).clamp(min=0)
    cross, spread = (turned * x * y).sum((1, 2)), (turned * (x**2 - y**2)).sum((1, 2))
    angles = torch.rad2deg(torch.atan2(2 * cross, spread) / 2)
    assert -45.5 < float(angles.min()) < -40
    assert 40 < float(angles.max()) < 45.5


def test_dc_is_a_strategy_of_dsa() -> None:
    x = images(8, 1, 28)
    assert torch.equal(dsa(x, "dc", generator(3)), dc_augment(x, generator(3)))
