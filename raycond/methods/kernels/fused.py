"""The recursion on a GPU: one Triton kernel per layer and direction, for 3×3 convolutions, ReLU and float32.

The passes of `raycond.methods.kernels.recursion` read and write an entry some sixty times per layer. On a GPU, whose
memory gives 4 bytes in the time of 60 operations and more, that is all of the time. Here an entry of a layer is read
once by its program, with its neighbors from the cache, goes through filter, bias, norms and activation in registers,
and is added to its pooled entry there. Per image pair of ConvNet on 28×28 pixels, whose first level has 364² entries:

    passes   (42 + 61) reads or writes × 4 bytes × 132,496                      54.6 MB
    fused    layer 1 writes (K, K + T): 8 bytes × 132,496                       1.06 MB
             layer 2 reads them and writes pooled entries: 8 × (132,496 + 86²)  1.12 MB
             levels 2 and 3: 8 × (86² + 19² + 19² + 3²)                         0.07 MB

24 times fewer bytes, for about 60 operations per entry and layer. ConvNet3 pools in its first layer, so that nothing
at full resolution is ever written. Derivatives take the same shape: one kernel per layer computes it again from what
entered, and gathers the gradient of what left.

Image pairs (i, j) are the last axes of all arrays; a program has a tile of them and one pixel pair, or the 16 pairs
that a pooling joins. Planes are stored for all pixels of an image, (2, 2·ry + 1, 2·rx + 1, h, w, i, j), also for those
whose p + d is outside; programs of these write 0.
"""

# mypy: allow-untyped-defs
from __future__ import annotations

import math
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from raycond.methods.kernels.activation import TOLERANCE
from raycond.methods.kernels.architecture import Architecture, Shape
from raycond.methods.kernels.recursion import Fields, Recursion

ROWS, COLUMNS = 8, 64  # image pairs of a program
FLAT = tl.constexpr(TOLERANCE[torch.float32])
HALF_PI = tl.constexpr(math.pi / 2)
PI = tl.constexpr(math.pi)


@triton.jit
def _add(a, b):
    return a + b


@triton.jit
def _acos(m):
    """Cephes' polynomial, 2 units in the last place."""
    a = tl.abs(m)
    outer = a > 0.5
    z = tl.where(outer, 0.5 * (1.0 - a), a * a)
    x = tl.where(outer, tl.sqrt(tl.maximum(z, 0.0)), a)
    poly = (((4.2163199048e-2 * z + 2.4181311049e-2) * z + 4.5470025998e-2) * z + 7.4953002686e-2) * z + 1.6666752422e-1
    asin = poly * z * x + x
    positive = tl.where(outer, 2.0 * asin, HALF_PI - asin)
    return tl.where(m < 0, PI - positive, positive)


@triton.jit
def _angles(k, p, q):
    """m = −cos θ, sin θ and π − θ; sin θ is 0 and the angle 0 or π within the tolerance."""
    m = -k / (p[:, None] * q[None, :])
    squared = 1.0 - m * m
    sloping = squared > FLAT
    root = tl.where(sloping, tl.sqrt(tl.where(sloping, squared, 1.0)), 0.0)
    angle = tl.where(sloping, _acos(m), tl.where(m < 0, PI, 0.0))
    return m, root, angle


@triton.jit
def _neighbors(planes, plane, py, px, qy, qx, i, j, I, J, H, W):
    """Σ over 3×3 neighbors inside both images of an array (planes, h, w, i, j)."""
    total = tl.full([i.shape[0], j.shape[0]], 0.0, tl.float32)
    pairs = (i[:, None] < I) & (j[None, :] < J)
    center = ((plane * H + py) * W + px).to(tl.int64) * I * J
    at = planes + center + i[:, None] * J + j[None, :]
    for dy in tl.static_range(-1, 2):
        row = pairs & _inside(py + dy, qy + dy, H)
        for dx in tl.static_range(-1, 2):
            mask = row & _inside(px + dx, qx + dx, W)
            total += tl.load(at + (dy * W + dx) * I * J, mask=mask, other=0.0)
    return total


