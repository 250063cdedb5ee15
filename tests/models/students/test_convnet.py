from __future__ import annotations

import itertools

import pytest
import torch

from raycond.models.students import build
from raycond.models.students.convnet import ACTIVATIONS, NORMS, POOLS

VARIANTS = [f"convnet2-w8-{'-'.join(parts)}" for parts in itertools.product(NORMS, POOLS, ACTIVATIONS)]


def parameters(name: str, **images: int) -> int:
    return sum(p.numel() for p in build(name, **images).parameters())


@pytest.mark.parametrize(
    ("name", "size", "channels", "count"),
    [  # all agree with the networks of VICO-UoE/DatasetCondensation for these settings
        ("convnet3", 32, 3, 320_010),
        ("convnet3", 28, 1, 317_706),
        ("convnet3-bn", 32, 3, 320_010),
        ("convnet3-gn", 32, 3, 320_010),
        ("convnet3-nonorm", 32, 3, 320_010 - 3 * 2 * 128),
        ("convnet3-nopool", 32, 3, 320_010 + 10 * 128 * (32 * 32 - 4 * 4)),
        ("convnet3-ln", 32, 3, 320_010 + 2 * 128 * (32 * 32 + 16 * 16 + 8 * 8 - 3)),
        ("convnet3-w64-ln", 32, 3, 257_930),
        ("convnet2-w64-ln-max", 28, 1, 242_378),
    ],
)
def test_parameters_are_those_of_the_field(name: str, size: int, channels: int, count: int) -> None:
    assert parameters(name, classes=10, size=size, channels=channels) == count


def test_depth_4_takes_tiny_imagenet() -> None:
    assert parameters("convnet4", classes=200, size=64, channels=3) == 857_160


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize(("size", "channels"), [(8, 1), (28, 3)])
def test_every_variant_has_gradients(name: str, size: int, channels: int) -> None:
    net = build(name, classes=3, size=size, channels=channels)
    images = torch.randn(4, channels, size, size, requires_grad=True)
    logits = net(images)
    assert logits.shape == (4, 3)
    logits.square().sum().backward()
    gradients = [images.grad, *(p.grad for p in net.parameters())]
    assert all(g is not None and bool(torch.isfinite(g).all()) for g in gradients)
    assert float(net.features[0].weight.grad.abs().sum()) > 0


@pytest.mark.parametrize("name", [f"convnet2-w8-{norm}-{pool}" for norm in NORMS for pool in POOLS])
def test_gradients_of_gradients_for_matching(name: str) -> None:
    net = build(name, classes=3, size=8, channels=1).double()
    images = torch.randn(3, 1, 8, 8, dtype=torch.float64, requires_grad=True)

    def distance(x: torch.Tensor) -> torch.Tensor:
        return sum(
            g.square().sum() for g in torch.autograd.grad(net(x).square().sum(), [*net.parameters()], create_graph=True)
        )

    (slope,) = torch.autograd.grad(distance(images), images)
    step = torch.randn_like(images)
    change = (distance(images + 1e-6 * step) - distance(images - 1e-6 * step)) / 2e-6
    assert float((slope * step).sum()) == pytest.approx(float(change.detach()), rel=1e-4)


@pytest.mark.parametrize("norm", NORMS)
def test_only_batch_norm_mixes_images(norm: str) -> None:
    torch.manual_seed(0)
    net = build(f"convnet3-w8-{norm}", classes=3, size=16, channels=3)
    images = torch.randn(5, 3, 16, 16)
    with torch.no_grad():
        together, alone = net(images), torch.cat([net(image) for image in images.split(1)])
    assert torch.allclose(together, alone, atol=1e-5) == (norm != "bn")


def test_instance_norm_forgets_scale_and_offset_of_each_channel() -> None:
    torch.manual_seed(0)
    images = torch.rand(2, 1, 16, 16)
    moved = 3 * images + 1
    for norm, same in (("in", True), ("nonorm", False)):
        net = build(f"convnet1-w8-{norm}", classes=3, size=16, channels=1)
        net.features[0].padding = (0, 0)  # the zeros around the image do not move with it
        with torch.no_grad():
            assert torch.allclose(net.features(images), net.features(moved), atol=1e-3) == same
