"""Augmentation of whole batches, on their own device, from an explicit generator."""

from raycond.augment.geometry import flip, random_crop_scale, shift

__all__ = ["flip", "random_crop_scale", "shift"]
