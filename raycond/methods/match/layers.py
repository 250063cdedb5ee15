"""Layers of a ConvNet that torch computes slowly on a CPU, in a form that can be differentiated twice."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class AveragePool(nn.Module):
    """nn.AvgPool2d(2): torch's kernel works through single pixels on a CPU and takes a fifth of a ConvNet's time.

    Half precision goes through one matrix product that adds pairs of rows and of columns at once; float32 through
    strided sums. Odd sides and other devices use torch's own.
    """

    def forward(self, images: Tensor) -> Tensor:
        if images.device.type != "cpu" or images.shape[2] % 2 or images.shape[3] % 2:
            return F.avg_pool2d(images, 2)
        pooled: Tensor = _Pool.apply(images)
        return pooled


class _Pool(torch.autograd.Function):
    """The mean over 2x2 pixels; its derivative is `_Spread`, whose derivative is `_Pool` again."""

    @staticmethod
    def forward(_: Any, images: Tensor) -> Tensor:
        if images.dtype == torch.float32:
            rows = images[:, :, 0::2] + images[:, :, 1::2]
            return (rows[..., 0::2] + rows[..., 1::2]).mul_(0.25)
        n, channels, height, width = images.shape
        pooled = images.reshape(-1, 2 * width) @ _pairs(width, images.dtype)
        return pooled.view(n, channels, height // 2, width // 2)

    @staticmethod
    def backward(_: Any, *gradients: Tensor) -> Tensor:
        spread: Tensor = _Spread.apply(gradients[0])
        return spread


class _Spread(torch.autograd.Function):
    """A quarter of every pixel to each of the 2x2 pixels that it stands for."""

    @staticmethod
    def forward(_: Any, pooled: Tensor) -> Tensor:
        n, channels, height, width = pooled.shape
        images = pooled.reshape(-1, width) @ _pairs(2 * width, pooled.dtype).T
        return images.view(n, channels, 2 * height, 2 * width)

    @staticmethod
    def backward(_: Any, *gradients: Tensor) -> Tensor:
        pooled: Tensor = _Pool.apply(gradients[0])
        return pooled


@lru_cache(maxsize=32)
def _pairs(width: int, dtype: torch.dtype) -> Tensor:
    """(2·width, width / 2): a quarter where two neighboring rows of `width` pixels, end to end, fall into a column."""
    column = torch.arange(width) // 2
    return 0.25 * F.one_hot(column, width // 2).repeat(2, 1).to(dtype)


def quick(net: nn.Module) -> nn.Module:
    """The same network, in place, with its 2x2 average pools exchanged for `AveragePool`."""
    for name, module in list(net.named_modules()):
        if isinstance(module, nn.AvgPool2d) and _halves(module):
            parent, _, leaf = name.rpartition(".")
            setattr(net.get_submodule(parent), leaf, AveragePool())
    return net


def _halves(pool: nn.AvgPool2d) -> bool:
    plain = pool.padding in (0, (0, 0)) and not pool.ceil_mode and pool.divisor_override is None
    return plain and all(side in (2, (2, 2)) for side in (pool.kernel_size, pool.stride))
