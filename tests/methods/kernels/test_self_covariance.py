from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from raycond.methods.kernels import self_covariance
from raycond.methods.kernels.architecture import Architecture, Level
from raycond.methods.kernels.registry import kernel
from raycond.methods.kernels.self_covariance import norms, norms_vjp

NETWORKS = [
    (kernel("fc2"), (4, 1, 1)),
    (kernel("convnet3"), (2, 9, 8)),
    (Architecture("gap", (Level(1, True), Level(2)), activation="erf", head="gap"), (1, 5, 6)),
]


@pytest.mark.parametrize(("network", "shape"), NETWORKS, ids=["fc2", "convnet3", "gap"])
def test_norms_of_every_layer_and_their_gradient(
    network: Architecture, shape: tuple, normal: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Image by image, whatever the number at once; finite differences of the logarithms."""
    images = normal(5, shape).permute(1, 2, 3, 0)
    together = norms(network, images)
    assert len(together) == sum(level.layers for level in network.levels)
    monkeypatch.setattr(self_covariance, "IMAGES", 2)
    for few, many in zip(norms(network, images), together, strict=True):
        torch.testing.assert_close(few, many)
    weights = [torch.ones_like(layer) * (k + 1) for k, layer in enumerate(together)]
    direction = normal(5, shape, seed=1).permute(1, 2, 3, 0)

    def total(step: float) -> float:
        layers = norms(network, images + step * direction)
        return sum(float((layer.log() * weight).sum()) for layer, weight in zip(layers, weights, strict=True))

    slope = (total(1e-5) - total(-1e-5)) / 2e-5
    assert float((norms_vjp(network, images, weights) * direction).sum()) == pytest.approx(slope, rel=1e-6)
