"""A training of any kind as a job: what learns, where its state is kept, and how it goes on from there.

The state is a file of ours, whoever trains: it is replaced as a whole, so a kill at any moment leaves the one before
(Ray Train writes the list of its checkpoints in place, and reads it with the same version of Ray alone), and a
training that Ray began can be finished without it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, Protocol

import torch

from raycond.core import files


class Training(Protocol):
    """A model that is being trained. `run` yields the number of steps done wherever `state` may be asked for."""

    rank: int
    step: int

    @property
    def loss(self) -> float: ...

    def run(self) -> Iterator[int]: ...

    def state(self) -> bytes: ...

    def load(self, data: bytes) -> None: ...


class TrainingJob(ABC):
    """All that a worker on any node needs to train; small and picklable."""

    folder: str
    """Folder of this training and no other, where a rerun finds its state."""

    threads: int
    """Threads of torch in each worker."""

    checkpoint_every: int
    """Steps between two states."""

    @property
    @abstractmethod
    def total(self) -> int:
        """Steps of the whole training; it may stop after fewer."""

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

    @property
    def scratch(self) -> str:
        """Folder for what the runner itself writes while it trains. Nobody reads it afterwards: a runner empties it
        when it begins, where a killed one may have left it, and when it ends."""
        return files.join(self.folder, "ray")
