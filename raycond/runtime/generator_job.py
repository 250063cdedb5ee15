"""A generator's training as a job: what every worker is told."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from raycond.data.class_arrays import ArrayFiles
from raycond.generate.latents import Latents
from raycond.generate.training import DitTraining
from raycond.generator_config import DitConfig
from raycond.runtime.training import Job


@dataclass(frozen=True)
class TrainingJob(Job):
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
