"""The in-process runner: the same units of work, the same bytes, no Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch

from raycond.core import files
from raycond.core.device import require_device, torch_threads
from raycond.core.errors import RaycondError, is_full
from raycond.core.progress import TrainingProgress
from raycond.runtime.blocks import compute
from raycond.runtime.job import TrainingJob
from raycond.runtime.resources import Resources
from raycond.runtime.runner import PoolWorker
from raycond.runtime.trials import Trial, Watcher, details, reason


class LocalRunner:
    """Everything in this process, one unit after another."""

    capacity = None

    def require(self, resources: Resources, workers: int = 0, *, may_grow: bool = False) -> None:
        """This process takes what there is."""

    def device(self, resources: Resources) -> str:
        return "cuda" if resources.gpus != 0 and torch.cuda.is_available() else "cpu"

    def pool(
        self,
        make_worker: Callable[[str], PoolWorker],
        jobs: Sequence[str],
        resources: Resources,
        *,
        workers: int = 0,
        batch: int = 1,
    ) -> Iterator[tuple[int, str | RaycondError]]:
        worker = make_worker(self.device(resources))
        for start in range(0, len(jobs), batch):
            yield from enumerate(worker.run(jobs[start : start + batch]), start)

    def tasks(
        self, function: Callable[[Any], Any], items: Sequence[Any], resources: Resources, *, fresh: bool = False
    ) -> Iterator[tuple[int, Any]]:
        for position, item in enumerate(items):
            try:
                result = function(item)
            except Exception as error:
                result = error
            yield position, result

    def blocks(
        self,
        function: Callable[..., Any],
        shared: tuple[Any, ...],
        items: Iterable[Any],
        resources: Resources,
        *,
        workers: int = 0,
    ) -> Iterator[Any]:
        return (compute(function, shared, item, resources.cpus) for item in items)

    def train(self, job: TrainingJob, resources: Resources, *, workers: int = 1, stage: str = "train") -> None:
        """One worker, here: it makes the same draws as any number of workers."""
        device = self.device(resources)
        require_device(device)
        files.delete_folder(job.scratch)  # a training that Ray began may end here
        with torch_threads(job.threads):
            training = job.start(device)
            progress = TrainingProgress(job.total, training.step, stage)
            with progress:
                for step in job.steps(training):
                    progress.show(step, training.loss)

    def trials(self, trials: Sequence[Trial], watcher: Watcher, *, folder: str, at_once: int = 0) -> None:
        for trial in trials:
            self._trial(trial, watcher)

    def _trial(self, trial: Trial, watcher: Watcher) -> None:
        watcher.started(trial)
        try:
            result = trial.run(lambda values: watcher.checked(trial, values))
        except Exception as error:
            if is_full(error):
                raise
            watcher.failed(trial, reason(error), details(error))
        else:
            watcher.done(trial, result)

    def describe(self) -> dict[str, Any]:
        return {"runner": "local", "device": "cuda" if torch.cuda.is_available() else "cpu"}

    def close(self) -> None:
        pass
