"""A training as a job: what learns, where its state is kept, and how it goes on from it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, Protocol

import torch

from raycond.core import files


class Training(Protocol):
    """What learns. `run` yields the number of steps done wherever `state` may be asked for."""

    rank: int
    step: int

    @property
    def loss(self) -> float: ...

    def run(self) -> Iterator[int]: ...

    def state(self) -> bytes: ...

    def load(self, data: bytes) -> None: ...


class TrainingJob(ABC):
    """What every worker is told. folder: of this training and no other, where a rerun finds its state.

    threads: of torch. checkpoint_every: steps between states. total: steps, or fewer where it stops early.
    """

    folder: str
    threads: int
    checkpoint_every: int

    @property
    @abstractmethod
    def total(self) -> int: ...

    def start(self, device: str | torch.device, rank: int = 0, world: int = 1) -> Any:
        """A training that goes on from the state that was kept, if there is one."""
        training = self.open(device, rank, world)
        if files.exists(self.place):
            training.load(self.state())
        return training

    @abstractmethod
    def open(self, device: str | torch.device, rank: int, world: int) -> Training:
        """The training at its beginning."""

    def steps(self, training: Any) -> Iterator[int]:
        """Train; yields the step at each entry of the curve, when the state is safe if one was due."""
        saved = unsaved = training.step
        for step in training.run():
            unsaved = step
            if step == self.total or step - saved >= self.checkpoint_every:
                self.save(training)
                saved = step
            yield step
        if unsaved != saved:  # it stopped early
            self.save(training)

    def save(self, training: Training) -> None:
        if training.rank == 0:
            files.write_bytes(self.place, training.state())

    def state(self) -> bytes:
        return files.read_bytes(self.place)

    @property
    def place(self) -> str:
        return files.join(self.folder, "state.safetensors")
