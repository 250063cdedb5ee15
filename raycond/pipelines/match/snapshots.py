"""Snapshots of an optimization as training sets, for the curve of accuracy against iterations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from raycond.core import files
from raycond.data.images import Decoding
from raycond.data.labelled import LabelledImages
from raycond.evaluate.training_sets import formed
from raycond.methods.match.formation import Formation
from raycond.pipelines.match.phase import PhaseTrial
from raycond.pipelines.match.pictures import sheet


@dataclass(frozen=True)
class SnapshotImages:
    """The images after a step of the phases of one IPC."""

    phases: tuple[PhaseTrial, ...]
    step: int

    def load(self, classes: int, options: Decoding) -> LabelledImages:
        parts, labels = [], []
        for phase in self.phases:
            parts.append(phase.pixels(self.step))
            labels.append(torch.tensor(phase.job.labels).repeat_interleave(phase.job.config.ipc))
        found = LabelledImages(torch.cat(parts), torch.cat(labels), classes)
        c = self.phases[0].job.config
        return found if c.factor == 1 else formed(found, Formation(c.factor, c.decoder, c.max_synthetic))


@dataclass(frozen=True)
class Snapshot:
    """A row of an evaluation: one snapshot of one IPC."""

    method: str
    phases: tuple[PhaseTrial, ...]
    step: int
    label: str = ""
    weights: str = ""
    held: int = 0

    @property
    def ipcs(self) -> tuple[int | None, ...]:
        return (self.phases[0].job.config.ipc,)

    def images(self, ipc: int | None, seed: int) -> SnapshotImages:
        return SnapshotImages(self.phases, self.step)

    def digest(self, ipc: int | None) -> str:
        return files.digest(["snapshot", self.step, *(phase.fingerprint for phase in self.phases)])

    def count(self, ipc: int | None) -> int:
        c = self.phases[0].job.config
        each = Formation(c.factor, c.decoder, c.max_synthetic).count(c.ipc)
        return each * sum(len(phase.job.labels) for phase in self.phases)


def keep_sheets(folder: str, phases: Sequence[PhaseTrial]) -> None:
    """Have the folder of pictures hold those of the snapshots of these phases and no others: a run with other settings
    may have left its own there."""
    wanted = {phase.job.picture(step): (phase, step) for phase in phases for step in phase.job.snapshots}
    for place, (phase, step) in wanted.items():
        picture = sheet(phase.pixels(step).unflatten(0, (len(phase.job.labels), -1)))
        if not files.exists(place) or files.read_bytes(place) != picture:
            files.write_bytes(place, picture)
    names = {place.rpartition("/")[2] for place in wanted}
    for entry in files.listdir(folder) if files.exists(folder) else ():
        if entry.name not in names:
            files.delete(entry.uri)


def snapshots(row: str, phases: Sequence[PhaseTrial]) -> list[Snapshot]:
    """Every snapshot of every IPC. row: the method's name in results."""
    by_ipc: dict[int, list[PhaseTrial]] = {}
    for phase in phases:
        by_ipc.setdefault(phase.job.config.ipc, []).append(phase)
    return [
        Snapshot(f"{row} after {step // together[0].job.config.steps}", tuple(together), step)
        for together in by_ipc.values()
        for step in together[0].job.snapshots
    ]
