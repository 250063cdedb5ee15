from __future__ import annotations

import sys

import pytest
import torch

from raycond.core.errors import UserError
from raycond.models.students import build


def test_resnet_has_the_small_stem_up_to_64_pixels() -> None:
    small, large = (build("resnet18", classes=5, size=size, channels=1) for size in (64, 65))
    assert small.conv1.weight.shape == (64, 1, 3, 3)
    assert small.conv1.stride == (1, 1)
    assert isinstance(small.maxpool, torch.nn.Identity)
    assert large.conv1.weight.shape == (64, 1, 7, 7)
    assert isinstance(large.maxpool, torch.nn.MaxPool2d)
    assert small.training  # the dry run must not leave it in eval mode


def test_a_network_that_cannot_take_the_images_says_so() -> None:
    with pytest.raises(UserError, match="alexnet cannot take images of 3x32x32"):
        build("alexnet", classes=2, size=32, channels=3)
    with pytest.raises(UserError, match="vit_b_32 cannot take images of 3x40x40"):
        build("vit_b_32", classes=2, size=40, channels=3)


@pytest.mark.parametrize(("name", "size"), [("test_vit", 32), ("test_efficientnet", 32)])
def test_models_of_timm_fit_classes_channels_and_size(name: str, size: int) -> None:
    net = build(f"timm/{name}", classes=7, size=size, channels=1)
    assert net.training
    images = torch.randn(2, 1, size, size, requires_grad=True)
    logits = net(images)
    assert logits.shape == (2, 7)
    logits.square().sum().backward()
    assert images.grad is not None
    assert all(bool(torch.isfinite(p).all()) and not p.is_meta for p in net.parameters())


def test_modules_that_are_shared_keep_their_weights_in_the_check() -> None:
    net = build("timm/coat_tiny", classes=2, size=32, channels=1)
    assert not any(tensor.is_meta for tensor in (*net.parameters(), *net.buffers()))
    assert net(torch.randn(2, 1, 32, 32)).shape == (2, 2)


def test_names_that_timm_does_not_know() -> None:
    with pytest.raises(UserError, match=r"timm/resnett18: timm .* has no such model; did you mean .*timm/resnet18"):
        build("timm/resnett18", classes=2, size=32, channels=3)
    with pytest.raises(UserError, match=r"leave the tag out: timm/resnet18$"):
        build("timm/resnet18.a1_in1k", classes=2, size=32, channels=3)
    with pytest.raises(UserError, match="no such model"):  # timm itself would look it up on the network
        build("timm/hf-hub:timm/resnet18", classes=2, size=32, channels=3)
    with pytest.raises(UserError, match="timm/crossvit_tiny_240 cannot take images of 3x32x32"):
        build("timm/crossvit_tiny_240", classes=2, size=32, channels=3)


def test_without_timm_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match=r"timm/resnet18: the package timm cannot be imported .*pip install timm"):
        build("timm/resnet18", classes=2, size=32, channels=3)
