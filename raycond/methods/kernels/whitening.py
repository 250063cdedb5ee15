"""Preprocessing of images for kernels, fitted on training images, and back to pixels for viewing.

`standard`: subtract the mean of each channel and divide by its standard deviation. `zca` (RGB sets in KIP): then
layer-normalize each image (subtract its mean, divide by its L2 norm) and multiply by W = U diag(s^-1/2) Uᵀ of the
covariance U diag(s) Uᵀ of these, to whose diagonal zca_reg · trace / d was added (KIP's nn_training.ipynb, where
zca_reg is 0.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from raycond.core.errors import UserError

Kind = Literal["standard", "zca"]
ZCA_REG = 0.1
ROWS = 4096  # images at once
NORM_FLOOR = 1e-12  # of an image of one color, which has no direction


@dataclass(frozen=True)
class Preprocessing:
    """mean, std: (C, 1, 1) of raw pixels. whitening: W (d, d), symmetric, or None. layer_norm: before W. norm: mean L2
    norm that layer norm divided by, from which `invert` restores a contrast. All float64."""

    mean: Tensor
    std: Tensor
    whitening: Tensor | None = None
    layer_norm: bool = False
    norm: float = 1.0

    def apply(self, images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Raw images (n, C, H, W), of any dtype, as the kernels take them."""
        parts = [self._apply(part).to(dtype) for part in images.split(ROWS)]
        return torch.cat(parts) if parts else images.to(dtype)

    def _apply(self, images: Tensor) -> Tensor:
        x = standardized(images, self.mean, self.std)
        if self.layer_norm:
            x = layer_normalized(x)[0]
        return x if self.whitening is None else _matmul(x, self.whitening)

    def invert(self, images: Tensor) -> Tensor:
        """Raw pixels, float64 and not clamped. Layer norm forgets the mean and contrast of each image: they come back
        with mean 0 (of standardized pixels) and the training set's average contrast."""
        x = images.double()
        if self.whitening is not None:
            flat = torch.linalg.solve(self.whitening, x.flatten(1).t()).t()
            x = flat.reshape(x.shape)
        if self.layer_norm:
            x = x * self.norm
        return x * self.std + self.mean

    def tensors(self) -> dict[str, Tensor]:
        """For a file; `load` reads them."""
        kept = {"mean": self.mean, "std": self.std, "norm": torch.tensor(self.norm, dtype=torch.float64)}
        kept["layer_norm"] = torch.tensor(self.layer_norm)
        return kept if self.whitening is None else {**kept, "whitening": self.whitening}

    @classmethod
    def load(cls, tensors: dict[str, Tensor]) -> Preprocessing:
        return cls(
            tensors["mean"],
            tensors["std"],
            tensors.get("whitening"),
            bool(tensors["layer_norm"]),
            float(tensors["norm"]),
        )


def fit_preprocessing(
    images: Tensor, kind: Kind = "standard", *, zca_reg: float = ZCA_REG, layer_norm: bool | None = None
) -> Preprocessing:
    """From raw training images (n, C, H, W). layer_norm: default with `zca` only, as published.

    Fewer images than pixels leave directions without variance: there the regularization alone is whitened. Raises
    UserError for images that do not vary or are not finite, and for zca_reg not above 0.
    """
    if images.ndim != 4 or not len(images):
        raise UserError(f"preprocessing is fitted on images (n, channels, height, width), not {tuple(images.shape)}")
    mean, std = _statistics(images)
    if not bool((std > 0).all() and std.isfinite().all()):
        raise UserError(
            "preprocessing: a channel of the training images does not vary, or has pixels that are not finite"
        )
    layer_norm = kind == "zca" if layer_norm is None else layer_norm
    if kind == "standard" and not layer_norm:
        return Preprocessing(mean, std)
    if not zca_reg > 0:
        raise UserError(f"preprocessing: zca_reg must be above 0, not {zca_reg}")
    covariance = torch.zeros(images[0].numel(), images[0].numel(), dtype=torch.float64) if kind == "zca" else None
    norms = 0.0
    for part in images.split(ROWS):
        x = standardized(part, mean, std)
        if layer_norm:
            x, norm = layer_normalized(x)
            norms += float(norm.sum())
        if covariance is not None:
            flat = x.flatten(1)
            covariance.addmm_(flat.t(), flat, alpha=1 / len(images))
    whitening = None if covariance is None else zca(covariance, zca_reg)
    return Preprocessing(mean, std, whitening, layer_norm, norms / len(images) if layer_norm else 1.0)


def zca(covariance: Tensor, reg: float) -> Tensor:
    """(C + reg · tr(C)/d · I)^-1/2 of a covariance C (d, d): regularized ZCA."""
    d = len(covariance)
    values, vectors = torch.linalg.eigh(covariance)
    ridge = reg * float(covariance.diagonal().sum()) / d
    return (vectors * (values.clamp_min(0) + ridge).rsqrt()) @ vectors.t()


def standardized(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    return (images.double() - mean) / std


def layer_normalized(images: Tensor) -> tuple[Tensor, Tensor]:
    """Images with mean 0 and L2 norm 1 each, and the norms (n, 1, 1, 1) that they were divided by."""
    centered = images - images.mean((1, 2, 3), keepdim=True)
    norm = centered.flatten(1).norm(dim=1).clamp_min(NORM_FLOOR).view(-1, 1, 1, 1)
    return centered / norm, norm


def _statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (C, 1, 1) of each channel over all pixels."""
    sums, squares = torch.zeros(2, images.shape[1], dtype=torch.float64)
    count = len(images) * images[0, 0].numel()
    for part in images.split(ROWS):
        sums += part.double().sum((0, 2, 3))
    mean = sums / count
    for part in images.split(ROWS):
        squares += (part.double() - mean.view(-1, 1, 1)).square().sum((0, 2, 3))
    return mean.view(-1, 1, 1), (squares / count).sqrt().view(-1, 1, 1)


def _matmul(images: Tensor, matrix: Tensor) -> Tensor:
    return (images.flatten(1) @ matrix).reshape(images.shape)
