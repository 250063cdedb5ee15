from __future__ import annotations

import pytest
import torch
from torchvision import models

from raycond.models.students import build
from raycond.models.students.residual import ResNet


@pytest.mark.parametrize(
    ("name", "size", "count"),
    [  # all agree with models/resnet.py and models/resnet_ap.py of snu-mllab/Efficient-Dataset-Condensation
        ("resnetap10", 224, 4_910_922),
        ("resnetap10-bn", 224, 4_910_922),
        ("resnetap10", 128, 4_903_242),
        ("resnetap10", 64, 4_903_242),
        ("resnetap10", 32, 1_228_970),
        ("resnet10-in", 224, 4_910_922),
        ("resnet10-bn", 32, 1_228_970),
        ("resnet18-in", 224, 11_181_642),
        ("resnet18-in", 32, 11_173_962),  # also ResNet18 of VICO-UoE/DatasetCondensation
    ],
)
def test_parameters_are_those_of_the_field(name: str, size: int, count: int) -> None:
    assert sum(p.numel() for p in build(name, classes=10, size=size, channels=3).parameters()) == count


def test_resnet18_of_large_images_is_torchvisions() -> None:
    torch.manual_seed(0)
    reference, own = models.resnet18(num_classes=5).eval(), build("resnet18-bn", classes=5, size=129, channels=3).eval()
    with torch.no_grad():
        for theirs, ours in zip(reference.parameters(), own.parameters(), strict=True):
            ours.copy_(theirs)
        images = torch.randn(2, 3, 129, 129)
        assert torch.allclose(reference(images), own(images), atol=1e-5)
    assert {type(m).__name__ for m in build("resnet18-in", classes=5, size=129, channels=3).modules()} >= {"GroupNorm"}


def test_resnetap_is_the_resnet_with_pools_for_strides() -> None:
    net = build("resnetap10-bn-w8", classes=3, size=64, channels=1)
    assert all(conv.stride == (1, 1) for conv in net.modules() if isinstance(conv, torch.nn.Conv2d))
    assert [type(block.pool).__name__ for block in net.stages] == ["Identity", "AvgPool2d", "AvgPool2d", "AvgPool2d"]
    strides = [
        conv.stride[0]
        for conv in build("resnet10-w8", classes=3, size=64, channels=1).modules()
        if isinstance(conv, torch.nn.Conv2d) and conv.kernel_size == (3, 3)
    ]
    assert strides == [1, 1, 1, 2, 1, 2, 1, 2, 1]


@pytest.mark.parametrize(
    ("size", "average", "side", "kernel"),
    [
        (8, False, 2, 3),
        (8, True, 2, 3),
        (2, True, 2, 3),
        (9, True, 2, 3),
        (9, False, 2, 3),
        (64, False, 8, 3),
        (64, True, 8, 3),
        (65, False, 5, 3),
        (128, True, 8, 3),
        (129, False, 5, 7),
        (224, True, 7, 7),
        (224, False, 7, 7),
    ],
)
def test_maps_keep_two_pixels_a_side(size: int, average: bool, side: int, kernel: int) -> None:
    net = ResNet(10, classes=3, size=size, channels=1, width=2, norm="in", average=average).eval()
    with torch.no_grad():
        assert net.stages(net.stem(torch.randn(1, 1, size, size))).shape == (1, 16, side, side)
    assert net.stem[0].kernel_size == (kernel, kernel)


@pytest.mark.parametrize(
    "name", ["resnetap10-w4", "resnetap10-bn-w4", "resnet10-w4", "resnet18-in-w4", "resnetap18-w4"]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_gradients_reach_every_weight(name: str, channels: int) -> None:
    net = build(name, classes=3, size=8, channels=channels)
    images = torch.randn(2, channels, 8, 8, requires_grad=True)
    (slope,) = torch.autograd.grad(net(images).square().sum(), images, create_graph=True)
    slope.square().sum().backward()  # a second time, as gradient matching does
    assert all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in net.parameters() if p.ndim > 1)


@pytest.mark.parametrize(
    ("name", "mixes"), [("resnetap10-w8", False), ("resnet10-in-w8", False), ("resnet10-w8", True)]
)
def test_only_batch_norm_mixes_images(name: str, mixes: bool) -> None:
    torch.manual_seed(0)
    net = build(name, classes=3, size=16, channels=1)
    images = torch.randn(4, 1, 16, 16)
    with torch.no_grad():
        together, parts = net(images), torch.cat([net(images[:2]), net(images[2:])])
    assert torch.allclose(together, parts, atol=1e-5) != mixes
