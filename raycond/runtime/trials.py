"""A trial: one unit of a grid that leaves a record, tells how far it is, and whose failure stops no other."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from raycond.core.errors import RaycondError, explained, is_full


@dataclass(frozen=True)
class Request:
    """What one trial asks of the cluster."""

    cpus: int = 1
    """Processors."""

    gpus: float = 0.0
    """Share of a GPU; 0 for none."""

    memory: int = 0
    """Bytes of the node's memory; 0 asks for none."""

    def to_dict(self) -> dict[str, float]:
        """As Ray names them."""
        wanted = {"CPU": self.cpus, "GPU": self.gpus, "memory": self.memory}
        return {name: amount for name, amount in wanted.items() if amount or name == "CPU"}


class Trial(Protocol):
    """What a runner needs to know of a trial; small and picklable."""

    @property
    def name(self) -> str:
        """For people; no other trial of the grid has it."""
        ...

    @property
    def slug(self) -> str:
        """The name as a part of file names."""
        ...

    @property
    def place(self) -> str:
        """Where the record lies: the identity of the trial."""
        ...

    @property
    def cost(self) -> float:
        """How long it takes beside others, in any unit: the longest begin first."""
        ...

    @property
    def request(self) -> Request: ...

    @property
    def parameters(self) -> dict[str, Any]:
        """What dashboards show of it."""
        ...

    def run(self, report: Callable[[dict[str, float]], None]) -> dict[str, Any]:
        """Do the work and write the record. report: takes the values of a check; `step` is the x axis of curves."""
        ...

    def finished(self) -> dict[str, Any] | None:
        """What `run` returned in an earlier run, if its record stands for the same work."""
        ...


class Watcher(Protocol):
    """Hears in the driver what becomes of trials."""

    def started(self, trial: Any) -> None: ...

    def checked(self, trial: Any, values: dict[str, float]) -> None: ...

    def done(self, trial: Any, result: dict[str, Any]) -> None: ...

    def failed(self, trial: Any, why: str, details: str = "") -> None:
        """why: one line for people. details: the traceback, for the log file."""
        ...


def reason(error: Exception) -> str:
    """An error in one line: raycond's own ones as they are, others with their type."""
    if isinstance(error, OSError) and is_full(error):
        return explained(error)
    return str(error) if isinstance(error, RaycondError) else repr(error)


def details(error: Exception) -> str:
    """The traceback of an error that raycond does not raise on purpose."""
    return "" if isinstance(error, RaycondError) else "".join(traceback.format_exception(error)).strip()
