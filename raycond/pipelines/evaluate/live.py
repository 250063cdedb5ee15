"""What a grid shows while it runs: a live table on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import logging
import sys
from typing import Any, TextIO

from raycond.core.progress import Progress
from raycond.evaluate.table import Row, text
from raycond.pipelines.evaluate.trial import Trial

log = logging.getLogger(__name__)
SHOWN = 8  # running trainings


class LiveTable:
    """A watcher of units. Use as a context manager; `rows` and `failures` grow as trainings end.

    total: of all trainings; rows: of those that were finished before.
    """

    def __init__(self, total: int, rows: list[Row], stream: TextIO | None = None) -> None:
        self.rows, self.failures = rows, list[str]()
        self._running: dict[str, str] = {}
        self._ended = False
        self._stream = stream or sys.stderr
        terminal = self._stream.isatty()
        self._progress = Progress("train", total, "trainings", done=len(rows), stream=self._stream, quiet=terminal)
        self._live: Any = self._on_terminal() if terminal else self._progress

    def _on_terminal(self) -> Any:
        from rich.console import Console
        from rich.live import Live

        return Live(
            console=Console(file=self._stream), get_renderable=self._table, refresh_per_second=2, transient=True
        )

    def __enter__(self) -> LiveTable:
        self._live.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended = True
        self._live.__exit__(*error)

    def started(self, unit: Trial) -> None:
        self._running[unit.place] = unit.cell.name

    def checked(self, unit: Trial, values: dict[str, float]) -> None:
        self._running[unit.place] = f"{unit.cell.name}: {values['top1']:.1f} % after epoch {values['epoch']:.0f}"

    def done(self, unit: Trial, result: dict[str, Any]) -> None:
        self._running.pop(unit.place, None)
        row = Row.from_dict(result)
        self.rows.append(row)
        self._progress.step(1, f"{unit.cell.name} {row.top1:.1f} %")

    def failed(self, unit: Trial, why: str, details: str = "") -> None:
        self._running.pop(unit.place, None)
        log.error("%s failed: %s\n%s", unit.cell.name, why, details)
        self.failures.append(f"{unit.cell.name}: {why}")
        self._progress.say(f"{unit.cell.name} failed: {why}")

    def _table(self) -> Any:
        from rich.text import Text

        running = [f"  {line}" for line in list(self._running.values())[:SHOWN]]
        failed = [f"{len(self.failures)} failed, the last: {self.failures[-1]}"] if self.failures else []
        # the last picture cannot be erased again where it is higher than the terminal, and the summary has the table
        table = [text(self.rows, differences=False)] if self.rows and not self._ended else []
        # the table last: where the terminal is too low, it is the end that is cut
        return Text("\n".join([self._progress.line, *running, *failed, "", *table]))
