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


@dataclass(frozen=True)
class SnapshotImages:
    """The images after a step of the phases of one IPC."""

    phases: tuple[PhaseTrial, ...]
    step: int

    def load(self, classes: int, options: Decoding) -> LabelledImages:
        parts, labels = [], []
        for phase in self.phases:
            images = phase.images(self.step)
            if phase.job.config.pixels == "normalized":
                mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (phase.job.mean, phase.job.std))
                images = images * std + mean
            parts.append(images)
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
