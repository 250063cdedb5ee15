"""Neural tangent kernels and NNGP kernels between images, exact, and their vector-Jacobian products.

A block of the kernel matrix is a pure function of two sets of images: it can be computed anywhere, again, and in any
order. Blocks are cut into tiles whose planes fit the processor's cache (`raycond.methods.kernels.recursion`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Literal

import torch
from torch import Tensor

from raycond.core.errors import UserError
from raycond.methods.kernels.architecture import Architecture, Shape
from raycond.methods.kernels.recursion import Fields, Recursion, shape_of

Output = Literal["ntk", "nngp"]
ENTRIES = {"cpu": 2**18, "cuda": 2**25}  # pixel pairs of one plane at once: several such arrays are alive
KEPT = {"cpu": 2**27, "cuda": 2**32}  # bytes of the planes between two levels


@torch.no_grad()
def kernel_matrix(network: Architecture, x: Tensor, z: Tensor | None = None, *, output: Output = "ntk") -> Tensor:
    """The kernel between images x (n, C, H, W) and z (k, C, H, W): (n, k), of their dtype, float32 or float64.

    Without z it is the one of x with itself, exactly symmetric, for half the work. Raises UserError if the network does
    not take such images.
    """
    _check(x, z)
    recursion = _recursion(network, x)
    left = Fields.of(network, x)
    right = left if z is None else Fields.of(network, z)
    matrix = x.new_empty(len(x), len(x) if z is None else len(z))
    for rows, columns in _tiles(network, x, matrix.shape[1], symmetric=z is None):
        _, values = recursion.forward(left.part(rows), right.part(columns))
        matrix[rows, columns] = values[_index(output)]
    if z is None:
        upper = matrix.triu()
        matrix = upper + upper.triu(1).t()
    return matrix


@torch.no_grad()
def kernel_vjp(
    network: Architecture,
    x: Tensor,
    z: Tensor | None,
    weights: Tensor,
    *,
    output: Output = "ntk",
    sides: tuple[bool, bool] = (True, True),
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of Σ weights · kernel_matrix(x, z) by x and by z, float64; None for a side that is not asked for.

    weights: (n, k). Without z both arguments of the kernel are x, weights need not be symmetric, and the first of the
    results is the gradient. Raises UserError as `kernel_matrix` does.
    """
    _check(x, z)
    shape = shape_of(x)
    recursion = _recursion(network, x)
    left = Fields.of(network, x)
    right = left if z is None else Fields.of(network, z)
    if z is None:  # every pair once, at its place above the diagonal
        weights, sides = (weights + weights.t()).triu(1) + weights.diag().diag(), (True, True)
    left_grads = left.zeros() if sides[0] else None
    right_grads = left_grads if z is None else right.zeros() if sides[1] else None
    for rows, columns in _tiles(network, x, len(x) if z is None else len(z), symmetric=z is None):
        tile = x.new_zeros(2, rows.stop - rows.start, columns.stop - columns.start)
        tile[_index(output)] = weights[rows, columns]
        parts = left.part(rows), right.part(columns)
        entering, _ = recursion.forward(*parts)
        recursion.backward(*parts, entering, tile, _part(left_grads, rows), _part(right_grads, columns))
    by_x = None if left_grads is None else left.gradient(network, left_grads, shape)
    by_z = None if right_grads is None or z is None else right.gradient(network, right_grads, shape)
    return by_x, by_z


def _recursion(network: Architecture, x: Tensor) -> Recursion:
    """The fused one where it runs; Triton comes with torch on Linux, and has no kernel without a GPU."""
    if x.is_cuda and find_spec("triton"):
        from raycond.methods.kernels import fused

        if fused.supports(network, x.dtype):
            return fused.FusedRecursion(network, shape_of(x))
    return Recursion(network, shape_of(x))


def _part(grads: Fields | None, images: slice) -> Fields | None:
    return None if grads is None else grads.part(images)


def _index(output: Output) -> int:
    return ("nngp", "ntk").index(output)


def _check(x: Tensor, z: Tensor | None) -> None:
    for images in (x,) if z is None else (x, z):
        if images.ndim != 4 or images.dtype not in (torch.float32, torch.float64):
            raise UserError(
                "kernels are of images (n, channels, height, width) in float32 or float64, not "
                f"{tuple(images.shape)} in {images.dtype}"
            )
    if z is not None and (z.shape[1:] != x.shape[1:] or z.dtype != x.dtype):
        raise UserError(
            f"kernels are of images of one kind: {tuple(x.shape[1:])} in {x.dtype} against {tuple(z.shape[1:])} in "
            f"{z.dtype}"
        )


def _tiles(network: Architecture, x: Tensor, columns: int, *, symmetric: bool) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of tiles; of a symmetric matrix those on and above the diagonal."""
    rows, across = tile_of(network, shape_of(x), x.dtype, len(x), columns, device=x.device.type)
    for start in range(0, len(x), rows):
        for first in range(start if symmetric else 0, columns, across):
            yield slice(start, min(start + rows, len(x))), slice(first, min(first + across, columns))


def tile_of(
    network: Architecture, shape: Shape, dtype: torch.dtype, rows: int, columns: int, *, device: str = "cpu"
) -> tuple[int, int]:
    """Rows and columns of the tiles of image pairs that a block (rows, columns) is cut into."""
    height, width = network.sizes(shape)[0]
    kept = 2 * dtype.itemsize * (sum(network.pixel_pairs(shape)[1:]) if device == "cpu" else _stored(network, shape))
    entries, most = ENTRIES.get(device, ENTRIES["cuda"]), KEPT.get(device, KEPT["cuda"])
    pairs = max(1, min(entries // (height * width), most // max(1, kept)))
    across = min(columns, pairs, max(64, math.isqrt(pairs)))
    return min(rows, max(1, pairs // across)), across


def _stored(network: Architecture, shape: Shape) -> int:
    """Entries of all layers, as `fused` stores them: a plane has all pixels."""
    levels = zip(network.levels, network.sizes(shape), network.radii(shape), strict=True)
    return sum(level.layers * (2 * ry + 1) * (2 * rx + 1) * h * w for level, (h, w), (ry, rx) in levels)
