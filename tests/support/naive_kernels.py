"""The kernels as their formulas are written: all pixel pairs of all image pairs in one array, derivatives by torch."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from raycond.methods.kernels.activation import TOLERANCE
from raycond.methods.kernels.architecture import Architecture


def naive_kernel(network: Architecture, x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """NNGP and tangent kernel (n, k) of images (n, C, H, W) and (k, C, H, W)."""
    x, z = (images.reshape(len(images), *network.seen(tuple(images.shape[1:]))) for images in (x, z))
    k, t = _products(x, z), torch.zeros(())
    t = torch.zeros_like(k)
    k_x, k_z = (_products(images, images, paired=True) for images in (x, z))
    for level in network.levels:
        for _ in range(level.layers):
            k, k_x, k_z, t_sum = (_conv(network, each) for each in (k, k_x, k_z, t))
            t = t_sum - network.b_std**2 + k
            p, q = _variances(k_x)[:, None, :, :, None, None], _variances(k_z)[None, :, None, None]
            k, slope = _activation(network.activation, k, p, q)
            t = t * slope
            k_x, k_z = (_self_activation(network.activation, each) for each in (k_x, k_z))
        if level.pool:
            k, k_x, k_z, t = (_pool(each) for each in (k, k_x, k_z, t))
    k, t = (_head(network, each) for each in (k, t))
    nngp = network.w_std**2 * k + network.b_std**2
    return nngp, network.w_std**2 * t + nngp


def _products(x: Tensor, z: Tensor, paired: bool = False) -> Tensor:
    """(n, k, H, W, H, W), or (n, H, W, H, W) of each image with itself."""
    form = "nchw,ncyx->nhwyx" if paired else "nchw,kcyx->nkhwyx"
    return torch.einsum(form, x, z) / x.shape[1]


def _conv(network: Architecture, k: Tensor) -> Tensor:
    side = network.filter // 2
    padded = torch.nn.functional.pad(k, (side, side) * 4)
    h, w = k.shape[-2:]
    offsets = [(a, b) for a in range(network.filter) for b in range(network.filter)]
    total = sum(padded[..., a : a + h, b : b + w, a : a + h, b : b + w] for a, b in offsets)
    return network.w_std**2 / len(offsets) * total + network.b_std**2


def _variances(k: Tensor) -> Tensor:
    h, w = k.shape[-2:]
    return k.reshape(-1, h * w, h * w).diagonal(dim1=1, dim2=2).reshape(-1, h, w)


def _self_activation(kind: str, k: Tensor) -> Tensor:
    variances = _variances(k)
    return _activation(kind, k, variances[:, :, :, None, None], variances[:, None, None])[0]


def _activation(kind: str, k: Tensor, p: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    if kind == "erf":
        product = (1 + 2 * p) * (1 + 2 * q)
        slope = (4 / math.pi) / (product - 4 * k.square()).sqrt()
        return (2 / math.pi) * torch.asin(2 * k / product.sqrt()), slope
    squared = p * q - k.square()
    sloping = squared > TOLERANCE[k.dtype] * p * q
    root = torch.where(sloping, torch.where(sloping, squared, 1).sqrt(), 0)
    angle = torch.atan2(root, -k)
    return (root + angle * k) / (2 * math.pi), angle / (2 * math.pi)


def _pool(k: Tensor) -> Tensor:
    h, w = k.shape[-2] // 2, k.shape[-1] // 2
    k = k[..., : 2 * h, : 2 * w, : 2 * h, : 2 * w]
    return k.reshape(*k.shape[:-4], h, 2, w, 2, h, 2, w, 2).mean((-7, -5, -3, -1))


def _head(network: Architecture, k: Tensor) -> Tensor:
    if network.head == "gap":
        return k.mean((-4, -3, -2, -1))
    h, w = k.shape[-2:]
    return k.reshape(*k.shape[:-4], h * w, h * w).diagonal(dim1=-2, dim2=-1).mean(-1)
