"""Augmentation of whole batches, on their own device, from an explicit generator.

Images are (n, channels, height, width) floats; the generator lives on their device. The same generator state gives the
same bits. No input is changed in place, and gradients flow to the images.
"""

from raycond.training.augment.color import jitter, lighting
from raycond.training.augment.dsa import dc_augment, dsa, dsa_operations
from raycond.training.augment.geometry import flip, random_crop_scale, shift
from raycond.training.augment.mixing import Mixed, cutmix, mixup
from raycond.training.augment.patches import shuffle

DRAWN = 2
"""How crops and color jitter are drawn: as torchvision and IDC draw them since 2. Labels and records of trainings that
were drawn in another way are of no use to one that is drawn in this."""


def drawn(*settings: object) -> dict[str, int]:
    """What a fingerprint has more if one of these settings, a scale of crops or values of jitter, is used."""
    return {} if all(setting is None for setting in settings) else {"drawn": DRAWN}


__all__ = [
    "DRAWN",
    "Mixed",
    "cutmix",
    "dc_augment",
    "drawn",
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