@triton.jit
def _inside(p, q, side):
    return (p >= 0) & (p < side) & (q >= 0) & (q < side)


@triton.jit
def _products(images_x, images_z, py, px, qy, qx, i, j, I, J, H, W, channels):
    """Σ over 3×3 neighbors and channels of x · z, images (C, h, w, n)."""
    total = tl.full([i.shape[0], j.shape[0]], 0.0, tl.float32)
    for c in range(channels):
        at_x = images_x + ((c * H + py) * W + px) * I + i
        at_z = images_z + ((c * H + qy) * W + qx) * J + j
        for dy in tl.static_range(-1, 2):
            row = _inside(py + dy, qy + dy, H)
            for dx in tl.static_range(-1, 2):
                inside = row & _inside(px + dx, qx + dx, W)
                x = tl.load(at_x + (dy * W + dx) * I, mask=inside & (i < I), other=0.0)
                z = tl.load(at_z + (dy * W + dx) * J, mask=inside & (j < J), other=0.0)
                total += x[:, None] * z[None, :]
    return total


@triton.jit
def _before(entering, images_x, images_z, plane, py, px, qy, qx, i, j, I, J, H, W, count, channels, weight, bias,
            FIRST: tl.constexpr):  # fmt: skip
    """K and T before the activation. count: planes of each of the two."""
    if FIRST:
        k = weight * _products(images_x, images_z, py, px, qy, qx, i, j, I, J, H, W, channels) + bias
        return k, k
    else:  # noqa: RET505 - the compiler leaves out the branch that a constant excludes
        k = _neighbors(entering, plane, py, px, qy, qx, i, j, I, J, H, W) + bias
        t = _neighbors(entering, plane + count, py, px, qy, qx, i, j, I, J, H, W) + bias
        return k, t


@triton.jit
def _forward(entering, images_x, images_z, norms_x, norms_z, out, I, J, across, H, W, ry, rx, out_h, out_w, out_ry,
             out_rx, channels, weight, bias, gain, FIRST: tl.constexpr, POOL: tl.constexpr, ROWS: tl.constexpr,
             COLUMNS: tl.constexpr):  # fmt: skip
    """One entry that leaves a layer, after the pooling if there is one, for a tile of image pairs."""
    position = tl.program_id(0)
    i = tl.program_id(1) // across * ROWS + tl.arange(0, ROWS)
    j = tl.program_id(1) % across * COLUMNS + tl.arange(0, COLUMNS)
    out_x, out_y = position % out_w, position // out_w % out_h
    out_plane = position // (out_w * out_h)
    d_x, d_y = out_plane % (2 * out_rx + 1) - out_rx, out_plane // (2 * out_rx + 1) - out_ry
    k_sum = tl.full([ROWS, COLUMNS], 0.0, tl.float32)
    s_sum = tl.full([ROWS, COLUMNS], 0.0, tl.float32)
    count = (2 * ry + 1) * (2 * rx + 1)
    if _inside(out_y, out_y + d_y, out_h) & _inside(out_x, out_x + d_x, out_w):
        side: tl.constexpr = 2 if POOL else 1
        for part in range(side * side * side * side):
            py, px = out_y * side + part % side, out_x * side + part // side % side
            qy = (out_y + d_y) * side + part // (side * side) % side
            qx = (out_x + d_x) * side + part // (side * side * side)
            plane = (qy - py + ry) * (2 * rx + 1) + qx - px + rx
            k, t = _before(entering, images_x, images_z, plane, py, px, qy, qx, i, j, I, J, H, W, count,
                           channels, weight, bias, FIRST)  # fmt: skip
            p = tl.load(norms_x + (py * W + px) * I + i, mask=i < I, other=1.0)
            q = tl.load(norms_z + (qy * W + qx) * J + j, mask=j < J, other=1.0)
            m, root, angle = _angles(k, p, q)
            k = (root - angle * m) * (p[:, None] * q[None, :])
            k_sum += k
            s_sum += k + t * angle
    scale = gain / (2.0 * PI) / 16.0 if POOL else gain / (2.0 * PI)
    out_count = (2 * out_ry + 1) * (2 * out_rx + 1)
    pairs = (i[:, None] < I) & (j[None, :] < J)
    within = i[:, None] * J + j[None, :]
    at = position.to(tl.int64)
    tl.store(out + at * I * J + within, k_sum * scale, mask=pairs)
    tl.store(out + (at + out_count * out_h * out_w) * I * J + within, s_sum * scale, mask=pairs)


