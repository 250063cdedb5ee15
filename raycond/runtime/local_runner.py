"""The in-process runner: the same units, the same bytes, no Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from raycond.pipelines.quantize.config import QuantizeConfig
from raycond.pipelines.quantize.units import ClassJob, Result, WorkerSpec
from raycond.pipelines.quantize.worker import ClassWorker


class LocalRunner:
    """Everything in this process, one unit after another."""

    def __init__(self, config: QuantizeConfig) -> None:
        self.config = config
        self.device = "cuda" if config.gpus_per_actor != 0 and torch.cuda.is_available() else "cpu"

    def classes(self, spec: WorkerSpec, jobs: Sequence[ClassJob]) -> Iterator[Result]:
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
