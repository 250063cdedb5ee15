"""A phase: the optimization of the images of some classes at one IPC, as a job that any node can go on with."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from raycond.core import files, records
from raycond.core.device import require_device, torch_threads
from raycond.core.errors import parsing
from raycond.data.class_arrays import ArrayFiles, Pixels
from raycond.methods.match.config import MatchConfig
from raycond.methods.match.real import RealImages
from raycond.methods.match.training import Matching
from raycond.pipelines.match.pictures import sheet
from raycond.runtime.job import TrainingJob
from raycond.runtime.trials import Request

REPORT_SECONDS = 0.5  # between two reports of how far a phase is


class Phase(Matching):
    """The optimization, which also keeps its snapshots and the seconds that it has taken."""

    def __init__(self, job: PhaseJob, real: RealImages) -> None:
        super().__init__(job.config, real, seed=job.seed, labels=job.labels)
        self.job = job
        self.seconds: list[tuple[int, float]] = []
        """(step, seconds of work before it) at each entry of the curve."""
        self._before, self._begun = 0.0, time.monotonic()

    def due(self) -> bool:
        return self.step in self.job.snapshots

    def reached(self) -> None:
        self.seconds.append((self.step, self._before + time.monotonic() - self._begun))
        if self.step in self.job.snapshots:
            self.keep()

    def keep(self) -> None:
        """Write the images so far, and a picture of them."""
        files.write_bytes(self.job.snapshot(self.step), save({"images": self.stored.detach().cpu().contiguous()}))
        pictures = self.images.unflatten(0, (self.count, -1))
        files.write_bytes(self.job.picture(self.step), sheet(pictures))

    def resume(self, seconds: list[tuple[int, float]]) -> None:
        """Take up the clock of the run that this one goes on from."""
        self.seconds = [(step, passed) for step, passed in seconds if step <= self.step]
        self._before = self.seconds[-1][1] if self.seconds else 0.0
        self._begun = time.monotonic()


@dataclass(frozen=True)
class PhaseJob(TrainingJob):
    """What a phase depends on, and where it keeps its files."""

    folder: str
    config: MatchConfig
    pixels: ArrayFiles
    """The decoded images of all classes."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    labels: tuple[int, ...]
    """The classes whose images are optimized."""

    seed: int
    snapshots: tuple[int, ...]
    """Steps after which images are kept, 0 for those before the first."""

    pictures: str
    """Folder of the pictures of snapshots, and how their names begin."""

    threads: int
    checkpoint_every: int

    @property
    def total(self) -> int:
        return self.config.total

    def open(self, device: str | torch.device, rank: int, world: int) -> Phase:
        return Phase(self, RealImages(Pixels.open(self.pixels, device), self.mean, self.std))

    def start(self, device: str | torch.device, rank: int = 0, world: int = 1) -> Phase:
        phase: Phase = super().start(device, rank, world)
        known: list[tuple[int, float]] = []
        if phase.step and files.exists(self.clock):
            with parsing(self.clock, "the seconds of a phase", "delete it"):
                known = [(int(step), float(passed)) for step, passed in files.read_json(self.clock)]
        phase.resume(known)
        if 0 in self.snapshots and not phase.step:
            phase.keep()
        return phase

    def save(self, training: Any) -> None:
        files.write_json(self.clock, training.seconds)
        super().save(training)

    @property
    def clock(self) -> str:
        return files.join(self.folder, "seconds.json")

    def snapshot(self, step: int) -> str:
        return files.join(self.folder, "snapshots", f"{step:08d}.safetensors")

    def picture(self, step: int) -> str:
        return f"{self.pictures}-{step // self.config.steps:06d}.png"


@dataclass(frozen=True)
class PhaseTrial:
    """A phase as a unit of work of a runner: one that was stopped goes on from its last checkpoint, and one that is
    finished is found by its record."""

    name: str
    slug: str
    job: PhaseJob
    fingerprint: str
    device: str
    request: Request = field(default_factory=Request)

    @property
    def place(self) -> str:
        """The file of the finished images; its record lies beside it."""
        return files.join(self.job.folder, "images.safetensors")

    @property
    def cost(self) -> float:
        return float(self.job.total * len(self.job.labels) * self.job.config.ipc)

    @property
    def parameters(self) -> dict[str, Any]:
        return {"ipc": self.job.config.ipc, "classes": len(self.job.labels), "method": self.job.config.method}

    def facts(self) -> dict[str, Any] | None:
        """What the record of the finished phase holds: the curve as lines of step, loss and seconds."""
        return records.find(self.place, self.fingerprint)

    def finished(self) -> dict[str, Any] | None:
        facts = self.facts()
        return None if facts is None else {"step": self.job.total, "loss": facts["curve"][-1][1]}

    def run(self, report: Callable[[dict[str, float]], None]) -> dict[str, Any]:
        """Optimize to the end, and write images and record. report: takes step, loss and seconds now and then."""
        require_device(self.device)
        with torch_threads(self.job.threads):
            phase = self.job.start(self.device)
            for values in _now_and_then(phase, self.job.steps(phase)):
                report(values)
        curve = [
            [step, loss, round(seconds, 3)]
            for (step, loss), (_, seconds) in zip(phase.curve, _aligned(phase), strict=True)
        ]
        images = phase.stored.detach().cpu().contiguous()
        records.finish(self.place, self.fingerprint, save({"images": images}), curve=curve)
        return {"step": phase.step, "loss": phase.loss}

    def images(self, step: int | None = None) -> Tensor:
        """The finished images, or those of a snapshot: (classes · ipc, C, H, W) in the space of the optimizer."""
        where = self.place if step is None else self.job.snapshot(step)
        with parsing(where, "the images of a phase", f"delete {self.job.folder}, and run again"):
            images: Tensor = load(files.read_bytes(where))["images"]
        return images

    def pixels(self, step: int | None = None) -> Tensor:
        """The same on the scale of [0, 1], not clamped."""
        images = self.images(step)
        if self.job.config.pixels == "unit":
            return images
        mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (self.job.mean, self.job.std))
        return images * std + mean


def _now_and_then(phase: Phase, steps: Iterator[int]) -> Iterator[dict[str, float]]:
    told = time.monotonic()
    yield {"step": phase.step, "loss": phase.loss, "seconds": phase.seconds[-1][1] if phase.seconds else 0.0}
    for step in steps:
        if step == phase.total or time.monotonic() - told >= REPORT_SECONDS:
            told = time.monotonic()
            yield {"step": step, "loss": phase.loss, "seconds": phase.seconds[-1][1]}


def _aligned(phase: Phase) -> list[tuple[int, float]]:
    """The seconds of every entry of the curve; those that were lost with a file are the next that are known."""
    known = dict(phase.seconds)
    last, aligned = phase.seconds[-1][1] if phase.seconds else 0.0, []
    for step, _ in reversed(phase.curve):
        last = known.get(step, last)
        aligned.append((step, last))
    return aligned[::-1]
