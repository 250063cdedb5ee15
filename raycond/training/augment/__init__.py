"""Augmentation of whole batches, on their own device, from an explicit generator.

Images are (n, channels, height, width) floats; the generator lives on their device. The same generator state gives the
same bits. No input is changed in place, and gradients flow to the images.
"""

from raycond.training.augment.color import jitter, lighting
from raycond.training.augment.dsa import dc_augment, dsa, dsa_operations
from raycond.training.augment.geometry import flip, random_crop_scale, shift
from raycond.training.augment.mixing import Mixed, cutmix, mixup
from raycond.training.augment.patches import shuffle

__all__ = [
    "Mixed",
    "cutmix",
    "dc_augment",
    "dsa",
    "dsa_operations",
    "flip",
    "jitter",
    "lighting",
    "mixup",
    "random_crop_scale",
    "shift",
    "shuffle",
]
