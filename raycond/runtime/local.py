"""The in-process runner: the same units, the same bytes, no Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import torch

from raycond.config import QuantizeConfig
from raycond.runtime.units import Job, Result, WorkerSpec
from raycond.runtime.worker import ClassWorker


class Runner(Protocol):
    """Where units of work are carried out. Results come in completion order. device: what each unit computes on."""

    device: str

    def classes(self, spec: WorkerSpec, jobs: Sequence[Job]) -> Iterator[Result]: ...

    def tasks(self, function: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """(position, result) of `function(item)`; the result is the exception if it raised one."""
        ...

    def describe(self) -> dict[str, Any]:
        """For the report: what the work ran on."""
        ...

    def close(self) -> None: ...


class LocalRunner:
    """Everything in this process, one unit after another."""

    def __init__(self, config: QuantizeConfig) -> None:
        self.config = config
        self.device = "cuda" if config.gpus_per_actor != 0 and torch.cuda.is_available() else "cpu"

    def classes(self, spec: WorkerSpec, jobs: Sequence[Job]) -> Iterator[Result]:
        worker = ClassWorker(spec, self.device)
        step = self.config.classes_at_once
        for start in range(0, len(jobs), step):
            yield from worker.run(jobs[start : start + step])

    def tasks(self, function: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        for position, item in enumerate(items):
            try:
                result = function(item)
            except Exception as error:
                result = error
            yield position, result

    def describe(self) -> dict[str, Any]:
        return {"runner": "local", "device": self.device}

    def close(self) -> None:
        pass
