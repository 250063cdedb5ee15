"""A runner that is opened when it is first asked for: a rerun that finds everything done needs none."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from raycond.runtime.open import open_runner
from raycond.runtime.resources import Resources
from raycond.runtime.runner import Runner


class TrainingConfig(Protocol):
    """The options that say where a training runs."""

    @property
    def runner(self) -> str: ...

    @property
    def dashboard(self) -> bool: ...

    @property
    def workers(self) -> int: ...

    @property
    def resources(self) -> Resources: ...


class TimedRun(Protocol):
    """A run that keeps how long its stages took, and what it ran on."""

    machine: dict[str, Any]

    def timed(self, stage: str) -> contextlib.AbstractContextManager[None]: ...


@contextlib.contextmanager
def on_demand(config: TrainingConfig, run: TimedRun) -> Iterator[Callable[[], Runner]]:
    """Yields a function that returns the one runner of the run. Raises UserError there if no node holds a worker."""
    opened: list[Runner] = []

    def get() -> Runner:
        if not opened:
            with run.timed("start"):
                opened.append(open_runner(config.runner, config.dashboard))
            opened[0].require(config.resources, config.workers)
            run.machine = opened[0].describe() | {"workers": config.workers}
        return opened[0]

    try:
        yield get
    finally:
        for runner in opened:
            runner.close()
