"""The runner of one process, which keeps what is asked of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from raycond.core.errors import RaycondError
from raycond.runtime.job import TrainingJob
from raycond.runtime.local_runner import LocalRunner
from raycond.runtime.resources import Resources
from raycond.runtime.runner import PoolWorker


class RecordingRunner(LocalRunner):
    """trains: whether trainings are carried out; if not, the first one raises RaycondError."""

    def __init__(self, trains: bool = True) -> None:
        self.trains = trains
        self.asked: list[tuple[str, Resources]] = []
        """(what was to be done, what one worker of it asks for), in order."""
        self.closed = 0

    def require(self, resources: Resources, workers: int = 0, *, may_grow: bool = False) -> None:
        self.asked.append(("require", resources))

    def pool(
        self,
        make_worker: Callable[[str], PoolWorker],
        jobs: Sequence[str],
        resources: Resources,
        *,
        workers: int = 0,
        batch: int = 1,
    ) -> Iterator[tuple[int, str | RaycondError]]:
        self.asked.append(("pool", resources))
        return super().pool(make_worker, jobs, resources, workers=workers, batch=batch)

    def tasks(
        self, function: Callable[[Any], Any], items: Sequence[Any], resources: Resources, *, fresh: bool = False
    ) -> Iterator[tuple[int, Any]]:
        self.asked.append((function.__name__, resources))
        return super().tasks(function, items, resources, fresh=fresh)

    def train(self, job: TrainingJob, resources: Resources, *, workers: int = 1, stage: str = "train") -> None:
        self.asked.append((stage, resources))
        if not self.trains:
            raise RaycondError("this runner does not train")
        super().train(job, resources, workers=workers, stage=stage)

    def close(self) -> None:
        self.closed += 1
