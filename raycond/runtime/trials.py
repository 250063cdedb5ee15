"""What a grid of trials tells whoever watches it."""

from __future__ import annotations

from typing import Protocol

from raycond.core.errors import RaycondError
from raycond.evaluate.table import Check, Row
from raycond.pipelines.evaluate.units import Trial


class Watcher(Protocol):
    """Hears what becomes of units, in the driver."""

    def started(self, unit: Trial) -> None: ...

    def checked(self, unit: Trial, check: Check) -> None: ...

    def done(self, unit: Trial, row: Row) -> None: ...

    def failed(self, unit: Trial, why: str) -> None: ...


def reason(error: Exception) -> str:
    return str(error) if isinstance(error, RaycondError) else repr(error)
