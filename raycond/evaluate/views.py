"""From stored images to what a student sees: augmentation, mixing and normalisation of a whole batch on its device."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from raycond.core.errors import UserError
from raycond.data.labelled import LabelledImages, in_unit, pixel_statistics
from raycond.evaluate.protocol import EvaluationProtocol
from raycond.methods.kernels.whitening import Preprocessing, layer_normalized
from raycond.training import augment
from raycond.training.augment.draws import on_host

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class Normalizer:
    """Pixels to zero mean and unit deviation per channel, by the protocol's constants, the given images' own or those
    of the real images.

    layout: of what it gives in memory. real: the normalization by the real images' constants, which may be a whitening;
    a protocol that asks for it cannot do without.
    """

    def __init__(
        self,
        images: Tensor,
        protocol: EvaluationProtocol,
        device: torch.device,
        layout: torch.memory_format = torch.channels_last,
        real: Preprocessing | None = None,
    ) -> None:
        self.layout = layout
        self._layer_norm, self._whitening = False, None
        if protocol.normalize == "real":
            if real is None:
                raise UserError(
                    f"protocol {protocol.name}: normalizes by the constants of the real images, which are not known: "
                    "use normalize=train for those of the training images"
                )
            mean, std = real.mean.float(), real.std.float()
            self._layer_norm = real.layer_norm
            self._whitening = None if real.whitening is None else real.whitening.float().to(device)
        elif protocol.normalize == "imagenet":
            if images.shape[1] != 3:
                raise UserError(
                    f"protocol {protocol.name}: normalize imagenet has constants of 3 channels and the images have "
                    f"{images.shape[1]}: use normalize=train"
                )
            mean, std = (torch.tensor(values) for values in IMAGENET)
        else:
            mean, std = (values / 255 for values in pixel_statistics(images))
        self.mean, self.std = (v.view(1, -1, 1, 1).to(device) for v in (mean, std))

    def of_pixels(self, images: Tensor) -> Tensor:
        """(n, c, h, w), uint8 or floats in [0, 1], to normalized floats."""
        return self(in_unit(images))

    def __call__(self, images: Tensor) -> Tensor:
        """(n, c, h, w) in [0, 1] to normalized floats."""
        seen = (images - self.mean) / self.std
        if self._layer_norm:
            seen = layer_normalized(seen)[0]
        if self._whitening is not None:
            seen = (seen.flatten(1) @ self._whitening).view_as(seen)
        return seen.contiguous(memory_format=self.layout)

    def undo(self, images: Tensor) -> Tensor:
        """Pixels in [0, 1] again. Raises UserError for a whitening, which does not keep all of an image."""
        if self._layer_norm or self._whitening is not None:
            raise UserError("images that are whitened cannot be labeled: use hard labels, or the 8-bit images")
        return images * self.std + self.mean


def prepared(train: LabelledImages, protocol: EvaluationProtocol) -> LabelledImages:
    """The training images at the size that augmentation starts from."""
    train, side = train.at_most(protocol.max_size), protocol.train_size
    if side is None or train.images.shape[-1] == side:
        return train
    parts = [resized(part.float(), side) for part in train.images.split(256)]
    if train.images.dtype == torch.uint8:
        parts = [part.round().to(torch.uint8) for part in parts]
    return replace(train, images=torch.cat(parts))


def resized(images: Tensor, side: int) -> Tensor:
    """(n, c, h, w) floats at `side` pixels a side, bilinear and antialiased; as they are if they have it."""
    if images.shape[-1] == side:
        return images
    return F.interpolate(images, (side, side), mode="bilinear", antialias=True)


def augmented(images: Tensor, protocol: EvaluationProtocol, generator: torch.Generator) -> Tensor:
    """Each image of a batch in [0, 1] changed on its own, in the order of the protocol's settings."""
    side = protocol.view_side(images.shape[-1])
    if protocol.shuffle > 1:
        images = augment.shuffle(images, protocol.shuffle, generator)
    if protocol.scale is None:
        images = resized(images, side)
    else:
        images = augment.random_crop_scale(images, protocol.scale, generator, side)
    if protocol.shift:
        images = augment.shift(images, protocol.shift, generator)
    if protocol.flip:
        images = augment.flip(images, generator)
    if protocol.jitter is not None:
        images = augment.jitter(images, *protocol.jitter, generator)
    if protocol.lighting and images.shape[1] == 3:
        images = augment.lighting(images, protocol.lighting, generator)
    return images


def mixed(images: Tensor, protocol: EvaluationProtocol, generator: torch.Generator) -> augment.Mixed | None:
    """The batch mixed with a permutation of itself, or None where the protocol or its coin says no."""
    if protocol.mix == "none":
        return None
    if protocol.mix_probability < 1:
        coin = torch.rand((), generator=on_host(generator))  # a coin on the device would make every step wait
        if float(coin) >= protocol.mix_probability:
            return None
    mix = augment.cutmix if protocol.mix == "cutmix" else augment.mixup
    return mix(images, protocol.mix_beta, generator)
