"""The in-process runner of a grid: the same units and records as on Tune, one after another, no Ray."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import torch

from raycond.evaluate.table import Row
from raycond.grid_config import GridConfig
from raycond.runtime.cells import Unit, Watcher, carry_out, reason


class GridRunner(Protocol):
    """Where the trainings of a grid are carried out. device: what each computes on."""

    device: str

    def run(self, units: Sequence[Unit], watcher: Watcher) -> None: ...

    def once(self, function: Callable[[Any], Any], argument: Any) -> Any:
        """`function(argument)` where trainings run."""
        ...

    def describe(self) -> dict[str, Any]:
        """For the report: what the work ran on."""
        ...

    def close(self) -> None: ...


class LocalGrid:
    """Everything in this process."""

    def __init__(self, config: GridConfig) -> None:
        self.device = "cuda" if config.gpus_per_trial != 0 and torch.cuda.is_available() else "cpu"

    def run(self, units: Sequence[Unit], watcher: Watcher) -> None:
        for unit in units:
            watcher.started(unit)
            try:
                row = Row.from_dict(carry_out(unit, partial(watcher.checked, unit)))
            except Exception as error:
                watcher.failed(unit, reason(error))
            else:
                watcher.done(unit, row)

    def once(self, function: Callable[[Any], Any], argument: Any) -> Any:
        return function(argument)

    def describe(self) -> dict[str, Any]:
        return {"runner": "local", "device": self.device}

    def close(self) -> None:
        pass
