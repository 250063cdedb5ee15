from __future__ import annotations

import pytest
import torch
from torchvision.transforms.v2 import functional as reference

from raycond.core.errors import UserError
from raycond.evaluate import LabelledImages, preset
from raycond.evaluate.views import Normalizer, augmented, mixed, prepared
from raycond.sets.normalization import channels
from tests.sets.make import whitening

QUICK = preset("quick")
CPU = torch.device("cpu")


def pixels(channels: int = 3) -> torch.Tensor:
    return torch.randint(0, 256, (16, channels, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("channels", [1, 3])
def test_normalised_training_images_have_mean_zero_and_deviation_one(channels: int) -> None:
    images = pixels(channels)
    normalizer = Normalizer(images, QUICK, CPU)
    values = normalizer.of_pixels(images)
    assert values.mean((0, 2, 3)).tolist() == pytest.approx([0] * channels, abs=1e-5)
    assert values.std((0, 2, 3), correction=0).tolist() == pytest.approx([1] * channels, rel=1e-5)
    assert torch.allclose(normalizer.undo(values), images.float() / 255, atol=1e-6)


def test_imagenet_constants() -> None:
    normalizer = Normalizer(pixels(), QUICK.override(normalize="imagenet"), CPU)
    white = normalizer.of_pixels(torch.full((1, 3, 2, 2), 255, dtype=torch.uint8))
    assert white[0, :, 0, 0].tolist() == pytest.approx([(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225])
    with pytest.raises(UserError, match="normalize=train"):
        Normalizer(pixels(1), QUICK.override(normalize="imagenet"), CPU)


def test_without_augmentation_views_are_the_images() -> None:
    images = pixels().float() / 255
    generator = torch.Generator().manual_seed(0)
    assert torch.equal(augmented(images, QUICK.without_augmentation(), generator), images)
    assert mixed(images, QUICK, generator) is None


def test_the_coin_decides_which_batches_are_mixed() -> None:
    images = pixels().float() / 255
    generator = torch.Generator().manual_seed(0)
    protocol = QUICK.override(mix="cutmix", mix_probability=0.25)
    share = sum(mixed(images, protocol, generator) is not None for _ in range(400)) / 400
    assert 0.17 < share < 0.33
    assert mixed(images, protocol.override(mix_probability=0), generator) is None


def test_views_have_the_size_of_the_protocol() -> None:
    images = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    smaller = preset("quick").without_augmentation().override(view_size=10)
    expected = reference.resize(images, [10, 10], antialias=True)
    torch.testing.assert_close(
        augmented(images, smaller, torch.Generator().manual_seed(1)), expected, rtol=0, atol=1e-6
    )
    assert augmented(images, smaller.override(scale=[0.3, 1.0]), torch.Generator().manual_seed(1)).shape == (
        5,
        3,
        10,
        10,
    )
    assert smaller.override(max_size=8).view_side(16) == 8


def test_training_images_are_brought_to_their_size_first() -> None:
    pixels = torch.randint(0, 256, (300, 3, 12, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    train = LabelledImages(pixels, torch.arange(300) % 2, 2)
    found = prepared(train, preset("quick").override(max_size=None, train_size=9))
    expected = reference.resize(pixels, [9, 9], antialias=True)
    assert int((found.images.int() - expected.int()).abs().max()) <= 1
    assert prepared(train, preset("quick").override(train_size=12)) is train


def test_constants_of_the_real_images() -> None:
    protocol = QUICK.override(normalize="real")
    with pytest.raises(UserError, match="constants of the real images, which are not known"):
        Normalizer(pixels(), protocol, CPU)
    normalizer = Normalizer(pixels(), protocol, CPU, real=channels((0.5, 0.25, 0.0), (0.5, 0.25, 2.0)))
    white = normalizer.of_pixels(torch.full((1, 3, 2, 2), 255, dtype=torch.uint8))
    assert white[0, :, 0, 0].tolist() == pytest.approx([1.0, 3.0, 0.5])
    assert torch.allclose(normalizer.undo(white), torch.ones(1, 3, 2, 2))


def test_a_whitening_is_that_of_the_kernels() -> None:
    images = torch.rand(4, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    normalizer = Normalizer(images, QUICK.override(normalize="real"), CPU, real=whitening())
    torch.testing.assert_close(normalizer(images), whitening().apply(images), rtol=1e-4, atol=1e-5)
    with pytest.raises(UserError, match="whitened"):
        normalizer.undo(images)


def test_floats_are_taken_as_they_are() -> None:
    images = pixels()
    normalizer = Normalizer(images, QUICK, CPU)
    floats = Normalizer(images.float() / 255, QUICK, CPU)
    torch.testing.assert_close(normalizer.of_pixels(images), floats.of_pixels(images.float() / 255))
