"""The ConvNet and the MLP of the dataset-condensation literature."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from raycond.core.errors import UserError
from raycond.models.students.base import Family

GROUPS = 4  # of norm gn, as in VICO's networks.py

POOLS: Mapping[str, Callable[[int], nn.Module] | None] = {"avg": nn.AvgPool2d, "max": nn.MaxPool2d, "nopool": None}
ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = {
    "relu": lambda: nn.ReLU(inplace=True),
    "sigmoid": nn.Sigmoid,
    "leaky": lambda: nn.LeakyReLU(0.01, inplace=True),
}
NORMS = ("in", "bn", "ln", "gn", "nonorm")


def norm_layer(norm: str, width: int, side: int = 0) -> nn.Module:
    """The norm of a (n, width, side, side) map, with affine parameters. Only ln needs to know the side.

    in: instance norm, each channel of each image by itself; bn: batch norm; ln: layer norm over channels and
    pixels, with one pair of parameters for each of them; gn: group norm of 4 groups of channels.
    """
    if norm == "in":  # on a CPU GroupNorm is faster than InstanceNorm2d, in either memory format
        return nn.GroupNorm(width, width)
    if norm == "bn":
        return nn.BatchNorm2d(width)
    if norm == "ln":
        return nn.LayerNorm([width, side, side])
    if norm == "gn":
        return nn.GroupNorm(GROUPS, width)
    return nn.Identity()


class ConvNet(nn.Module):
    """`depth` blocks of conv3x3(width), norm, activation, 2x2 pool, then one linear layer.

    Input (n, channels, size, size), output (n, classes). ConvNet-3 with width 128, instance norm, ReLU and
    average pools is the net of DC, DSA and DM (arXiv 2006.05929, section 4); the other norms, pools and
    activations are those of DC's code. Instance norm is GroupNorm with one channel a group. A block pools
    only while a map of at least 2 pixels a side is left: instance norm of a single pixel is a constant, and
    pooling 4 normalised pixels to 1 loses what they said. So small images lose pools, never blocks. Images of 28
    pixels (MNIST) are padded to 32 by the first convolution, as in DC's code.
    """

    def __init__(
        self,
        depth: int,
        *,
        classes: int,
        size: int,
        channels: int,
        width: int = 128,
        norm: str = "in",
        pool: str = "avg",
        activation: str = "relu",
    ) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        first = 3 if size == 28 else 1
        side = size + 2 * (first - 1)
        halve = POOLS[pool]
        for block in range(depth):
            blocks += [
                nn.Conv2d(width if block else channels, width, 3, padding=1 if block else first),
                norm_layer(norm, width, side),
                ACTIVATIONS[activation](),
            ]
            if halve and side // 2 >= 2:
                blocks.append(halve(2))
                side //= 2
        self.features = nn.Sequential(*blocks)
        self.classifier = nn.Linear(width * side * side, classes)

    def embed(self, images: Tensor) -> Tensor:
        """The last map, flattened: (n, channels, size, size) to (n, width · side²)."""
        return torch.flatten(self.features(images), 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.embed(images))


class MLP(nn.Module):
    """Three linear layers with ReLU, `width` units in each hidden one; (n, channels, size, size) to (n, classes)."""

    def __init__(self, *, classes: int, size: int, channels: int, width: int = 128) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(channels * size * size, width),
            nn.ReLU(inplace=True),
            nn.Linear(width, width),
            nn.ReLU(inplace=True),
            nn.Linear(width, classes),
        )

    def embed(self, images: Tensor) -> Tensor:
        """The second hidden layer: (n, channels, size, size) to (n, width)."""
        return self.layers[:-1](images)

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


def _convnet(depth: int, *, width: int = 128, norm: str = "in", **options: Any) -> ConvNet:
    if norm == "gn" and width % GROUPS:
        raise UserError(f"-gn has {GROUPS} groups of channels, so the width must be a multiple of {GROUPS}")
    return ConvNet(depth, width=width, norm=norm, **options)


CONVNET = Family(
    _convnet,
    listed=("convnet3", "convnet4", "convnet6"),  # those of the literature's tables
    depths=tuple(range(1, 8)),
    choices={"norm": NORMS, "pool": (*POOLS,), "activation": (*ACTIVATIONS,)},
)
MLP_FAMILY = Family(MLP, listed=("mlp",), smallest=1)
