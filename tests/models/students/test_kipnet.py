"""KIP's finite network: its shape, and that it is the wide network whose kernel the sets were made with."""

from __future__ import annotations

import pytest
import torch

from raycond.methods.kernels.ntk import kernel_matrix
from raycond.methods.kernels.registry import kernel
from raycond.models.students import build


def layer(inputs: int, outputs: int) -> int:
    return 9 * inputs * outputs + outputs


@pytest.mark.parametrize(
    ("name", "size", "channels", "count"),
    [
        ("kipnet3-w16", 32, 3, layer(3, 16) + 3 * layer(16, 16) + 16 * 4 * 4 * 10 + 10),
        ("kipnet3-w16-noextra", 32, 3, layer(3, 16) + 2 * layer(16, 16) + 16 * 4 * 4 * 10 + 10),
        ("kipnet3-w16", 28, 1, layer(1, 16) + 3 * layer(16, 16) + 16 * 3 * 3 * 10 + 10),  # 28, 14, 7, 3
        ("kipnet3-w16", 4, 1, layer(1, 16) + 3 * layer(16, 16) + 16 * 10 + 10),
    ],
)
def test_parameters(name: str, size: int, channels: int, count: int) -> None:
    net = build(name, classes=10, size=size, channels=channels)
    assert sum(p.numel() for p in net.parameters()) == count
    assert net(torch.zeros(2, channels, size, size)).shape == (2, 10)


@pytest.mark.parametrize(("name", "like"), [("kipnet3-w64", "convnet"), ("kipnet3-w64-noextra", "convnet3")])
def test_outputs_of_untrained_networks_have_the_covariance_of_the_kernel(name: str, like: str) -> None:
    """An infinitely wide network is a Gaussian process with the NNGP kernel; 64 channels are near enough."""
    torch.manual_seed(0)
    images = torch.randn(2, 3, 8, 8)
    images[1] += images[0]
    with torch.no_grad():
        outputs = torch.cat([build(name, classes=60, size=8, channels=3)(images) for _ in range(25)], dim=1)
    expected = kernel_matrix(kernel(like), images, output="nngp")
    torch.testing.assert_close(outputs @ outputs.t() / outputs.shape[1], expected, rtol=0.15, atol=0)
