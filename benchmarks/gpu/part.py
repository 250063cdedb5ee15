"""A part of the run: what it is called, how long it takes, and the function that checks and measures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.gpu.context import Context


@dataclass(frozen=True)
class Part:
    """title: what is checked and measured. seconds: what it takes on a large GPU; a part's share of the budget is its
    share of the seconds of all parts. least: below this many seconds it is not begun. run: writes checks, figures and
    notes to the context as it goes, so that what was found before an exception is kept."""

    title: str
    seconds: float
    least: float
    run: Callable[[Context], None]
