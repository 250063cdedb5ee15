"""Views that are functions of an image and a number: whatever the batch, its order, its size or the device.

What `views.py` draws for a whole batch from one generator is drawn here for each image from a hash of its pixels, a
seed and the number of the view, so that a label stored for a view finds it again in any training.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from raycond.core import files
from raycond.core.errors import UserError
from raycond.data.labelled import in_unit
from raycond.evaluate.protocol import EvaluationProtocol
from raycond.evaluate.views import resized
from raycond.training.augment import color
from raycond.training.augment.color import jittered
from raycond.training.augment.geometry import CROP_DRAWS, crop_boxes, mirror, resized_crop, take

SETTINGS = ("shuffle", "scale", "shift", "flip", "jitter", "lighting", "mix", "mix_beta", "mix_probability")
SIZES = ("train_size", "view_size")  # which change a view where the protocol has them
# every draw has its own place: to switch one setting off changes no other draw
_SHUFFLE, _CROP, _SHIFT, _FLIP, _JITTER, _LIGHTING, _COIN, _SECOND_IMAGE, _SHARE, _BOX = range(0, 10 * 2**20, 2**20)
_GOLDEN, _FIRST, _SECOND = (n - 2**64 for n in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def image_ids(images: Tensor) -> Tensor:
    """(N,) int64: the first 64 bits of the SHA-256 of each image's shape and pixels, (N, c, h, w) uint8."""
    shape = str(tuple(images.shape[1:])).encode()
    digests: Iterable[bytes] = (hashlib.sha256(shape + i.numpy().tobytes()).digest() for i in images.cpu())
    return torch.tensor([int.from_bytes(d[:8], "big", signed=True) for d in digests], dtype=torch.int64)


def settings(protocol: EvaluationProtocol) -> dict[str, Any]:
    """All of a protocol that changes a view, as it comes back from JSON. Raises UserError for a protocol with DSA."""
    for name in ("dsa", "diffaug"):
        if getattr(protocol, name) is not None:
            raise UserError(
                f"protocol {protocol.name}: {name} picks one operation for a whole batch, so that a view is not a "
                f"function of its image: stored labels need --set {name}=null"
            )
    values = {name: getattr(protocol, name) for name in SETTINGS}
    values |= {name: value for name in SIZES if (value := getattr(protocol, name)) is not None}
    if protocol.mix == "none":
        values |= {"mix_beta": None, "mix_probability": None}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


@dataclass(frozen=True)
class Views:
    """A batch of n views."""

    images: Tensor
    """(n, c, h, w) in [0, 1]."""

    second: Tensor | None
    """(n,) int64, the row of the set that each view is mixed with; None where the protocol does not mix."""

    lam: Tensor
    """(n,) λ: the share of each view that is its first image; the rest is the second."""


class SeededViews:
    """Numbered views of a set: images (N, c, h, w) uint8 on their device, ids (N,) as `image_ids` gives them.

    View k of an image is the same wherever the image lies in the set and in a batch, and on every device but for the
    rounding of floats. What an image is mixed with depends on the whole set: on its ids, not on their order.
    """

    def __init__(self, images: Tensor, ids: Tensor, protocol: EvaluationProtocol, seed: int) -> None:
        settings(protocol)
        self.images, self.protocol = images, protocol
        self.ids = ids.to(images.device)
        self.by_id = self.ids.argsort(stable=True)
        self._seed = int.from_bytes(bytes.fromhex(files.digest(["view", seed])[:16]), "big", signed=True)

    def __call__(self, rows: Tensor, numbers: Tensor) -> Views:
        """View numbers[k] of image rows[k], both (n,) int64 on the images' device."""
        draws = self._draws(rows, numbers)
        views = self._alone(rows, draws)
        if self.protocol.mix == "none":
            return Views(views, None, views.new_ones(len(rows)))
        second = self.by_id[draws.integers(_SECOND_IMAGE, 1, len(self.ids))[:, 0]]
        others = self._alone(second, self._draws(second, numbers))
        return _mixed(views, others, second, draws, self.protocol)

    def _draws(self, rows: Tensor, numbers: Tensor) -> _Draws:
        return _Draws(_hash(_hash(self.ids[rows] ^ self._seed) + _GOLDEN * (numbers + 1)))

    def _alone(self, rows: Tensor, draws: _Draws) -> Tensor:
        """In the order of `views.augmented`."""
        p, images = self.protocol, in_unit(self.images[rows])
        if p.shuffle > 1:
            images = _shuffled(images, p.shuffle, draws)
        side = p.view_side(images.shape[-1])
        images = resized(images, side) if p.scale is None else _cropped(images, p.scale, draws, side)
        if p.shift:
            images = _shifted(images, p.shift, draws)
        if p.flip:
            images = mirror(images, draws.uniform(_FLIP, 1)[:, 0] < 0.5)
        if p.jitter is not None:
            images = jittered(images, p.jitter, draws.uniform(_JITTER, 6))
        if p.lighting and images.shape[1] == 3:
            images = _lit(images, p.lighting, draws)
        return images


