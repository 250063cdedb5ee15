"""Trials of a grid for tests, and training images that go wrong; importable, because workers unpickle them."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raycond.data.classes import Classes
from raycond.data.images import Decoding
from raycond.data.labelled import LabelledImages
from raycond.data.sources import open_source
from raycond.evaluate.cell import Cell
from raycond.evaluate.protocol import preset
from raycond.evaluate.training_sets import RandomImages, TrainingImages
from raycond.pipelines.evaluate.trial import Trial
from raycond.pipelines.stages.splits import decode_split
from tests.pipelines.quantize.make import CLASSES

IMAGES = Decoding(8, "crop", 3, 10**6)
PROTOCOL = preset("quick").override(steps=4, checks=2)


@dataclass(frozen=True)
class Killed:
    """SIGKILL for the process that loads these images, until `times` of them are dead."""

    images: TrainingImages
    folder: str
    times: int = 1

    def load(self, classes: int, options: Decoding) -> LabelledImages:
        dead = len(list(Path(self.folder).iterdir()))
        if dead < self.times:
            Path(self.folder, str(os.getpid())).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.images.load(classes, options)


@dataclass(frozen=True)
class Broken:
    def load(self, classes: int, options: Decoding) -> LabelledImages:
        raise ValueError("broken images")


def cell(root: Path, *, train: TrainingImages | None = None, seed: int = 0, **changes: Any) -> Cell:
    """Random images of root/data, tested on what `decoded` made in root."""
    if train is None:
        train = RandomImages(open_source(f"{root}/data", index_dir=str(root)), 1, seed)
    values: dict[str, Any] = {
        "method": "random",
        "ipc": 1,
        "student": "mlp-w4",
        "seed": seed,
        "protocol": PROTOCOL,
        "classes": Classes.of(CLASSES),
        "options": IMAGES,
        "train": train,
        "test": f"{root}/val.npz",
        "device": "cpu",
    }
    return Cell(**{**values, **changes})


def decoded(root: Path) -> None:
    source = open_source(f"{root}/data", split="val", index_dir=str(root))
    decode_split("val", source, "digest", IMAGES, f"{root}/val.npz")


def trial(root: Path, out: Path, **changes: Any) -> Trial:
    training = cell(root, **changes)
    return Trial.of(training, str(out / training.slug), "data", "test", images=4, tests=16)
