"""Infinitely wide networks, described: their layers, which pixel pairs their kernels need, and how many those are.

An infinitely wide network is a Gaussian process. Its kernel between two images follows a recursion over the covariances
K[p, q] of pixel p of one image and pixel q of the other (KIP, arXiv 2107.13034; CNTK, arXiv 1904.11955). Two facts make
the recursion cheap:

* A convolution adds up K[p + o, q + o] over the offsets o of its filter, and an activation acts on every entry by
  itself. Both leave the displacement q − p as it is, so all pairs of one displacement form a *plane* that needs no
  other plane until the next pooling.
* A flatten head reads K[p, p] alone: displacement 0. The pooling before it draws on displacements −1 … 1 along each
  axis, the pooling before that on −3 … 3, then −7 … 7 (`radii`). For ConvNet on 28×28 pixels these are 364² of the
  784² pixel pairs (22 %), on 32×32 pixels 424² of 1024² (17 %). Without pooling it is one pair per pixel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from raycond.core.errors import UserError

Activation = Literal["relu", "erf"]
Head = Literal["flatten", "gap"]
Shape = tuple[int, int, int]  # channels, height, width


@dataclass(frozen=True)
class Level:
    """Some layers of convolution and activation at one size of the feature map, then a 2×2 average pooling or none."""

    layers: int
    pool: bool = False


@dataclass(frozen=True)
class Architecture:
    """An infinitely wide network in NTK parameterization; dense read-out at the end.

    filter: side of the convolutions, 3 (zero padding) or 1. head: `flatten`, or `gap` for global average pooling.
    w_std, b_std: standard deviations of weights and biases in every layer, read-out included (KIP: √2 and 0.1).
    dense: a fully-connected network, which sees an image as one pixel of many channels.
    square: only defined for square images.
    """

    name: str
    levels: tuple[Level, ...]
    filter: int = 3
    head: Head = "flatten"
    activation: Activation = "relu"
    w_std: float = math.sqrt(2)
    b_std: float = 0.1
    dense: bool = False
    square: bool = False

    def __post_init__(self) -> None:
        if self.filter not in (1, 3):
            raise UserError(f"kernel {self.name}: filters of 1 or 3 pixels, not {self.filter}")
        if not self.levels or any(level.layers < 1 for level in self.levels):
            raise UserError(f"kernel {self.name}: every level needs at least one layer")
        if not all(level.pool for level in self.levels[:-1]):
            raise UserError(f"kernel {self.name}: a level ends with a pooling, or is the last")
        if not self.w_std > 0 or not self.b_std >= 0 or math.isinf(self.w_std + self.b_std):
            raise UserError(f"kernel {self.name}: w_std must be above 0 and b_std at least 0")

    def seen(self, shape: Shape) -> Shape:
        """The shape as the network sees it."""
        return (math.prod(shape), 1, 1) if self.dense else shape

    def check(self, shape: Shape) -> None:
        """Raises UserError if the network is not defined for images (channels, height, width)."""
        channels, height, width = shape
        if min(shape) < 1:
            raise UserError(f"kernel {self.name}: images need at least one pixel, not {channels}×{height}×{width}")
        if self.square and height != width:
            raise UserError(
                f"kernel {self.name} is defined for square images, not {height}×{width}; "
                "crop or resize them, or use convnet or conv-vec3"
            )
        smallest = 2 ** sum(level.pool for level in self.levels)
        if not self.dense and min(height, width) < smallest:
            raise UserError(
                f"kernel {self.name} halves its images {smallest.bit_length() - 1} times: it needs at least {smallest} "
                f"pixels a side, not {height}×{width}"
            )

    def sizes(self, shape: Shape) -> list[tuple[int, int]]:
        """Height and width of the feature maps of each level; pooling drops the last row and column of odd maps."""
        _, height, width = self.seen(shape)
        sizes = []
        for level in self.levels:
            sizes.append((height, width))
            height, width = (height // 2, width // 2) if level.pool else (height, width)
        return sizes

    def radii(self, shape: Shape) -> list[tuple[int, int]]:
        """Largest displacement along each axis that each level needs."""
        height, width = self.final_size(shape)
        last = (height - 1, width - 1) if self.head == "gap" else (0, 0)
        return self._radii(shape, _before_pooling(last) if self.levels[-1].pool else last)

    def self_radii(self, shape: Shape) -> list[tuple[int, int]]:
        """The same for the covariance of an image with itself, of which activations need K[p, p] alone."""
        return self._radii(shape, (0, 0))

    def _radii(self, shape: Shape, last: tuple[int, int]) -> list[tuple[int, int]]:
        radii = [last]
        for _ in self.levels[1:]:
            radii.insert(0, _before_pooling(radii[0]))
        return [
            (min(radius[0], size[0] - 1), min(radius[1], size[1] - 1))
            for radius, size in zip(radii, self.sizes(shape), strict=True)
        ]

    def final_size(self, shape: Shape) -> tuple[int, int]:
        """Height and width of the map that the head sees."""
        height, width = self.sizes(shape)[-1]
        return (height // 2, width // 2) if self.levels[-1].pool else (height, width)

    def pixel_pairs(self, shape: Shape) -> list[int]:
        """Entries K[p, q] of one image pair at each level."""
        return [
            math.prod(_pairs(side, radius) for side, radius in zip(size, radii, strict=True))
            for size, radii in zip(self.sizes(shape), self.radii(shape), strict=True)
        ]

    def activations(self, shape: Shape) -> int:
        """Entries that go through an activation for one image pair: what the time of a kernel is proportional to."""
        return sum(level.layers * n for level, n in zip(self.levels, self.pixel_pairs(shape), strict=True))


def _before_pooling(radius: tuple[int, int]) -> tuple[int, int]:
    return 2 * radius[0] + 1, 2 * radius[1] + 1


def _pairs(side: int, radius: int) -> int:
    """Pairs of positions on a line of `side` that are at most `radius` apart."""
    return side * (2 * radius + 1) - radius * (radius + 1)
