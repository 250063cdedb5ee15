"""Small images that look to a network as large ones do."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from raycond.core.errors import RaycondError, UserError
from raycond.methods.collages.image_update import UpdateOptions, enlarged, reduced, update_images


def originals(n: int = 3, channels: int = 3, side: int = 16) -> torch.Tensor:
    smooth = torch.rand(n, channels, 6, 6, generator=torch.Generator().manual_seed(0))
    return F.interpolate(smooth, (side, side), mode="bicubic").clamp(0, 1)


def tower(channels: int = 3) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        net = nn.Sequential(nn.Conv2d(channels, 8, 3, 2), nn.GELU(), nn.Conv2d(8, 8, 3, 2), nn.Flatten())
    return net.eval()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("normalise", [False, True])
def test_features_come_closer_and_images_stay_images(channels: int, normalise: bool) -> None:
    images, net = originals(channels=channels), tower(channels)
    options = UpdateOptions(steps=30, normalise=normalise)
    found = update_images(images, net, size=8, options=options)
    assert found.images.shape == (3, channels, 8, 8)
    assert bool((found.after < 0.7 * found.before).all())
    assert torch.allclose(found.images * 255, (found.images * 255).round(), atol=1e-4)
    assert 0 <= float(found.images.min()) <= float(found.images.max()) <= 1
    with torch.no_grad():
        features = [net(x) for x in (enlarged(found.images, 16), images)]
    a, b = (F.normalize(f, dim=1) for f in features) if normalise else features
    assert torch.allclose((a - b).square().mean(1), found.after, atol=1e-6)
    assert all(p.grad is None for p in net.parameters())


def test_neither_batches_nor_grad_mode_matter() -> None:
    images, net = originals(5), tower()
    whole = update_images(images, net, size=8, options=UpdateOptions(steps=5))
    with torch.no_grad():
        parts = update_images(images, net, size=8, options=UpdateOptions(steps=5, batch=2))
    assert torch.allclose(whole.images, parts.images, atol=1.5 / 255)
    assert torch.allclose(whole.after, parts.after, rtol=1e-2)
    again = update_images(images, net, size=8, options=UpdateOptions(steps=5))
    assert torch.equal(whole.images, again.images)


def test_an_update_that_does_harm_is_dropped() -> None:
    images = originals()
    found = update_images(images, tower(), size=8, options=UpdateOptions(steps=1, lr=1.0))
    assert torch.equal(found.after, found.before)
    assert torch.allclose(found.images, reduced(images, 8), atol=0.51 / 255)


def test_no_reduction_changes_nothing() -> None:
    images = (originals() * 255).round() / 255
    found = update_images(images, tower(), size=16, options=UpdateOptions(steps=3))
    assert torch.allclose(found.images, images, atol=1e-6)
    assert float(found.before.max()) == pytest.approx(0, abs=1e-10)


def test_the_pull_to_the_plain_reduction_keeps_pictures() -> None:
    images, net = originals(), tower()
    start = reduced(images, 8)

    def moved(pixels: float) -> float:
        found = update_images(images, net, size=8, options=UpdateOptions(steps=30, pixels=pixels))
        return float((found.images - start).square().mean())

    assert moved(0.5) < 0.5 * moved(0.0)


def test_wrong_use_is_told() -> None:
    with pytest.raises(UserError, match="size must be from 1 to the 16 pixels given, not 17"):
        update_images(originals(), tower(), size=17)
    with pytest.raises(RaycondError, match="not finite"):
        update_images(originals(), lambda x: x.flatten(1) / 0, size=8)
    for wrong in ({"steps": 0}, {"lr": 0.0}, {"pixels": -1.0}, {"resample": "nearest"}):
        with pytest.raises(UserError, match=f"image update: {next(iter(wrong))}"):
            UpdateOptions(**wrong)  # type: ignore[arg-type]
