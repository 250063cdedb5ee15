from __future__ import annotations

import pytest
import torch
from torchvision.transforms.v2 import functional as reference

from raycond.core.errors import UserError
from raycond.training.augment import jitter, lighting
from raycond.training.augment.color import brighten, contrasted, saturated
from tests.training.augment.make import generator, images


@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize(
    ("change", "name"),
    [(brighten, "adjust_brightness"), (contrasted, "adjust_contrast"), (saturated, "adjust_saturation")],
    ids=["brightness", "contrast", "saturation"],
)
def test_each_change_is_that_of_torchvision(change, name: str, channels: int) -> None:  # type: ignore[no-untyped-def]
    x = images(channels=channels)
    factors = torch.linspace(0, 2.5, len(x))
    expected = torch.stack([getattr(reference, name)(i, float(f)) for i, f in zip(x, factors, strict=True)])
    torch.testing.assert_close(change(x, factors.view(-1, 1, 1, 1)), expected, rtol=0, atol=1e-6)


def test_jitter_draws_a_factor_per_image_and_applies_the_three_in_order() -> None:
    x = images(64)
    draws = torch.rand(3, 64, generator=generator(4))
    low, high = torch.tensor([0.6, 0.0, 0.9]), torch.tensor([1.4, 2.5, 1.1])
    factors = low[:, None] + (high - low)[:, None] * draws
    for image, out, (b, c, s) in zip(x, jitter(x, 0.4, 1.5, 0.1, generator(4)), factors.T.tolist(), strict=True):
        image = reference.adjust_contrast(reference.adjust_brightness(image, b), c)
        torch.testing.assert_close(out, reference.adjust_saturation(image, s), rtol=0, atol=1e-6)


def test_value_0_leaves_a_property_and_the_other_draws_alone() -> None:
    x = images()
    assert torch.equal(jitter(x, 0, 0, 0, generator()), x)
    _, factor, _ = torch.rand(3, 16, 1, 1, 1, generator=generator())
    assert torch.equal(jitter(x, 0, 0.4, 0, generator()), contrasted(x, 0.6 + 0.8 * factor))


def test_grey_images_have_no_saturation() -> None:
    x = images(channels=1)
    assert torch.equal(jitter(x, 0, 0, 0.4, generator()), x)
    assert torch.equal(jitter(x, 0.4, 0.4, 0.4, generator()), jitter(x, 0.4, 0.4, 0, generator()))


def test_jitter_needs_1_or_3_channels() -> None:
    with pytest.raises(UserError, match="1 or 3 channels, not 2"):
        jitter(images(channels=2), 0.4, 0.4, 0.4, generator())


def test_lighting_adds_one_colour_with_the_covariance_of_imagenet() -> None:
    x = images(1, 3, 2).expand(20000, -1, -1, -1)
    added = lighting(x, 0.1, generator()) - x
    torch.testing.assert_close(added, added[:, :, :1, :1].expand_as(added), rtol=0, atol=1e-6)
    vectors = torch.tensor([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])
    torch.testing.assert_close(vectors.T @ vectors, torch.eye(3), rtol=0, atol=2e-3)
    expected = 0.01 * vectors @ torch.diag(torch.tensor([0.2175, 0.0188, 0.0045]) ** 2) @ vectors.T
    torch.testing.assert_close(added[:, :, 0, 0].T.cov(), expected, rtol=0.05, atol=1e-6)


def test_lighting_needs_3_channels() -> None:
    with pytest.raises(UserError, match="3 channels and the images have 1"):
        lighting(images(channels=1), 0.1, generator())
