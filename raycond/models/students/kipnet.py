"""The finite network of KIP's transfer experiments: the ConvNet of condensation without norm, as its kernel has it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from raycond.models.students.base import Family

W_STD, B_STD = math.sqrt(2), 0.1


class KipNet(nn.Module):
    """`depth` blocks of conv3x3(width), ReLU and 2x2 average pool, one more convolution with ReLU before them, then one
    linear layer (KIP, arXiv 2107.13034, and its nn_training.ipynb).

    Input (n, channels, size, size), output (n, classes). Zero padding of one pixel everywhere; pooling drops the last
    row and column of odd maps, and stops at one pixel. Initial weights are normal with variance 2 / fan-in, biases with
    standard deviation 0.1: the standard parameterization of the infinitely wide network. first: `noextra` leaves the
    first convolution out, as for sets of the ConvNet3 kernel.
    """

    def __init__(
        self, depth: int, *, classes: int, size: int, channels: int, width: int = 1024, first: str = "extra"
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = channels
        if first == "extra":
            layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU()]
            inputs = width
        side = size
        for _ in range(depth):
            layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU()]
            if side > 1:
                layers.append(nn.AvgPool2d(2))
            inputs, side = width, max(1, side // 2)
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(width * side * side, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                _initialize(module)

    def embed(self, images: Tensor) -> Tensor:
        """The last map, flattened: (n, channels, size, size) to (n, width · side²)."""
        return torch.flatten(self.features(images), 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.embed(images))


def _initialize(layer: nn.Conv2d | nn.Linear) -> None:
    nn.init.normal_(layer.weight, std=W_STD / math.sqrt(layer.weight[0].numel()))
    assert layer.bias is not None
    nn.init.normal_(layer.bias, std=B_STD)


KIPNET = Family(KipNet, listed=("kipnet3",), depths=tuple(range(1, 8)), choices={"first": ("extra", "noextra")})
