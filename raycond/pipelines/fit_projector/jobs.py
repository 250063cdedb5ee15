"""The three trainings of a projector's fit as jobs: a small CLIP, the weak teachers, and the fit itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from raycond.core import files
from raycond.data.class_arrays import ArrayFiles, Pixels
from raycond.data.classes import Classes
from raycond.data.holdout import split
from raycond.labels.projector.clip_training import ClipTraining
from raycond.labels.projector.fitting import ProjectorFit
from raycond.labels.projector.network import Projector, ProjectorOptions
from raycond.labels.projector.options import ClipTrainingConfig, FitConfig, TeacherConfig
from raycond.labels.projector.weak_teachers import Teachers, TeacherTraining, checkpoint
from raycond.models.clip import open_clip_model
from raycond.runtime.job import TrainingJob
from raycond.training.resumable import steps_of


@dataclass(frozen=True)
class Learnt:
    """What all three learn from: images, and how many of each class are held out."""

    pixels: ArrayFiles
    held_out: int
    seed: int

    def open(self, device: str | torch.device) -> tuple[Pixels, Tensor, Tensor]:
        """All images, the rows to learn from, and those held out."""
        learn, held = split(self.pixels.counts, self.held_out, self.seed)
        return Pixels.open(self.pixels, device), learn, held

    def some(self, classes: int, count: int) -> Tensor:
        """At most `count` images of at most `classes` classes, spread over both: only these classes' files are read."""
        found = self.pixels
        picked = range(0, len(found.uris), -(-len(found.uris) // classes))
        few = ArrayFiles(tuple(found.uris[k] for k in picked), tuple(found.counts[k] for k in picked), found.shape)
        pixels = Pixels.open(few, "cpu", in_memory=0)
        return pixels.take(torch.arange(0, len(pixels), -(-len(pixels) // count)))[0]

    @property
    def count(self) -> int:
        """Images that are learnt from."""
        return len(split(self.pixels.counts, self.held_out, self.seed)[0])


@dataclass(frozen=True)
class ClipJob(TrainingJob):
    """texts: the captions of each class."""

    folder: str
    config: ClipTrainingConfig
    learnt: Learnt
    texts: tuple[tuple[str, ...], ...]
    threads: int
    checkpoint_every: int

    @property
    def total(self) -> int:
        return steps_of(self.config.epochs, self.learnt.count, self.config.batch)

    def open(self, device: str | torch.device, rank: int, world: int) -> ClipTraining:
        pixels, learn, _ = self.learnt.open(device)
        seed = self.learnt.seed
        return ClipTraining(self.config, pixels, learn, self.texts, seed=seed, device=device, rank=rank, world=world)


@dataclass(frozen=True)
class TeacherJob(TrainingJob):
    """teachers: the folder of the checkpoints, of this training and no other."""

    folder: str
    config: TeacherConfig
    learnt: Learnt
    teachers: str
    threads: int
    checkpoint_every: int

    @property
    def total(self) -> int:
        return steps_of(max(self.config.keep), self.learnt.count, self.config.batch)

    def start(self, device: str | torch.device, rank: int = 0, world: int = 1) -> TeacherTraining:
        """From the beginning if a checkpoint that was written before is gone."""
        training: TeacherTraining = super().start(device, rank, world)
        passed = [epoch for step, epoch in training.kept.items() if step <= training.step]
        if all(files.exists(checkpoint(self.teachers, epoch)) for epoch in passed):
            return training
        return self.open(device, rank, world)

    def open(self, device: str | torch.device, rank: int, world: int) -> TeacherTraining:
        pixels, learn, _ = self.learnt.open(device)
        return TeacherTraining(
            *(self.config, pixels, learn),
            folder=self.teachers,
            seed=self.learnt.seed,
            device=device,
            rank=rank,
            world=world,
        )


@dataclass(frozen=True)
class FitJob(TrainingJob):
    """clip: what `open_clip_model` takes. teachers: what `open_teacher` takes; none for the labels alone."""

    folder: str
    config: FitConfig
    learnt: Learnt
    classes: Classes
    clip: str
    options: ProjectorOptions
    teachers: tuple[str, ...]
    threads: int
    checkpoint_every: int

    @property
    def total(self) -> int:
        return steps_of(self.config.epochs, self.learnt.count, self.config.batch)

    def open(self, device: str | torch.device, rank: int, world: int) -> ProjectorFit:
        pixels, learn, held = self.learnt.open(device)
        teachers = None
        if self.teachers:
            how: dict[str, Any] = {"combine": self.config.combine, "targets": self.config.targets}
            teachers = Teachers(self.teachers, classes=self.classes, device=device, **how)
        seed = self.learnt.seed
        return ProjectorFit(
            *(self.config, self.projector(device), pixels, learn, held, teachers),
            seed=seed,
            device=device,
            rank=rank,
            world=world,
        )

    def projector(self, device: str | torch.device) -> Projector:
        """At its start. Raises UserError as `open_clip_model` and `Projector` do."""
        return Projector(open_clip_model(self.clip, device="cpu"), self.classes, self.options, device)