@triton.jit
def _backward(entering, images_x, images_z, norms_x, norms_z, after, head, out, by_p, by_q, I, J, down, across, H, W,
              ry, rx, next_h, next_w, next_ry, next_rx, channels, weight, bias, gain, share, FIRST: tl.constexpr,
              POOL: tl.constexpr, LAST: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):  # fmt: skip
    """The gradient by (K, T) before the activation, at one entry for a tile of image pairs.

    after: the same of the next layer, which its filter, and the pooling between, bring here; head (2, i, j) instead for
    the last layer. by_p, by_q: by the logarithms of norms, summed over the tile's columns or rows.
    """
    position, tile = tl.program_id(0), tl.program_id(1)
    row, column = tile // across, tile % across
    i, j = row * ROWS + tl.arange(0, ROWS), column * COLUMNS + tl.arange(0, COLUMNS)
    pairs = (i[:, None] < I) & (j[None, :] < J)
    px, py, plane = position % W, position // W % H, position // (W * H)
    d_x, d_y = plane % (2 * rx + 1) - rx, plane // (2 * rx + 1) - ry
    qy, qx = py + d_y, px + d_x
    count = (2 * ry + 1) * (2 * rx + 1)
    k_grad = tl.full([ROWS, COLUMNS], 0.0, tl.float32)
    t_grad = tl.full([ROWS, COLUMNS], 0.0, tl.float32)
    if _inside(py, qy, H) & _inside(px, qx, W):
        side: tl.constexpr = 2 if POOL else 1
        next_y, next_x, next_qy, next_qx = py // side, px // side, qy // side, qx // side
        d_y, d_x = next_qy - next_y, next_qx - next_x
        kept = _inside(next_y, next_qy, next_h) & _inside(next_x, next_qx, next_w)
        if kept & (tl.abs(d_y) <= next_ry) & (tl.abs(d_x) <= next_rx):
            if LAST:
                at = head + i[:, None] * J + j[None, :]
                k_in = tl.load(at, mask=pairs, other=0.0) * share
                s_in = tl.load(at + I * J, mask=pairs, other=0.0) * share
            else:
                next_count = (2 * next_ry + 1) * (2 * next_rx + 1)
                next_plane = (d_y + next_ry) * (2 * next_rx + 1) + d_x + next_rx
                k_in = _neighbors(after, next_plane, next_y, next_x, next_qy, next_qx, i, j, I, J, next_h, next_w)
                s_in = _neighbors(after, next_plane + next_count, next_y, next_x, next_qy, next_qx, i, j, I, J, next_h,
                                  next_w)  # fmt: skip
            scale = gain / (2.0 * PI) / 16.0 if POOL else gain / (2.0 * PI)
            k, t = _before(entering, images_x, images_z, plane, py, px, qy, qx, i, j, I, J, H, W, count,
                           channels, weight, bias, FIRST)  # fmt: skip
            p = tl.load(norms_x + (py * W + px) * I + i, mask=i < I, other=1.0)
            q = tl.load(norms_z + (qy * W + qx) * J + j, mask=j < J, other=1.0)
            m, root, angle = _angles(k, p, q)
            product = p[:, None] * q[None, :]
            bent = tl.where(root > 0, scale * s_in * t / tl.where(root > 0, root, 1.0), 0.0)
            t_grad = scale * s_in * angle
            k_grad = scale * (k_in + s_in) * angle + bent / product
            log_norm = scale * (k_in + s_in) * root * product + bent * m
            log_norm = tl.where(pairs, log_norm, 0.0)
            at_p = (plane.to(tl.int64) * across + column) * H * W + py * W + px
            tl.store(by_p + at_p * I + i, tl.reduce(log_norm, 1, _add), mask=i < I)
            at_q = (plane.to(tl.int64) * down + row) * H * W + qy * W + qx
            tl.store(by_q + at_q * J + j, tl.reduce(log_norm, 0, _add), mask=j < J)
    within = i[:, None] * J + j[None, :]
    at = position.to(tl.int64)
    if FIRST:  # T = K
        tl.store(out + at * I * J + within, k_grad + t_grad, mask=pairs)
    else:
        tl.store(out + at * I * J + within, k_grad, mask=pairs)
        tl.store(out + (at + count * H * W) * I * J + within, t_grad, mask=pairs)


