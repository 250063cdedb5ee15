"""The ResNets of the dataset-condensation literature: instance norm, and average pools instead of strides."""

from __future__ import annotations

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from raycond.models.students.base import Family
from raycond.models.students.convnet import norm_layer

BLOCKS = {10: 1, 18: 2}  # residual blocks in each of the four stages, by depth
SMALL, MIDDLE = 64, 128  # up to so many pixels a side: no pool in the stem; a small stem with a pool


class ResNet(nn.Module):
    """A ResNet of basic blocks in four stages; (n, channels, size, size) to (n, classes).

    The architecture is IDC's (arXiv 2205.14959, models/resnet.py and resnet_ap.py), which `minimax-hard` uses
    too. `average` makes it ResNetAP: convolutions have stride 1, and a 2x2 average pool halves the map where
    the ResNet has a stride. The stem follows the image size:

    - above 128 pixels: 7x7 convolution of stride 2 and 3x3 max pool of stride 2; ResNetAP: 7x7 convolution of
      stride 1 and 4x4 average pool. Here depth 18 with norm "bn" is torchvision's resnet18.
    - 65 to 128: 3x3 convolution, then the max pool; ResNetAP: 2x2 average pool.
    - up to 64: 3x3 convolution, no pool.

    Stages have `width`, 2, 4 and 8 times `width` channels. The default width is 64, as in DC's code, but 32 for
    depth 10 and images of up to 32 pixels: IDC's CIFAR form. `norm` is "in" (GroupNorm with one channel a
    group) or "bn". Convolutions have no bias and start from He's normal distribution over outputs.

    Unlike IDC's, a stage halves the map only while at least 2 pixels a side are left (instance norm of one
    pixel is a constant), so images of 8 pixels work; and ResNetAP's shortcuts pool before their 1x1
    convolution, which is the same function for a quarter of the work.
    """

    def __init__(
        self,
        depth: int,
        *,
        classes: int,
        size: int,
        channels: int,
        width: int | None = None,
        norm: str = "bn",
        average: bool = False,
    ) -> None:
        super().__init__()
        width = width or (32 if depth == 10 and size <= 32 else 64)
        self.stem, side = _stem(channels, width, size, norm, average)
        stages: list[nn.Module] = []
        before = width
        for stage in range(4):
            planes = width * 2**stage
            half = side // 2 if average else (side + 1) // 2
            stride = 2 if stage and half >= 2 else 1
            side = half if stride == 2 else side
            for block in range(BLOCKS[depth]):
                stages.append(_Block(before, planes, norm, average, stride=1 if block else stride))
                before = planes
        self.stages = nn.Sequential(*stages)
        self.classifier = nn.Linear(before, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def embed(self, images: Tensor) -> Tensor:
        """The mean over the pixels of the last map: (n, channels, size, size) to (n, 8 · width)."""
        return self.stages(self.stem(images)).mean((2, 3))

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.embed(images))


class _Block(nn.Module):
    """Two 3x3 convolutions and a shortcut; `stride` 2 halves the map, by a pool if `average`."""

    def __init__(self, before: int, planes: int, norm: str, average: bool, *, stride: int) -> None:
        super().__init__()
        step, pool = (1, stride) if average else (stride, 1)
        self.pool = nn.AvgPool2d(pool) if pool > 1 else nn.Identity()
        self.conv1 = nn.Conv2d(before, planes, 3, stride=step, padding=1, bias=False)
        self.norm1 = norm_layer(norm, planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.norm2 = norm_layer(norm, planes)
        self.shortcut = nn.Sequential()
        if stride != 1 or before != planes:
            convolution = nn.Conv2d(before, planes, 1, stride=step, bias=False)
            self.shortcut = nn.Sequential(convolution, norm_layer(norm, planes))

    def forward(self, x: Tensor) -> Tensor:
        y = self.pool(F.relu(self.norm1(self.conv1(x)), inplace=True))
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(self.pool(x)), inplace=True)


def _stem(channels: int, width: int, size: int, norm: str, average: bool) -> tuple[nn.Sequential, int]:
    """The layers before the stages, and the side of the map that they give."""
    large = size > MIDDLE
    stride = 2 if large and not average else 1
    kernel = 7 if large else 3
    layers: list[nn.Module] = [
        nn.Conv2d(channels, width, kernel, stride=stride, padding=kernel // 2, bias=False),
        norm_layer(norm, width),
        nn.ReLU(inplace=True),
    ]
    side = -(-size // stride)
    if size <= SMALL:
        return nn.Sequential(*layers), side
    if average:
        window = 4 if large else 2
        return nn.Sequential(*layers, nn.AvgPool2d(window)), side // window
    return nn.Sequential(*layers, nn.MaxPool2d(3, stride=2, padding=1)), (side + 1) // 2


RESNET = Family(
    partial(ResNet, norm="bn"),
    listed=("resnet10", "resnet10-in", "resnet18-in"),
    depths=tuple(BLOCKS),
    choices={"norm": ("bn", "in")},
)
RESNETAP = Family(
    partial(ResNet, norm="in", average=True),
    listed=("resnetap10", "resnetap10-bn"),
    depths=tuple(BLOCKS),
    choices={"norm": ("in", "bn")},
)
