"""The interfaces of runners: where units of work are carried out, in this process or on Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from raycond.pipelines.evaluate.units import Trial
from raycond.pipelines.quantize.config import QuantizeConfig
from raycond.pipelines.quantize.units import ClassJob, Result, WorkerSpec
from raycond.runtime.class_files import Tasks
from raycond.runtime.job import TrainingJob
from raycond.runtime.trials import Watcher


class Runner(Protocol):
    """Where units of work are carried out. Results come in completion order. device: what each unit computes on."""

    device: str

    def classes(self, spec: WorkerSpec, jobs: Sequence[ClassJob]) -> Iterator[Result]: ...

    def tasks(self, function: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """(position, result) of `function(item)`; the result is the exception if it raised one."""
        ...

    def describe(self) -> dict[str, Any]:
        """For the report: what the work ran on."""
        ...

    def close(self) -> None: ...


class GridRunner(Protocol):
    """Where the trainings of a grid are carried out. device: what each computes on."""

    device: str

    def run(self, units: Sequence[Trial], watcher: Watcher) -> None: ...

    def once(self, function: Callable[[Any], Any], argument: Any) -> Any:
        """`function(argument)` where trainings run."""
        ...

    def describe(self) -> dict[str, Any]:
        """For the report: what the work ran on."""
        ...

    def close(self) -> None: ...


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

    def train(self, job: TrainingJob, stage: str = "train") -> None: ...

    def describe(self) -> dict[str, Any]: ...

    def close(self) -> None: ...
