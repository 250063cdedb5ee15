from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from raycond.methods.kernels.planes import box, displacements, moved, pool_into, region, unpool


def planes_of(full: Tensor, radius: tuple[int, int]) -> dict[tuple[int, int], Tensor]:
    """From (H, W, H, W) all planes up to a radius, each (h, w, 1)."""
    height, width = full.shape[:2]
    planes = {}
    for dy, dx in displacements(radius):
        rows, columns = region((height, width), (dy, dx))
        entries = [
            [full[y, x, y + dy, x + dx] for x in range(columns.start, columns.stop)]
            for y in range(rows.start, rows.stop)
        ]
        planes[dy, dx] = torch.tensor(entries, dtype=full.dtype)[..., None]
    return planes


def test_regions() -> None:
    assert region((5, 4), (2, -1)) == (slice(0, 3), slice(1, 4))
    assert moved((5, 4), (2, -1)) == (slice(2, 5), slice(0, 3))


@pytest.mark.parametrize("size", [(1, 1), (1, 4), (2, 2), (3, 5), (6, 4)])
def test_box_adds_up_neighbors(size: tuple[int, int], normal: Callable[..., Tensor]) -> None:
    x = normal(2, (*size, 3))
    expected = torch.nn.functional.conv2d(
        x.permute(0, 3, 1, 2).reshape(6, 1, *size), torch.ones(1, 1, 3, 3, dtype=torch.float64), padding=1
    )
    before = x.clone()
    torch.testing.assert_close(box(x, 1), expected.view(2, 3, *size).permute(0, 2, 3, 1))
    assert torch.equal(x, before)


@pytest.mark.parametrize("size", [(4, 4), (5, 7), (6, 5), (2, 3)])
def test_pooling_of_planes_is_pooling_of_both_images(size: tuple[int, int], normal: Callable[..., Tensor]) -> None:
    full = normal(size[0], (size[1], *size))
    half = size[0] // 2, size[1] // 2
    pooled = full[: 2 * half[0], : 2 * half[1], : 2 * half[0], : 2 * half[1]]
    pooled = pooled.reshape(half[0], 2, half[1], 2, half[0], 2, half[1], 2).mean((1, 3, 5, 7))
    everything = (size[0] - 1, size[1] - 1)
    expected = planes_of(pooled, (half[0] - 1, half[1] - 1))
    coarse = {d: torch.zeros_like(plane) for d, plane in expected.items()}
    for d, plane in planes_of(full, everything).items():
        pool_into(coarse, plane, d, size, axis=0)
    for d, plane in expected.items():
        torch.testing.assert_close(coarse[d], plane)


@pytest.mark.parametrize("d", [(0, 0), (1, -1), (2, 3), (-3, 2)])
def test_unpool_is_the_adjoint(d: tuple[int, int], normal: Callable[..., Tensor]) -> None:
    size = (5, 7)
    plane = normal(5 - abs(d[0]), (7 - abs(d[1]), 2))
    weights = {c: normal(2 - abs(c[0]), (3 - abs(c[1]), 2), seed=3) for c in displacements((1, 2))}
    coarse = {c: torch.zeros_like(w) for c, w in weights.items()}
    pool_into(coarse, plane, d, size, axis=0)
    forward = sum(float((coarse[c] * w).sum()) for c, w in weights.items())
    adjoint = unpool(weights, d, size, plane, axis=0)
    assert float((adjoint * plane).sum()) == pytest.approx(forward)
    assert forward != 0
