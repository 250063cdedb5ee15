"""Every augmentation on the device: against the CPU with the same draws, and twice with the same bits."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.gpu.context import Context, differing, largest_difference
from benchmarks.gpu.part import Part
from raycond.evaluate.numbered_views import SeededViews, image_ids
from raycond.evaluate.protocol import EvaluationProtocol, preset
from tests.training.augment.make import CHANGES, SameDraws, generator, images

SHIFTED = 1e-4  # of bilinear samples whose places are rounded in another order; a wrong draw moves pixels by far more
VIEWS: dict[str, dict[str, Any]] = {  # of stored labels, each drawn for itself
    "crop, flip": {"scale": (0.25, 1.0), "flip": True},
    "shuffle, shift": {"scale": None, "shuffle": 2, "shift": 0.125},
    "jitter, lighting": {"scale": None, "jitter": (0.4, 0.4, 0.4), "lighting": 0.1},
    "CutMix": {"scale": None, "mix": "cutmix"},
    "mixup": {"scale": None, "mix": "mixup"},
}


def run(context: Context) -> None:
    pictures = images(16, 3, 32 if context.tiny else 224)
    moved = pictures.to(context.device)
    device = str(context.device)
    for name, change in CHANGES.items():
        with SameDraws():
            expected, actual = change(pictures, generator()), change(moved, generator(0, device))
        error = largest_difference(actual, expected)
        context.check(f"{name}, same draws as on the CPU", error, SHIFTED, "largest difference of a pixel")
        twice = differing(change(moved, generator(1, device)), change(moved, generator(1, device)))
        context.check(f"{name}, twice", twice, 0, "pixels that differ")
    for name, options in VIEWS.items():
        changes = {"mix": "none", "shuffle": 1, "flip": False, "view_size": None, **options}
        _numbered(context, name, preset("rded").override(**changes))


def _numbered(context: Context, name: str, protocol: EvaluationProtocol) -> None:
    """Views that are functions of an image and a number, as stored labels are found by."""
    pictures = (images(16, 3, 32 if context.tiny else 224) * 255).to(torch.uint8)
    rows = torch.arange(len(pictures))
    ids = image_ids(pictures)
    expected = SeededViews(pictures, ids, protocol, 0)(rows, rows % 3)
    moved = rows.to(context.device)
    actual = SeededViews(pictures.to(context.device), ids, protocol, 0)(moved, moved % 3)
    error = largest_difference(actual.images, expected.images)
    context.check(f"numbered views: {name}, against the CPU", error, SHIFTED, "largest difference of a pixel")


PART = Part("augmentations of whole batches", seconds=8, least=3, run=run)
