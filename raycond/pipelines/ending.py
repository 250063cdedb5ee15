"""What every run tells at its end: the text on the terminal, and the environment in its report."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any, Protocol

from raycond import __version__
from raycond.data.overlap import Overlap
from raycond.data.quarantine import BadRecord
from raycond.evaluate import table
from raycond.pipelines.layout import Layout

MAX_FAILURES = 20  # shown in full


class TimedRun(Protocol):
    """What every run knows in the end."""

    overlap: Overlap | None
    machine: dict[str, Any]
    seconds: dict[str, float]

    @property
    def times(self) -> str: ...


class FinishedRun(TimedRun, Protocol):
    """What a run that makes a condensed set knows in the end."""

    manifest: dict[str, Any]
    rows: list[table.Row]
    bad: list[BadRecord]
    failures: list[str]

    @property
    def layout(self) -> Layout: ...


def overlap_text(overlap: Overlap | None) -> str:
    """A sentence or two on validation images that are trained on too; empty where there is nothing to tell."""
    if overlap is None or not overlap.notable:
        return ""
    same = (
        f"{overlap.shared} of {overlap.checked} validation images are training images too, byte for byte: their "
        "accuracies are not those of unseen images"
    )
    return ". ".join([*([same] if overlap.shared else []), *([overlap.of_copies] if overlap.copies else [])])


def environment(run: TimedRun, packages: Sequence[str], facts: Mapping[str, str] | None = None) -> dict[str, str]:
    """Names and values for the report: versions, the machine, `facts`, and the seconds of each stage.

    packages: those whose versions a result may depend on.
    """
    overlap = overlap_text(run.overlap)
    return {
        "raycond": __version__,
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in packages},
        **{key: f"{value:g}" if isinstance(value, float) else str(value) for key, value in run.machine.items()},
        **(facts or {}),
        **({"overlap": overlap} if overlap else {}),
        **{f"seconds: {stage}": f"{seconds:.1f}" for stage, seconds in run.seconds.items()},
    }


def ending(run: FinishedRun, *, notes: Sequence[str] = (), places: Sequence[str] = ()) -> str:
    """What a person wants to read at the end: accuracies, what was left out, what failed, where things are.

    notes: lines on how the set was made. places: lines on files beside the set and the report.
    """
    lines = [""]
    if run.rows:
        lines += [table.text(run.rows), ""]
    lines.append(f"time      {run.times}")
    if overlap := overlap_text(run.overlap):
        lines.append(f"overlap   {overlap}")
    if run.bad:
        lines.append(
            f"bad       {len(run.bad)} {'images' if len(run.bad) > 1 else 'image'} left out: {run.layout.quarantine}"
        )
    lines += notes
    if run.manifest:
        lines += [f"set       {run.layout.condensed}", f"report    {run.layout.report}", *places]
    if run.rows:
        lines.append(f"results   {run.layout.results}")
    if run.failures:
        lines += ["", f"NOT MADE: {len(run.failures)} failed; the same command tries them again"]
        lines += run.failures[:MAX_FAILURES]
        if len(run.failures) > MAX_FAILURES:
            lines.append(f"… and {len(run.failures) - MAX_FAILURES} more")
    return "\n".join(lines)
