"""Pixel pairs in planes of one displacement: where a plane lies, how a filter averages it, how pooling joins planes.

The plane of displacement d = (dy, dx) holds the entries of pixels p and q = p + d that lie inside both images:
(height − |dy|) × (width − |dx|) of them, first in every array but for a leading axis that stacks K and K + T. Image
pairs are the last axes, so that every pass over an array runs along memory whatever the size of a plane.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor

Displacement = tuple[int, int]
Planes = dict[Displacement, Tensor]


def displacements(radius: tuple[int, int]) -> list[Displacement]:
    """All up to a radius along each axis, in a fixed order."""
    down, right = (range(-most, most + 1) for most in radius)
    return list(itertools.product(down, right))


def region(size: tuple[int, int], d: Displacement) -> tuple[slice, slice]:
    """Rows and columns of pixels p that have a pixel p + d."""
    height, width = (slice(max(0, -by), min(side, side - by)) for side, by in zip(size, d, strict=True))
    return height, width


def moved(size: tuple[int, int], d: Displacement) -> tuple[slice, slice]:
    """Rows and columns of the pixels p + d: the region of −d."""
    return region(size, (-d[0], -d[1]))


def box(x: Tensor, axis: int) -> Tensor:
    """Sums over 3×3 neighbors on axes `axis` and `axis + 1`, 0 outside, into a new array: 4 passes instead of 8.

    It is its own adjoint.
    """
    return _three(_three(x, axis), axis + 1)


def _three(x: Tensor, dim: int) -> Tensor:
    n = x.shape[dim]
    if n == 1:
        return x.clone()
    out = torch.empty_like(x)
    torch.add(x.narrow(dim, 0, 1), x.narrow(dim, 1, 1), out=out.narrow(dim, 0, 1))
    torch.add(x.narrow(dim, n - 2, 1), x.narrow(dim, n - 1, 1), out=out.narrow(dim, n - 1, 1))
    if n > 2:
        inner = out.narrow(dim, 1, n - 2)
        torch.add(x.narrow(dim, 0, n - 2), x.narrow(dim, 2, n - 2), out=inner)
        inner += x.narrow(dim, 1, n - 2)
    return out


# ---- 2×2 average pooling of both images


def pooled(size: tuple[int, int]) -> tuple[int, int]:
    return size[0] // 2, size[1] // 2


def pool_into(coarse: Planes, plane: Tensor, d: Displacement, size: tuple[int, int], axis: int = 1) -> None:
    """Add the share of the plane of d, whose rows are axis `axis`, to those planes after a 2×2 pooling that it
    contributes to: an entry (p, q) goes to (p // 2, q // 2), with weight 1/16. Others than those in `coarse` are left
    out."""
    for target, parts in _shares(d, size):
        if target in coarse:
            for fine_part, coarse_part in parts:
                _at(coarse[target], coarse_part, axis).add_(_at(plane, fine_part, axis), alpha=1 / 16)


def unpool(coarse: Planes, d: Displacement, size: tuple[int, int], like: Tensor, axis: int = 1) -> Tensor:
    """The adjoint of `pool_into`: what a gradient by the coarse planes is by the plane of d, shaped as `like`."""
    plane = torch.zeros_like(like)
    for target, parts in _shares(d, size):
        if target in coarse:
            for fine_part, coarse_part in parts:
                torch.mul(_at(coarse[target], coarse_part, axis), 1 / 16, out=_at(plane, fine_part, axis))
    return plane


def _shares(
    d: Displacement, size: tuple[int, int]
) -> Iterator[tuple[Displacement, list[tuple[tuple[slice, slice], tuple[slice, slice]]]]]:
    """Coarse displacements that the plane of d goes to, each with pairs of (fine rows and columns, coarse ones)."""
    rows, columns = (_axis_shares(by, side) for by, side in zip(d, size, strict=True))
    for (down, row_parts), (right, column_parts) in itertools.product(rows.items(), columns.items()):
        yield (
            (down, right),
            [((r[0], c[0]), (r[1], c[1])) for r, c in itertools.product(row_parts, column_parts)],
        )


def _axis_shares(d: int, side: int) -> dict[int, list[tuple[slice, slice]]]:
    """Along one axis: coarse displacement → parts with one parity of p, (positions in the fine plane, the coarse)."""
    shares: dict[int, list[tuple[slice, slice]]] = {}
    half = side // 2
    for parity in (0, 1):
        target = (parity + d) // 2  # of p = parity; of p + 2 the same
        first, last = max(0, -target), min(half, half - target)  # coarse pixels P with P + target inside
        if first < last:
            start = 2 * first + parity - max(0, -d)
            fine = slice(start, start + 2 * (last - first) - 1, 2)
            shares.setdefault(target, []).append((fine, slice(0, last - first)))
    return shares


def _at(x: Tensor, parts: tuple[slice, slice], axis: int) -> Tensor:
    return x[(slice(None),) * axis + parts]
