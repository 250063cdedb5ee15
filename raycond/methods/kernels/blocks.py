"""Kernel matrices in blocks, and gradients by images block after block.

A block is a pure function of images and a network, so it can be computed by any worker, and again if a worker is lost.
Gradients never need a graph of more than a tile: the caller computes dL/dK of the assembled matrix, and each block
returns the vector-Jacobian product with its part of it. Results are put together in the order of the blocks: they do
not depend on who computed what, and on the size of the blocks only to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from raycond.core.errors import UserError
from raycond.methods.kernels.architecture import Architecture
from raycond.methods.kernels.ntk import Output, kernel_matrix, kernel_vjp

Item = TypeVar("Item")
Result = TypeVar("Result")
BLOCK = 512  # images a side


@dataclass(frozen=True)
class Block:
    """Rows and columns, from and below. mirrored: above the diagonal of a symmetric matrix, standing for its mirror
    image too. diagonal: on it, where rows and columns are the same images."""

    rows: tuple[int, int]
    columns: tuple[int, int]
    mirrored: bool = False
    diagonal: bool = False

    @property
    def index(self) -> tuple[slice, slice]:
        return slice(*self.rows), slice(*self.columns)


class BlockMap(Protocol):
    """How blocks are computed: `function(*shared, item)` for every item, yielded in the order of the items.

    The function is pure and can be pickled; shared arrays are the same for all items, and sent to a worker once."""

    def __call__(
        self, function: Callable[..., Result], shared: tuple[Any, ...], items: Iterable[Item]
    ) -> Iterator[Result]: ...


def in_turn(function: Callable[..., Result], shared: tuple[Any, ...], items: Iterable[Item]) -> Iterator[Result]:
    """In this process, one after another."""
    return (function(*shared, item) for item in items)


def blocks(rows: int, columns: int | None, size: int) -> list[Block]:
    """Of a matrix (rows, columns), or without columns of a symmetric one: the blocks on and above its diagonal.

    Raises UserError for a size below 1.
    """
    if size < 1:
        raise UserError(f"--block must be at least 1, not {size}")
    down = _spans(rows, size)
    if columns is not None:
        return [Block(row, column) for row in down for column in _spans(columns, size)]
    pairs = [(row, column) for i, row in enumerate(down) for column in down[i:]]
    return [Block(row, column, mirrored=row != column, diagonal=row == column) for row, column in pairs]


def _spans(count: int, size: int) -> list[tuple[int, int]]:
    return [(start, min(start + size, count)) for start in range(0, count, size)]


def block_kernel(
    network: Architecture, output: Output, device: str, x: Tensor, z: Tensor | None, block: Block
) -> Tensor:
    """One block of the kernel between x and z, or x and itself, computed on `device`; on the CPU."""
    left, right = _images(device, x, z, block)
    return kernel_matrix(network, left, right, output=output).cpu()


def block_vjp(
    network: Architecture, output: Output, device: str, x: Tensor, z: Tensor | None, item: tuple[Block, Tensor]
) -> list[tuple[tuple[int, int], Tensor]]:
    """Gradients by images of x, with the rows that they belong to, of Σ weights · block; weights as the block."""
    block, weights = item
    left, right = _images(device, x, z, block)
    sides = (True, z is None and not block.diagonal)
    gradients = kernel_vjp(network, left, right, weights.to(left), output=output, sides=sides)
    spans = (block.rows, block.columns)
    return [(span, gradient.cpu()) for span, gradient in zip(spans, gradients, strict=True) if gradient is not None]


def _images(device: str, x: Tensor, z: Tensor | None, block: Block) -> tuple[Tensor, Tensor | None]:
    """Both sides of a block; one, if they are the same."""
    rows, columns = block.index
    left = x[rows].to(device)
    return left, None if block.diagonal else (x if z is None else z)[columns].to(device)


def kernel_in_blocks(
    network: Architecture,
    x: Tensor,
    z: Tensor | None = None,
    *,
    block: int = BLOCK,
    output: Output = "ntk",
    device: str = "cpu",
    run: BlockMap = in_turn,
) -> Tensor:
    """The kernel (n, k) between x (n, C, H, W) and z, or x and itself, float64 on the CPU; computed in their dtype."""
    parts = blocks(len(x), None if z is None else len(z), block)
    matrix = torch.empty(len(x), len(x) if z is None else len(z), dtype=torch.float64)
    for part, values in zip(parts, run(partial(block_kernel, network, output, device), (x, z), parts), strict=True):
        rows, columns = part.index
        matrix[rows, columns] = values.double()
        if part.mirrored:
            matrix[columns, rows] = values.double().t()
    return matrix


def gradient_in_blocks(
    network: Architecture,
    x: Tensor,
    z: Tensor | None,
    weights: Tensor,
    *,
    block: int = BLOCK,
    output: Output = "ntk",
    device: str = "cpu",
    run: BlockMap = in_turn,
) -> Tensor:
    """The gradient by x (n, C, H, W), float64 on the CPU, of Σ weights · K(x, z), or of Σ weights · K(x, x) by both
    arguments; weights (n, k) need not be symmetric."""
    parts = blocks(len(x), None if z is None else len(z), block)
    items = ((part, _weights_of(part, weights)) for part in parts)
    total = torch.zeros(x.shape, dtype=torch.float64)
    for gradients in run(partial(block_vjp, network, output, device), (x, z), items):
        for (start, stop), gradient in gradients:
            total[start:stop] += gradient
    return total


def _weights_of(part: Block, weights: Tensor) -> Tensor:
    rows, columns = part.index
    return weights[rows, columns] + weights[columns, rows].t() if part.mirrored else weights[rows, columns]
