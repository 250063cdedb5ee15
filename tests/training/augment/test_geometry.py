from __future__ import annotations

import pytest
import torch
from scipy.stats import ks_2samp
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2 import functional as reference

from raycond.training.augment import flip, random_crop_scale, shift
from raycond.training.augment.geometry import CROP_DRAWS, crop_boxes, resized_crop


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(n: int = 64, side: int = 8) -> torch.Tensor:
    return torch.rand(n, 2, side, side, generator=generator(9))


@pytest.mark.parametrize(
    "change",
    [lambda x, g: shift(x, 0.25, g), lambda x, g: random_crop_scale(x, (0.5, 1.0), g), flip],
    ids=["shift", "random_crop_scale", "flip"],
)
def test_follows_the_generator_and_treats_each_image_alone(change) -> None:  # type: ignore[no-untyped-def]
    x = images()
    first = change(x, generator(1))
    assert first.shape == x.shape
    assert torch.equal(first, change(x, generator(1)))
    assert not torch.equal(first, change(x, generator(2)))
    same = change(x[:1].expand(64, -1, -1, -1), generator(1))
    assert len({bytes(image.numpy().tobytes()) for image in same}) > 1


def test_shift_moves_whole_pixels_and_repeats_the_edge() -> None:
    x = torch.arange(64.0).view(1, 1, 8, 8).expand(500, 1, 8, 8)
    seen = set()
    for moved in shift(x, 0.25, generator()):
        dy, dx = divmod(int(moved[0, 3, 3]), 8)
        rows = (torch.arange(8) + dy - 3).clamp(0, 7)
        columns = (torch.arange(8) + dx - 3).clamp(0, 7)
        assert torch.equal(moved[0], x[0, 0][rows][:, columns])
        seen.add((dy - 3, dx - 3))
    assert seen == {(dy, dx) for dy in range(-2, 3) for dx in range(-2, 3)}


def test_shift_below_half_a_pixel_changes_nothing() -> None:
    x = images()
    assert torch.equal(shift(x, 0.06, generator()), x)


def test_flip_mirrors_about_half() -> None:
    x = images(400)
    out = flip(x, generator())
    mirrored = torch.tensor([torch.equal(o, i.flip(-1)) for o, i in zip(out, x, strict=True)])
    kept = torch.tensor([torch.equal(o, i) for o, i in zip(out, x, strict=True)])
    assert bool((mirrored ^ kept).all())
    assert 150 < int(mirrored.sum()) < 250


def test_crop_of_a_ramp_is_a_narrower_ramp_inside_it() -> None:
    ramp = torch.linspace(0, 1, 32).view(1, 1, 1, 32).expand(300, 1, 32, 32)
    out = random_crop_scale(ramp, (0.25, 0.5), generator())
    assert 0 <= float(out.min()) <= float(out.max()) <= 1
    span = (out[:, 0, 0, 24] - out[:, 0, 0, 8]) * 31 / 16  # width of the crop as a share of the image
    # sqrt(area · ratio): from sqrt(0.25 · 3/4) = 0.433 to sqrt(0.5 · 4/3) = 0.816
    assert 0.42 < float(span.min()) < 0.47
    assert 0.76 < float(span.max()) < 0.83
    assert float(out[:, 0, 0, 0].min()) < 0.02  # crops reach both edges
    assert float(out[:, 0, 0, -1].max()) > 0.98


@pytest.mark.parametrize("scale", [(0.08, 1.0), (0.5, 1.0)], ids=str)
@pytest.mark.parametrize(("height", "width"), [(64, 64), (30, 60), (20, 80)])
def test_crops_are_distributed_as_those_of_torchvision(scale: tuple[float, float], height: int, width: int) -> None:
    count = 10_000
    image = torch.empty(1, height, width)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = [RandomResizedCrop.get_params(image, list(scale), [3 / 4, 4 / 3]) for _ in range(count)]
    theirs = torch.tensor(drawn, dtype=torch.float64)
    ours = crop_boxes(torch.rand(count, CROP_DRAWS, generator=generator()), height, width, scale).double()
    assert abs(area(ours).mean() - area(theirs).mean()) / (height * width) < 0.01
    for measure in (area, aspect, top, left):
        a, b = measure(ours), measure(theirs)
        # the largest distance of two empirical distributions, beyond 0.028 once in a thousand
        assert ks_2samp(a.numpy(), b.numpy()).statistic < 0.028, measure.__name__


def area(boxes: torch.Tensor) -> torch.Tensor:
    return boxes[:, 2] * boxes[:, 3]


def aspect(boxes: torch.Tensor) -> torch.Tensor:
    return boxes[:, 3] / boxes[:, 2]


def top(boxes: torch.Tensor) -> torch.Tensor:
    return boxes[:, 0]


def left(boxes: torch.Tensor) -> torch.Tensor:
    return boxes[:, 1]


def test_a_crop_that_never_fits_is_the_central_one() -> None:
    draws = torch.rand(50, CROP_DRAWS, generator=generator())
    wide, tall = crop_boxes(draws, 10, 40, (1.0, 1.0)), crop_boxes(draws, 40, 10, (1.0, 1.0))
    assert wide.unique(dim=0).tolist() == [[0, 13, 10, 13]]
    assert tall.unique(dim=0).tolist() == [[13, 0, 13, 10]]


@pytest.mark.parametrize("size", [(24, 24), (9, 14), (40, 31)], ids=str)
def test_resizing_is_that_of_torchvision(size: tuple[int, int]) -> None:
    x = torch.rand(8, 3, 24, 30, generator=generator(2))
    boxes = crop_boxes(torch.rand(8, CROP_DRAWS, generator=generator(3)), 24, 30, (0.08, 1.0))
    expected = [
        reference.resized_crop(image, *box.tolist(), list(size), antialias=True)
        for image, box in zip(x, boxes, strict=True)
    ]
    torch.testing.assert_close(resized_crop(x, boxes, size), torch.stack(expected), rtol=0, atol=3e-6)


def test_a_crop_can_have_another_size_than_its_image() -> None:
    x = images(4, side=16)
    assert random_crop_scale(x, (0.5, 1.0), generator(), 7).shape == (4, 2, 7, 7)
