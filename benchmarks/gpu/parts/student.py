"""A student's training: twice with the same bits, and against a plain DataLoader loop of the same recipe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from benchmarks import training
from benchmarks.gpu.context import Context, differing
from benchmarks.gpu.part import Part
from benchmarks.gpu.photos import pictures
from benchmarks.gpu.record import Setting
from benchmarks.processor import cores
from raycond.data.labelled import LabelledImages
from raycond.evaluate.protocol import EvaluationProtocol, recipe
from raycond.evaluate.train import trained


@dataclass(frozen=True)
class Sizes:
    """images: a class, of `training.CLASSES`. twice: (recipe, student, pixels, precision) of the checks. warm, steps:
    before and while the clock runs. workers: of the plain loop's DataLoader."""

    images: int
    student: str
    pixels: int
    batch: int
    warm: int
    steps: int
    workers: int
    repeats: int
    twice: tuple[tuple[str, str, int, str], ...]


FULL = Sizes(
    *(100, "resnet18", 224, 128, 10, 60, 16, 2),
    (
        ("minimax-hard", "resnet18", 224, "bf16"),
        ("rded", "resnet18", 224, "float32"),
        ("dc-bench-dsa", "convnet3", 32, "float32"),
    ),
)
TINY = Sizes(*(4, "convnet3-w32", 16, 8, 1, 2, 1, 1), (("minimax-hard", "convnet3-w32", 16, "float32"),))
CHECKED_STEPS = 10


def run(context: Context) -> None:
    sizes = TINY if context.tiny else FULL
    for name, student, pixels, precision in sizes.twice:
        _twice(context, sizes, name, student, pixels, precision)
    _loops(context, sizes)


OWN_SIZE = {"view_size": None, "train_size": None, "shuffle": 1}  # views as large as the images


def photographs(sizes: Sizes, pixels: int) -> LabelledImages:
    labels = torch.arange(training.CLASSES).repeat_interleave(sizes.images)
    return LabelledImages(pictures(len(labels), pixels), labels, training.CLASSES)


def _protocol(sizes: Sizes, name: str, student: str, **changes: Any) -> EvaluationProtocol:
    options = {
        **training.RECIPES.get(name, training.SAME),
        "batch": sizes.batch,
        "max_size": None,
        **OWN_SIZE,
        **changes,
    }
    return recipe(name).override(**options).resolve(ipc=sizes.images, classes=training.CLASSES, student=student)


def _twice(context: Context, sizes: Sizes, name: str, student: str, pixels: int, precision: str) -> None:
    """The weights after the same few steps from the same seed."""
    steps = 2 if context.tiny else CHECKED_STEPS
    protocol = _protocol(sizes, name, student, steps=steps, checks=1, precision=precision)
    images = photographs(sizes, pixels)
    first, second = (
        trained(images, student=student, protocol=protocol, seed=0, device=context.device)[0].state_dict()
        for _ in range(2)
    )
    wrong = sum(differing(first[key], second[key]) for key in first)
    name = f"{student} at {pixels} px, {name}, {precision}, {steps} steps, twice"
    context.check(name, wrong, 0, "weights that differ")
    context.free()


def _loops(context: Context, sizes: Sizes) -> None:
    """Steps per second of raycond's loop and of the plain one, in turns."""
    total = sizes.warm + sizes.steps
    workers = min(sizes.workers, max(1, cores()))
    images = photographs(sizes, sizes.pixels)
    for precision in ("bf16", "float32"):
        if not context.has(20, f"{sizes.student}, {precision}"):
            return
        protocol = _protocol(
            sizes, "rded", sizes.student, steps=total, checks=total // sizes.warm, checks_from=0.0, precision=precision
        )
        case = training.Case(sizes.student, protocol, images, sizes.warm, context.device)
        rates: dict[str, list[float]] = {"raycond": [], f"DataLoader, {workers} workers": []}
        for _ in range(sizes.repeats):
            for name, values in rates.items():
                values.append(training.ours(case)[0] if name == "raycond" else training.plain(case, workers))
        for name, values in rates.items():
            setting: Setting = {
                "student": sizes.student,
                "size": sizes.pixels,
                "batch": sizes.batch,
                "precision": precision,
            }
            context.figure("training", "steps/s", values, {**setting, "loop": name})
        context.free()


PART = Part("training a ResNet-18 at 224 px", seconds=45, least=20, run=run)