@triton.jit
def _by_pixels(grads, images, out, I, J, H, W, ry, rx, weight, BY_X: tl.constexpr, ROWS: tl.constexpr,
               COLUMNS: tl.constexpr):  # fmt: skip
    """The gradient by one pixel and channel of some images of one side, over all pixels and images of the other.

    grads: by K of the first layer (planes, h, w, i, j); images: the other side's (C, h, w, n); out: (C, h, w, n).
    """
    x, y, channel = tl.program_id(0) % W, tl.program_id(0) // W % H, tl.program_id(0) // (W * H)
    length: tl.constexpr = ROWS if BY_X else COLUMNS
    mine = tl.program_id(1) * length + tl.arange(0, length)
    total = tl.full([ROWS, COLUMNS], 0.0, tl.float32)
    for plane in range((2 * ry + 1) * (2 * rx + 1)):
        d_y, d_x = plane // (2 * rx + 1) - ry, plane % (2 * rx + 1) - rx
        other_y, other_x = (y + d_y, x + d_x) if BY_X else (y - d_y, x - d_x)
        if _inside(y, other_y, H) & _inside(x, other_x, W):
            at = images + ((channel * H + other_y) * W + other_x) * (J if BY_X else I)
            if BY_X:
                for start in range(0, J, COLUMNS):
                    j = start + tl.arange(0, COLUMNS)
                    pixels = tl.load(at + j, mask=j < J, other=0.0)
                    total += pixels[None, :] * _neighbors(grads, plane, y, x, other_y, other_x, mine, j, I, J, H, W)
            else:
                for start in range(0, I, ROWS):
                    i = start + tl.arange(0, ROWS)
                    pixels = tl.load(at + i, mask=i < I, other=0.0)
                    total += pixels[:, None] * _neighbors(grads, plane, other_y, other_x, y, x, i, mine, I, J, H, W)
    at = out + tl.program_id(0) * (I if BY_X else J) + mine
    if BY_X:
        tl.store(at, weight * tl.reduce(total, 1, _add), mask=mine < I)
    else:
        tl.store(at, weight * tl.reduce(total, 0, _add), mask=mine < J)


def supports(network: Architecture, dtype: torch.dtype) -> bool:
    return network.activation == "relu" and network.filter == 3 and dtype == torch.float32


