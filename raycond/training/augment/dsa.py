"""Differentiable Siamese augmentation (DSA, ICML 2021) and the augmentation of DC's evaluation (ICLR 2021).

Values and behaviour are those of VICO-UoE/DatasetCondensation: `DiffAugment` in mode S, and `augment`. Both work on
normalised images, where 0 is the mean pixel of the data.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from raycond.core.errors import UserError
from raycond.training.augment.draws import integer, on_host
from raycond.training.augment.geometry import mirror, take, warp

SCALE = 1.2  # largest; the smallest is 1 / SCALE
CROP, CUTOUT = 0.125, 0.5  # shares of a side
BRIGHTNESS, SATURATION, CONTRAST = 1.0, 2.0, 0.5
DC_CROP, DC_SCALE, DC_ROTATE = 4, 0.2, 45.0  # pixels (one less to the other side), share, degrees


def dsa(
    images: Tensor, strategy: str, generator: torch.Generator, *, rotate: float = 15.0, shared: bool = False
) -> Tensor:
    """One operation of `strategy`, such as color_crop_cutout_flip_scale_rotate, on the whole batch.

    The operation is picked for the call, each equally likely; its parameters are drawn for each image or, with `shared`
    (the Siamese form), once for all of them: generators in the same state then change two batches, of any sizes, in the
    same way. rotate: the largest angle in degrees. Strategy `dc` is `dc_augment`, on which `rotate` has no effect.
    Raises UserError for an unknown operation.
    """
    operations = dsa_operations(strategy)
    draws = 1 if shared else len(images)
    if operations == ("dc",):
        return _dc(images, draws, generator)
    operation = operations[integer(len(operations), on_host(generator))]
    if operation == "rotate":
        return _rotate(images, draws, generator, rotate)
    return OPERATIONS[operation](images, draws, generator)


def dsa_operations(strategy: str) -> tuple[str, ...]:
    """The operations that a strategy names. Raises UserError for an unknown one."""
    names = tuple(strategy.split("_"))
    for name in names:
        if name not in OPERATIONS and name != "rotate" and names != ("dc",):
            known = ", ".join(sorted([*OPERATIONS, "rotate"]))
            raise UserError(f"dsa strategy {strategy!r}: no operation {name!r}: join {known} with _, or use dc alone")
    return names


def dc_augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """What DC's evaluation does to MNIST: each image is moved, scaled or rotated, each equally likely.

    Moved by -4 … +3 pixels along each axis, the mean of the batch's channel coming in; scaled by 0.8 … 1.2 along each
    axis, 0 coming in; rotated by up to 45°, the mean of the batch coming in. All are bilinear, where the source scales
    by the nearest pixel and rotates by whole degrees with cubic splines.
    """
    return _dc(images, len(images), generator)


def _flip(images: Tensor, draws: int, generator: torch.Generator) -> Tensor:
    return mirror(images, _uniform((draws,), images, generator) < 0.5)


def _scale(images: Tensor, draws: int, generator: torch.Generator) -> Tensor:
    x, y = 1 / SCALE + (SCALE - 1 / SCALE) * _uniform((2, draws), images, generator)
    zero = torch.zeros_like(x)
    return warp(images, (x, zero, zero), (zero, y, zero))


def _rotate(images: Tensor, draws: int, generator: torch.Generator, degrees: float) -> Tensor:
    angle = (2 * _uniform((draws,), images, generator) - 1) * math.radians(degrees)
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    aspect = images.shape[2] / images.shape[3]
    return warp(images, (cos, -sin * aspect, zero), (sin / aspect, cos, zero))


def _crop(images: Tensor, draws: int, generator: torch.Generator) -> Tensor:
    rows, row_inside = _moved(images.shape[2], draws, generator)
    columns, column_inside = _moved(images.shape[3], draws, generator)
    return take(images, rows, columns).mul_(_outer(row_inside, column_inside, images))


def _moved(side: int, draws: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    most = int(side * CROP + 0.5)
    by = torch.randint(-most, most + 1, (draws, 1), generator=generator, device=generator.device)
    source = torch.arange(side, device=generator.device) + by
    return source.clamp(0, side - 1), (source >= 0) & (source < side)


def _cutout(images: Tensor, draws: int, generator: torch.Generator) -> Tensor:
    rows, columns = (_hole(side, draws, generator) for side in images.shape[2:])
    return images * (1 - _outer(rows, columns, images))


def _hole(side: int, draws: int, generator: torch.Generator) -> Tensor:
    size = int(side * CUTOUT + 0.5)
    centres = side + 1 - size % 2  # an even hole lies between pixels
    centre = torch.randint(centres, (draws, 1), generator=generator, device=generator.device)
    pixel = torch.arange(side, device=generator.device) - centre + size // 2
    return (pixel >= 0) & (pixel < size)


def _outer(rows: Tensor, columns: Tensor, images: Tensor) -> Tensor:
    # 1 where both hold; a product of floats, several times faster than `and` on booleans
    return rows.to(images.dtype)[:, None, :, None] * columns.to(images.dtype)[:, None, None, :]


def _color(images: Tensor, draws: int, generator: torch.Generator) -> Tensor:
    """Brightness, saturation, contrast in turn, which come to one linear map: no step clamps, and saturation keeps
    the mean over channels of each pixel, so the means of the images given serve for all three."""
    u = _uniform((3, draws, 1, 1, 1), images, generator)
    brightness, saturation, contrast = (u[0] - 0.5) * BRIGHTNESS, u[1] * SATURATION, u[2] + CONTRAST
    images = images.contiguous()  # with channels last the CPU takes several times longer for what follows
    gray = images.mean(1, keepdim=True)
    mean = gray.mean((2, 3), keepdim=True)
    rest = (contrast * (1 - saturation)) * gray + (brightness + (1 - contrast) * mean)
    return torch.addcmul(rest, images, contrast * saturation)


def _dc(images: Tensor, draws: int, generator: torch.Generator) -> Tensor:
    height, width = images.shape[2:]
    device = generator.device
    operation = torch.randint(3, (draws,), generator=generator, device=device)
    move, scale, turn = ((operation == k).to(images.dtype) for k in range(3))
    pixels = torch.randint(-DC_CROP, DC_CROP, (2, draws), generator=generator, device=device) * move
    sizes = 1 + (2 * _uniform((2, draws), images, generator) - 1) * DC_SCALE * scale
    angle = (2 * _uniform((draws,), images, generator) - 1) * math.radians(DC_ROTATE) * turn
    cos, sin = angle.cos(), angle.sin() * (height / width)
    channels = images.mean((0, 2, 3)).view(1, -1, 1, 1)
    fill = move.view(-1, 1, 1, 1) * channels + turn.view(-1, 1, 1, 1) * channels.mean()
    x = (cos / sizes[0], -sin, pixels[0] * (2 / width))
    y = (sin * (width / height) ** 2, cos / sizes[1], pixels[1] * (2 / height))
    return warp(images - fill, x, y).add_(fill)


def _uniform(shape: tuple[int, ...], images: Tensor, generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator, device=generator.device).to(images.dtype)


OPERATIONS: dict[str, Callable[[Tensor, int, torch.Generator], Tensor]] = {
    "color": _color,
    "crop": _crop,
    "cutout": _cutout,
    "flip": _flip,
    "scale": _scale,
}