class _Draws:
    """Random numbers of n views, each from a state (n,) of its own: SplitMix64, read at any place."""

    def __init__(self, state: Tensor) -> None:
        self.state = state

    def uniform(self, place: int, count: int) -> Tensor:
        """(n, count) float32 in [0, 1), multiples of 2⁻²⁴, so equal on every device."""
        at = torch.arange(place + 1, place + 1 + count, device=self.state.device)
        return (_hash(self.state[:, None] + _GOLDEN * at) >> 40 & 0xFFFFFF).float() * 2**-24

    def integers(self, place: int, count: int, below: int) -> Tensor:
        return (self.uniform(place, count) * below).long().clamp_(max=below - 1)


def _hash(x: Tensor) -> Tensor:
    """SplitMix64's finaliser on int64, whose products wrap as the unsigned ones do."""
    x = (x ^ _shift_right(x, 30)) * _FIRST
    x = (x ^ _shift_right(x, 27)) * _SECOND
    return x ^ _shift_right(x, 31)


def _shift_right(x: Tensor, bits: int) -> Tensor:
    return (x >> bits) & ((1 << (64 - bits)) - 1)  # int64 has only the shift that copies its sign


def _shuffled(images: Tensor, factor: int, draws: _Draws) -> Tensor:
    if factor > min(images.shape[2:]):
        raise UserError(f"images of {images.shape[2]} pixels cannot be cut into {factor}x{factor} patches")
    columns, rows = draws.uniform(_SHUFFLE, 2 * factor).view(-1, 2, factor).argsort(2).unbind(1)
    return take(images, _patches(rows, images.shape[2]), _patches(columns, images.shape[3]))


def _patches(order: Tensor, side: int) -> Tensor:
    """Per pixel of a side the pixel that comes there; what is left over beside whole patches stays."""
    patch = side // order.shape[1]
    pixel = torch.arange(side, device=order.device)
    place = pixel // patch
    moved = order[:, place.clamp(max=order.shape[1] - 1)] * patch + pixel % patch
    return torch.where(place < order.shape[1], moved, pixel)


def _cropped(images: Tensor, scale: tuple[float, float], draws: _Draws, side: int) -> Tensor:
    """`augment.random_crop_scale`."""
    height, width = images.shape[2:]
    return resized_crop(images, crop_boxes(draws.uniform(_CROP, CROP_DRAWS), height, width, scale), (side, side))


def _shifted(images: Tensor, fraction: float, draws: _Draws) -> Tensor:
    index = []
    for axis, side in enumerate(images.shape[2:]):
        most = round(fraction * side)
        by = draws.integers(_SHIFT + axis, 1, 2 * most + 1) - most
        index.append((torch.arange(side, device=images.device) + by).clamp_(0, side - 1))
    return take(images, *index)


def _lit(images: Tensor, std: float, draws: _Draws) -> Tensor:
    # half a step above 0, whose quantile is −∞
    normal = torch.erfinv(2 * (draws.uniform(_LIGHTING, 3) + 2**-25) - 1) * (math.sqrt(2) * std)
    axes = images.new_tensor(color.EIGENVECTORS) * images.new_tensor(color.EIGENVALUES)
    return images + (normal @ axes.T)[:, :, None, None]


def _mixed(views: Tensor, others: Tensor, second: Tensor, draws: _Draws, protocol: EvaluationProtocol) -> Views:
    """CutMix or mixup with a λ, a box and a second image for each view, where a batch has one λ and one box."""
    lam = _beta(draws.uniform(_SHARE, 1)[:, 0], protocol.mix_beta)
    lam = torch.where(draws.uniform(_COIN, 1)[:, 0] < protocol.mix_probability, lam, 1.0)
    if protocol.mix == "mixup":
        return Views(torch.lerp(others, views, lam.view(-1, 1, 1, 1)), second, lam)
    side = (1 - lam).sqrt()
    height, width = views.shape[2:]
    rows, columns = _span(height, side, draws, _BOX), _span(width, side, draws, _BOX + 1)
    inside = rows[:, None, :, None] & columns[:, None, None, :]
    lam = 1 - (rows.sum(1) * columns.sum(1)).float() / (height * width)
    return Views(torch.where(inside, others, views), second, lam)


def _span(pixels: int, side: Tensor, draws: _Draws, place: int) -> Tensor:
    """(n, pixels): inside a box as wide as `augment.cutmix` makes it."""
    half, center = (pixels * side).long()[:, None] // 2, draws.integers(place, 1, pixels)
    at = torch.arange(pixels, device=side.device)
    return (at >= center - half) & (at < center + half)


def _beta(uniform: Tensor, beta: float) -> Tensor:
    """Beta(beta, beta) from uniform numbers."""
    if beta == 1:
        return uniform
    from scipy.special import betaincinv

    quantile = betaincinv(beta, beta, uniform.cpu().double().numpy())
    return torch.from_numpy(quantile).to(uniform)