class FusedRecursion(Recursion):
    """As `Recursion`, for networks that `supports` accepts, on a GPU or with Triton's interpreter."""

    def __init__(self, network: Architecture, shape: Shape) -> None:
        super().__init__(network, shape)
        self.geometry = [self._geometry(layer) for layer in range(self.layer_count)]

    def _geometry(self, layer: int) -> dict[str, Any]:
        """Size and radius of what enters a layer and of what leaves it, and whether a pooling is between."""
        level = max(k for k, first in enumerate(self.first_layer) if first <= layer)
        last = layer + 1 == self.layer_count
        pool = self.network.levels[level].pool and (last or layer + 1 in self.first_layer)
        (H, W), (ry, rx) = self.sizes[level], self.radii[level]
        if not pool:
            size, radius = self.sizes[level], self.radii[level]
        elif not last:
            size, radius = self.sizes[level + 1], self.radii[level + 1]
        else:
            size = self.final_size
            radius = (0, 0) if self.network.head == "flatten" else (size[0] - 1, size[1] - 1)
        out = (*size, *radius)
        return {"H": H, "W": W, "ry": ry, "rx": rx, "out": out, "POOL": pool, "FIRST": layer == 0}

    def _scalars(self, layer: int, x: Fields) -> dict[str, Any]:
        g = self.geometry[layer]
        return {
            **{name: g[name] for name in ("H", "W", "ry", "rx", "FIRST", "POOL")},
            "channels": len(x.images),
            "weight": self.first_weight,
            "bias": self.bias,
            "gain": self._gain(layer),
            "ROWS": ROWS,
            "COLUMNS": COLUMNS,
        }

    def forward(self, x: Fields, z: Fields) -> tuple[list[Any], Tensor]:
        """What leaves each layer, and NNGP and tangent kernel (2, i, j)."""
        I, J = x.images.shape[3], z.images.shape[3]
        tiles = triton.cdiv(I, ROWS), triton.cdiv(J, COLUMNS)
        planes = x.images
        left: list[Tensor] = []
        images_x, images_z = x.images.contiguous(), z.images.contiguous()
        for layer, g in enumerate(self.geometry):
            h, w, ry, rx = g["out"]
            out = planes.new_empty(2, 2 * ry + 1, 2 * rx + 1, h, w, I, J)
            norms = x.norms[layer].contiguous(), z.norms[layer].contiguous()
            grid = (out[0, ..., 0, 0].numel(), tiles[0] * tiles[1])
            sizes = {"out_h": h, "out_w": w, "out_ry": ry, "out_rx": rx}
            _forward[grid](planes, images_x, images_z, *norms, out, I, J, tiles[1], **sizes, **self._scalars(layer, x))
            planes = out
            left.append(out)
        # programs of pixels without a partner wrote 0
        return left, planes.sum((1, 2, 3, 4)).mul_(self.share).add_(self.bias)

    def backward(
        self,
        x: Fields,
        z: Fields,
        entering: list[Any],
        weights: Tensor,
        x_grads: Fields | None,
        z_grads: Fields | None,
    ) -> None:
        I, J = weights.shape[1:]
        images_x, images_z, weights = x.images.contiguous(), z.images.contiguous(), weights.contiguous()
        down, across = triton.cdiv(I, ROWS), triton.cdiv(J, COLUMNS)
        after = weights
        for layer in reversed(range(self.layer_count)):
            g = self.geometry[layer]
            planes = (2 * g["ry"] + 1, 2 * g["rx"] + 1)
            out = weights.new_empty(2 if layer else 1, *planes, g["H"], g["W"], I, J)
            by_p = weights.new_zeros(*planes, across, g["H"], g["W"], I)
            by_q = weights.new_zeros(*planes, down, g["H"], g["W"], J)
            norms = x.norms[layer].contiguous(), z.norms[layer].contiguous()
            sizes = dict(zip(("next_h", "next_w", "next_ry", "next_rx"), g["out"], strict=True))
            before = entering[layer - 1] if layer else images_x
            _backward[(out[0, ..., 0, 0].numel(), down * across)](
                before, images_x, images_z, *norms, after, weights, out, by_p, by_q, I, J, down, across,
                share=self.share, LAST=layer + 1 == self.layer_count, **sizes, **self._scalars(layer, x),
            )  # fmt: skip
            if x_grads is not None:
                x_grads.norms[layer].add_(by_p.sum((0, 1, 2)))
            if z_grads is not None:
                z_grads.norms[layer].add_(by_q.sum((0, 1, 2)))
            after = out
        H, W = self.sizes[0]
        first = (I, J, H, W, *self.radii[0], self.first_weight)
        for grads, other, by_x in ((x_grads, images_z, True), (z_grads, images_x, False)):
            if grads is not None:
                out = torch.empty(grads.images.shape, dtype=other.dtype, device=other.device)
                grid = (out[..., 0].numel(), down if by_x else across)
                _by_pixels[grid](after, other, out, *first, BY_X=by_x, ROWS=ROWS, COLUMNS=COLUMNS)
                grads.images.add_(out)
