"""A training of any kind as a job: where its state is kept, and how it is carried out in this process or on Ray Train.

The state is a file of ours, whoever trains: it is replaced as a whole, so a kill at any moment leaves the one before
(Ray Train writes the list of its checkpoints in place, and reads it with the same version of Ray alone), and a
training that Ray began can be finished without it.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch

from raycond import files
from raycond.config import QuantizeConfig
from raycond.device import require_device
from raycond.progress import Progress
from raycond.runtime.class_files import Tasks
from raycond.runtime.local import LocalRunner


class Training(Protocol):
    """What learns. `run` yields the number of steps done wherever `state` may be asked for."""

    rank: int
    step: int

    @property
    def loss(self) -> float: ...

    def run(self) -> Iterator[int]: ...

    def state(self) -> bytes: ...

    def load(self, data: bytes) -> None: ...


class Job(ABC):
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


class TrainingConfig(Protocol):
    """What a runner needs to know of a configuration."""

    @property
    def runner(self) -> str: ...

    @property
    def workers(self) -> int: ...

    @property
    def cpus_per_worker(self) -> int: ...

    def encoding(self) -> QuantizeConfig: ...


class TrainingRunner(Tasks, Protocol):
    """Carries out tasks, and trains; after `train`, the job's state is that of its last step."""

    def train(self, job: Job, stage: str = "train") -> None: ...

    def describe(self) -> dict[str, Any]: ...

    def close(self) -> None: ...


def open_runner(config: TrainingConfig) -> TrainingRunner:
    """The runner that a configuration asks for. Raises UserError if the cluster cannot hold one worker."""
    if config.runner == "local":
        return LocalTraining(config)
    from raycond.runtime.ray_training import RayTraining

    return RayTraining(config)


class _Run(Protocol):
    machine: dict[str, Any]

    def timed(self, stage: str) -> contextlib.AbstractContextManager[None]: ...


@contextlib.contextmanager
def on_demand(config: TrainingConfig, run: _Run) -> Iterator[Callable[[], TrainingRunner]]:
    """Gives the one runner of the run, started when it is first asked for: a rerun that finds all done needs none."""
    opened: list[TrainingRunner] = []

    def get() -> TrainingRunner:
        if not opened:
            with run.timed("start"):
                opened.append(open_runner(config))
            run.machine = opened[0].describe()
        return opened[0]

    try:
        yield get
    finally:
        for runner in opened:
            runner.close()


class LocalTraining(LocalRunner):
    """One worker, here: the same draws as any number of workers."""

    def __init__(self, config: TrainingConfig) -> None:
        super().__init__(config.encoding())

    def train(self, job: Job, stage: str = "train") -> None:
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
