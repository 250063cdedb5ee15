"""A training of any kind as a job: where its state is kept, and how it is carried out in this process or on Ray Train.

The state is a file of ours, whoever trains: it is replaced as a whole, so a kill at any moment leaves the one before
(Ray Train writes the list of its checkpoints in place, and reads it with the same version of Ray alone), and a
training that Ray began can be finished without it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from raycond.core.device import require_device
from raycond.core.progress import Progress
from raycond.runtime.job import TrainingJob
from raycond.runtime.local_runner import LocalRunner
from raycond.runtime.runner import TrainingConfig


class LocalTraining(LocalRunner):
    """One worker, here: the same draws as any number of workers."""

    def __init__(self, config: TrainingConfig) -> None:
        super().__init__(config.encoding())

    def train(self, job: TrainingJob, stage: str = "train") -> None:
        require_device(self.device)
        with threads(job.threads):
            training = job.start(self.device)
            progress = Shown(job.total, training.step, stage)
            with progress:
                for step in job.steps(training):
                    progress.show(step, training.loss)


class Shown(Progress):
    """Progress of a training, of which `done` steps were made before."""

    def __init__(self, steps: int, done: int = 0, stage: str = "train") -> None:
        super().__init__(stage, steps, "steps", done=done)

    def begin(self, step: int) -> None:
        """Only what comes after `step` is worked on now."""
        self.before = self.done = step

    def show(self, step: int, loss: float) -> None:
        if step != self.done:  # fewer than before where a worker died
            self.step(step - self.done, f"loss {loss:.4f}")


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """Torch's threads, which float sums depend on."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
