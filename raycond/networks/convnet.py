"""The ConvNet and the MLP of the dataset-condensation literature."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from raycond.errors import UserError


class ConvNet(nn.Module):
    """`depth` blocks of conv3x3(width), instance norm, ReLU, 2x2 average pool, then one linear layer.

    Input (n, channels, size, size), output (n, classes). ConvNet-3 with width 128 is the net of DC, DSA and
    DM (arXiv 2006.05929, section 4). Instance norm is GroupNorm with one channel a group. A block pools only
    while a map of at least 2 pixels a side is left: instance norm of a single pixel is a constant, and pooling
    4 normalised pixels to 1 loses what they said. So small images lose pools, never blocks. Images of 28
    pixels (MNIST) are padded to 32 by the first convolution, as in DC's code.
    """

    def __init__(self, depth: int, *, classes: int, size: int, channels: int, width: int = 128) -> None:
        super().__init__()
        if size < 2:
            raise UserError(f"student convnet{depth}: images must be at least 2 pixels a side, not {size}")
        blocks: list[nn.Module] = []
        first = 3 if size == 28 else 1
        side = size + 2 * (first - 1)
        for block in range(depth):
            blocks += [
                nn.Conv2d(width if block else channels, width, 3, padding=1 if block else first),
                nn.GroupNorm(width, width),
                nn.ReLU(inplace=True),
            ]
            if side // 2 >= 2:
                blocks.append(nn.AvgPool2d(2))
                side //= 2
        self.features = nn.Sequential(*blocks)
        self.classifier = nn.Linear(width * side * side, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.features(images), 1))


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

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)
