"""The in-process runner of a grid: the same units and records as on Tune, one after another, no Ray."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from raycond.evaluate.table import Row
from raycond.pipelines.evaluate.config import GridConfig
from raycond.pipelines.evaluate.units import Trial, carry_out
from raycond.runtime.trials import Watcher, reason


class LocalGrid:
    """Everything in this process."""

    def __init__(self, config: GridConfig) -> None:
        self.device = "cuda" if config.gpus_per_trial != 0 and torch.cuda.is_available() else "cpu"

    def run(self, units: Sequence[Trial], watcher: Watcher) -> None:
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
