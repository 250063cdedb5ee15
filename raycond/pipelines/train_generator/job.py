"""A generator's training as a job: what every worker is told."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from raycond.data.class_arrays import ArrayFiles, Latents
from raycond.models.generators.dit_training import DitTraining
from raycond.models.generators.options import DitConfig
from raycond.runtime.job import TrainingJob


@dataclass(frozen=True)
class DitJob(TrainingJob):
    """The training of a DiT on cached latents."""

    folder: str
    config: DitConfig
    latents: ArrayFiles
    classes: int
    seed: int
    threads: int
    checkpoint_every: int

    @property
    def total(self) -> int:
        return self.config.steps

    def open(self, device: str | torch.device, rank: int, world: int) -> DitTraining:
        latents = Latents.open(self.latents, device)
        return DitTraining(
            self.config, latents, classes=self.classes, seed=self.seed, device=device, rank=rank, world=world
        )
