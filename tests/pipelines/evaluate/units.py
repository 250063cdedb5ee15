"""Units of a grid for tests, and training images that go wrong; importable, because workers unpickle them."""

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
from raycond.evaluate.table import Check, Row
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


def unit(root: Path, out: Path, **changes: Any) -> Trial:
    made = cell(root, **changes)
    return Trial.of(made, str(out / made.slug), "data", "test", images=4, tests=16)


class Told:
    """A watcher that remembers what it hears, in order."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []
        self.rows: dict[str, Row] = {}
        self.failures: dict[str, str] = {}

    def started(self, unit: Trial) -> None:
        self.events.append(("started", unit.cell.name))

    def checked(self, unit: Trial, check: Check) -> None:
        self.events.append((f"step {check.step}", unit.cell.name))

    def done(self, unit: Trial, row: Row) -> None:
        self.events.append(("done", unit.cell.name))
        assert unit.place not in self.rows
        self.rows[unit.place] = row

    def failed(self, unit: Trial, why: str) -> None:
        self.events.append(("failed", unit.cell.name))
        self.failures[unit.cell.name] = why
