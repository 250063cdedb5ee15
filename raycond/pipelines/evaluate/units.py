"""Evaluation cells as units of work: each leaves a completion record, and a rerun trains only what has none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from raycond.core import records
from raycond.core.progress import Progress
from raycond.evaluate.cell import Cell, run_cell
from raycond.evaluate.table import Check, Row
from raycond.runtime.runner import Runner
from raycond.runtime.trials import reason


@dataclass(frozen=True)
class Trial:
    """A cell, where its record lies, and the fingerprint of everything that its accuracy depends on.

    images, tests: how many it trains and is tested on. held: images of the split that it takes them from, if it does.
    """

    cell: Cell
    place: str
    fingerprint: str
    images: int = 1
    tests: int = 0
    held: int = 0

    @property
    def data_bytes(self) -> int:
        """Of the images trained and tested on, as they lie on the device; a CPU has whole splits, twice while read."""
        options = self.cell.options
        on_cpu = 2 * (max(self.images, self.held) + self.tests)
        count = on_cpu if self.cell.device == "cpu" else self.images + self.tests
        return count * options.channels * options.size**2

    @classmethod
    def of(
        cls,
        cell: Cell,
        place: str,
        data: str,
        test: str,
        labels: str = "",
        images: int = 1,
        tests: int = 0,
        held: int = 0,
    ) -> Trial:
        """data, test, labels: digests of the images trained and tested on, and of the labeler."""
        fingerprint = records.fingerprint(
            stage="evaluate",
            method=cell.method,
            ipc=cell.ipc,
            student=cell.student,
            seed=cell.seed,
            protocol=cell.protocol.to_dict(),
            options=asdict(cell.options),
            weights=cell.weights,
            labeler=labels,
            variant=cell.variant,
            data=data,
            test=test,
            device=cell.device,
        )
        return cls(cell, place, fingerprint, images, tests, held)

    def finished(self) -> Row | None:
        """The row of an earlier run, if it stands for the same."""
        facts = records.find(self.place, self.fingerprint)
        return None if facts is None else Row.from_dict(facts["row"])


def carry_out(unit: Trial, report: Callable[[Check], None] | None = None) -> dict[str, Any]:
    """Train, and write the record here, so that nothing is lost with the driver. Gives the row as plain values."""
    row = asdict(run_cell(unit.cell, report))
    records.finish(unit.place, unit.fingerprint, None, row=row)
    return row


def run_units(units: Sequence[Trial], runner: Runner) -> tuple[list[Row], list[str]]:
    """Rows of all units that are finished or succeed, and one line for each that fails."""
    found = {unit.place: unit.finished() for unit in units}
    rows = [row for row in found.values() if row is not None]
    missing = [unit for unit in units if found[unit.place] is None]
    failures = []
    with Progress("evaluate", len(units), "trainings", done=len(rows)) as progress:
        for position, result in runner.tasks(carry_out, missing):
            name = missing[position].cell.name
            if isinstance(result, Exception):
                failures.append(f"{name}: {reason(result)}")
                progress.say(f"{name} failed: {reason(result)}")
            else:
                rows.append(Row.from_dict(result))
                progress.step(1, f"{name} {result['top1']:.1f} %")
    return rows, failures
