"""Opens the runner that a configuration asks for."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from raycond.runtime.local_train import LocalTraining
from raycond.runtime.runner import TrainingConfig, TrainingRunner


def open_runner(config: TrainingConfig) -> TrainingRunner:
    """The runner that a configuration asks for. Raises UserError if the cluster cannot hold one worker."""
    if config.runner == "local":
        return LocalTraining(config)
    from raycond.runtime.ray_train import RayTraining

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
