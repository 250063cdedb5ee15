"""Which training images a step sees: class-balanced draws by (seed, step), and their augmentation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from raycond.core.errors import UserError
from raycond.core.seeds import seed_of
from raycond.methods.kernels.whitening import Preprocessing
from raycond.training import augment
from raycond.training.augment.geometry import warp


@dataclass(frozen=True)
class Augmentation:
    """Of a share of the targets of every step, each image by draws of its own.

    rotate: largest angle, degrees. shift: largest share of each side. flip: mirrored with probability one half.
    channel: largest addition to a channel, as a share of its standard deviation. All 0 as in the published code; the
    ranges of the published runs are not known.
    """

    share: float = 0.0
    rotate: float = 0.0
    shift: float = 0.0
    flip: bool = False
    channel: float = 0.0

    def __post_init__(self) -> None:
        for name, value, most in (
            ("share", self.share, 1.0),
            ("rotate", self.rotate, 180.0),
            ("shift", self.shift, 1.0),
            ("channel", self.channel, math.inf),
        ):
            if not 0 <= value <= most:
                raise UserError(f"augmentation of targets: {name} must be from 0 to {most:g}, not {value}")

    @property
    def active(self) -> bool:
        return self.share > 0 and bool(self.rotate or self.shift or self.flip or self.channel)

    def __call__(self, images: Tensor, fill: Tensor, std: Tensor, generator: torch.Generator) -> Tensor:
        """Raw images (n, C, H, W), float. fill: color (C, 1, 1) that a rotation brings in; std: of the channels."""
        if self.rotate:
            angle = (2 * _uniform((len(images),), images, generator) - 1) * math.radians(self.rotate)
            cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
            aspect = images.shape[2] / images.shape[3]
            images = warp(images - fill, (cos, -sin * aspect, zero), (sin / aspect, cos, zero)) + fill
        if self.shift:
            images = augment.shift(images, self.shift, generator)
        if self.flip:
            images = augment.flip(images, generator)
        if self.channel:
            draws = _uniform((len(images), images.shape[1], 1, 1), images, generator)
            images = images + (2 * draws - 1) * self.channel * std
        return images


@dataclass(frozen=True)
class Targets:
    """Training images. raw: as they were read; images: preprocessed (n, C, H, W), for kernels; labels: (n,) int64."""

    raw: Tensor
    images: Tensor
    labels: Tensor
    classes: int
    preprocessing: Preprocessing
    augmentation: Augmentation = Augmentation()

    def batch(self, count: int, seed: int, step: int) -> tuple[Tensor, Tensor]:
        """About `count` images and labels, of all classes alike: those of (seed, step), whatever was drawn before."""
        rows = balanced_rows(self.labels, self.classes, max(1, count // self.classes), seed, "targets", step)
        images = self.images[rows]
        if self.augmentation.active:
            random = torch.Generator().manual_seed(seed_of(seed, "augmentation", step))
            changed = torch.randperm(len(rows), generator=random)[: round(self.augmentation.share * len(rows))]
            p = self.preprocessing
            raw = self.augmentation(self.raw[rows[changed]].double(), p.mean, p.std, random)
            images[changed] = p.apply(raw, images.dtype)
        return images, self.labels[rows]


def balanced_rows(labels: Tensor, classes: int, per_class: int, seed: int, *stream: str | int) -> Tensor:
    """Rows (int64) of `per_class` random images of each class, class after class; a class with fewer gives all it has.

    The draw is that of (seed, *stream). Raises UserError for a class without images.
    """
    counts = class_counts(labels, classes)
    random = torch.Generator().manual_seed(seed_of(seed, *stream))
    order = torch.randperm(len(labels), generator=random)
    order = order[labels[order].argsort(stable=True)]
    starts = counts.cumsum(0) - counts
    parts = [
        order[start : start + min(per_class, count)]
        for start, count in zip(starts.tolist(), counts.tolist(), strict=True)
    ]
    return torch.cat(parts)


def support_rows(labels: Tensor, classes: int, per_class: int, seed: int) -> Tensor:
    """Rows of a class-balanced support of natural images, class after class.

    Raises UserError if a class has fewer than `per_class`.
    """
    counts = class_counts(labels, classes)
    if per_class < 1 or int(counts.min()) < per_class:
        fewest = int(counts.argmin())
        raise UserError(
            f"--ipc {per_class}: a support takes from 1 to {int(counts[fewest])} images per class here, as class "
            f"{fewest} has no more"
        )
    return balanced_rows(labels, classes, per_class, seed, "support")


def class_counts(labels: Tensor, classes: int) -> Tensor:
    """Images (classes,) of each class. Raises UserError for a label out of range and for a class without images."""
    if not len(labels):
        raise UserError("there are no training images")
    if not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise UserError(f"labels go from {int(labels.min())} to {int(labels.max())}, not from 0 to {classes - 1}")
    counts = torch.bincount(labels, minlength=classes)
    empty = (counts == 0).nonzero().flatten().tolist()
    if empty:
        named = ", ".join(map(str, empty[:5])) + (", …" if len(empty) > 5 else "")
        raise UserError(
            f"no training images of class {named} (of {classes}): balanced sets need every class; use more targets, "
            "or fewer classes"
        )
    return counts


def _uniform(shape: tuple[int, ...], images: Tensor, generator: torch.Generator) -> Tensor:
    return torch.rand(shape, dtype=images.dtype, generator=generator)
