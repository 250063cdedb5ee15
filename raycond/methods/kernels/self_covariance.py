"""The norms n[p] of every activation layer: from the covariance of each image with itself, once per image."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from raycond.methods.kernels.activation import ACTIVATIONS, DualActivation, Saved
from raycond.methods.kernels.architecture import Architecture
from raycond.methods.kernels.planes import Planes, box, displacements, moved, pool_into, pooled, region

IMAGES = 32  # at once: bounds the memory of a derivative


def norms(network: Architecture, images: Tensor) -> list[Tensor]:
    """Per activation layer (h, w, n), float64, from images (C, H, W, n); without a gradient."""
    with torch.no_grad():
        parts = [_norms(network, part.double()) for part in images.split(IMAGES, dim=3)]
    return [torch.cat(layer, dim=2) for layer in zip(*parts, strict=True)]


def norms_vjp(network: Architecture, images: Tensor, grads: list[Tensor]) -> Tensor:
    """The gradient (C, H, W, n), float64, by the images of Σ grads · log norms; grads: (h, w, n) per layer."""
    out = torch.empty(images.shape, dtype=torch.float64, device=images.device)
    for start in range(0, images.shape[3], IMAGES):
        part = slice(start, start + IMAGES)
        with torch.enable_grad():
            inputs = images[..., part].double().detach().requires_grad_()
            layers = [layer.log() for layer in _norms(network, inputs)]
            upstream = [grad[..., part].double() for grad in grads]
            (out[..., part],) = torch.autograd.grad(layers, inputs, upstream)
    return out


def _norms(network: Architecture, images: Tensor) -> list[Tensor]:
    """Only one plane of each pair d, −d is kept: the two hold the same numbers, in the same order."""
    activation = ACTIVATIONS[network.activation]
    sizes, radii = network.sizes(_shape(images)), network.self_radii(_shape(images))
    weight, bias = network.w_std**2 / network.filter**2, network.b_std**2
    planes: Planes = {}
    for d in _half(radii[0]):
        p, q = region(sizes[0], d), moved(sizes[0], d)
        planes[d] = (images[:, *p] * images[:, *q]).mean(0)
    norms: list[Tensor] = []
    for number, (level, size) in enumerate(zip(network.levels, sizes, strict=True)):
        for _ in range(level.layers):
            planes = {d: weight * _averaged(plane, network.filter) + bias for d, plane in planes.items()}
            norm = activation.norm(planes[0, 0])
            norms.append(norm)
            planes = {
                d: _Dual.apply(activation, plane, norm[region(size, d)] * norm[moved(size, d)])
                if d != (0, 0)
                else activation.of_equal(plane)
                for d, plane in planes.items()
            }
        if number + 1 < len(network.levels):
            planes = _pool(planes, size, radii[number], radii[number + 1])
    return norms


def _pool(planes: Planes, size: tuple[int, int], fine: tuple[int, int], coarse: tuple[int, int]) -> Planes:
    out: Planes = {}
    for d in _half(coarse):
        rows, columns = region(pooled(size), d)
        shape = (rows.stop - rows.start, columns.stop - columns.start, planes[0, 0].shape[2])
        out[d] = planes[0, 0].new_zeros(shape)
    for d in displacements(fine):
        pool_into(out, planes[d] if d in planes else planes[-d[0], -d[1]], d, size, axis=0)
    return out


def _half(radius: tuple[int, int]) -> Iterator[tuple[int, int]]:
    return (d for d in displacements(radius) if d >= (0, 0))


def _averaged(plane: Tensor, filter_size: int) -> Tensor:
    return plane if filter_size == 1 else _Box.apply(plane)


class _Dual(torch.autograd.Function):
    """K' (h, w, n) from K and n_p n_q: the formulas of `activation` for one "column" j of norm 1."""

    @staticmethod
    def forward(ctx: Any, activation: DualActivation, k: Tensor, norm: Tensor) -> Tensor:
        ctx.activation = activation
        saved = activation.angles((-activation.scale * k / norm)[..., None], None)
        ctx.save_for_backward(norm, *saved[:3])
        out = norm.new_empty(2, *norm.shape, 1)
        activation(saved, norm, norm.new_ones(*norm.shape[:2], 1), 1.0, out)
        return out[0, ..., 0].clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, Tensor]:
        norm, m, root, angle = ctx.saved_tensors
        both = torch.stack((grad, torch.zeros_like(grad)))[..., None]
        one = norm.new_ones(*norm.shape[:2], 1)
        by = ctx.activation.gradients(Saved(m, root, angle, None), norm, one, 1.0, both)
        return None, by.k[..., 0], by.log_norm[..., 0] / norm


class _Box(torch.autograd.Function):
    @staticmethod
    def forward(_ctx: Any, plane: Tensor) -> Tensor:
        return box(plane, 0)

    @staticmethod
    def backward(_ctx: Any, grad: Tensor) -> Tensor:
        return box(grad, 0)


def _shape(images: Tensor) -> tuple[int, int, int]:
    channels, height, width, _ = images.shape
    return channels, height, width
