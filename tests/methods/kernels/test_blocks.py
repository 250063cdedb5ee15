from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from raycond.core.errors import UserError
from raycond.methods.kernels.architecture import Architecture, Level
from raycond.methods.kernels.blocks import blocks, gradient_in_blocks, in_turn, kernel_in_blocks
from raycond.methods.kernels.ntk import kernel_matrix, kernel_vjp

NETWORK, SHAPE = Architecture("pooled", (Level(1, True), Level(1))), (2, 4, 4)
sizes = pytest.mark.parametrize("block", [1, 2, 5, 100])


def elsewhere(function: Callable, shared: tuple[Any, ...], items: Iterable[Any]) -> Iterator[Any]:
    """As a pool does: everything is copied, blocks are computed last one first."""
    everything = [pickle.loads(pickle.dumps((function, shared, item))) for item in items]
    results = [work(*arrays, item) for work, arrays, item in reversed(everything)]
    return iter(results[::-1])


def test_blocks_cover_a_matrix_once() -> None:
    for columns in (5, None):
        covered = torch.zeros(7, columns or 7)
        for block in blocks(7, columns, 3):
            rows, across = block.index
            covered[rows, across] += 1
            if block.mirrored:
                covered[across, rows] += 1
        assert bool((covered == 1).all())
    assert len(blocks(7, None, 3)) == 6
    with pytest.raises(UserError, match="--block must be at least 1, not 0"):
        blocks(7, None, 0)


@sizes
@pytest.mark.parametrize("run", [in_turn, elsewhere])
def test_kernel_does_not_depend_on_blocks(block: int, run: Any, normal: Callable[..., Tensor]) -> None:
    x, z = normal(5, SHAPE), normal(4, SHAPE, seed=1)
    for other in (z, None):
        matrix = kernel_in_blocks(NETWORK, x, other, block=block, run=run)
        torch.testing.assert_close(matrix, kernel_matrix(NETWORK, x, other), rtol=1e-13, atol=1e-15)


@sizes
@pytest.mark.parametrize("run", [in_turn, elsewhere])
def test_gradient_does_not_depend_on_blocks(block: int, run: Any, normal: Callable[..., Tensor]) -> None:
    x, z, weights = normal(5, SHAPE), normal(5, SHAPE, seed=1), normal(5, (5,), seed=2)
    for other in (z, None):
        expected, _ = kernel_vjp(NETWORK, x, other, weights)
        gradient = gradient_in_blocks(NETWORK, x, other, weights, block=block, run=run)
        torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=1e-15)


def test_blocks_of_float32_are_put_together_in_float64(normal: Callable[..., Tensor]) -> None:
    x = normal(4, SHAPE).float()
    assert kernel_in_blocks(NETWORK, x, block=3).dtype == torch.float64
    assert gradient_in_blocks(NETWORK, x, None, torch.ones(4, 4), block=3).dtype == torch.float64
