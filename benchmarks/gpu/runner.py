"""Run the parts one after another within a budget of seconds, and write what was found after each of them."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from importlib import import_module
from pathlib import Path

from benchmarks.gpu import facts, page
from benchmarks.gpu.context import Context
from benchmarks.gpu.part import Part
from benchmarks.gpu.projection import projected
from benchmarks.gpu.record import PartRecord, Record
from raycond.core import files

OWN = ("benchmarks", "raycond", "tests")  # a module of these that is missing is a mistake, not something to bring along


class Run:
    """One run of some parts, by name in the order in which they run. out: where gpu.json and GPU.md are written."""

    def __init__(self, names: Sequence[str], context: Context, out: Path, budget: float, began: float) -> None:
        """began: `time.perf_counter()` when the budget began to run."""
        self.context, self.out, self.budget, self.began = context, out, budget, began
        self.record = Record(
            about=facts.about(context.device),
            absent=facts.absent(),
            budget=budget,
            tiny=context.tiny,
            began=datetime.now().astimezone().isoformat(timespec="seconds"),
            parts=[PartRecord(name) for name in names],
        )

    def all(self, load: Callable[[PartRecord], Part | None]) -> Record:
        """Run every part. load: finds a part by its record, or says in the record why it cannot be run."""
        self._write()
        parts = {record.name: load(record) for record in self.record.parts}
        for record in self.record.parts:
            if (part := parts.pop(record.name)) is not None:
                rest = [other for other in parts.values() if other is not None]
                self._run(record, part, part.seconds / sum(p.seconds for p in (part, *rest)))
            self._write()
            passed = sum(check.passed for check in record.checks)
            print(f"{record.name:10} {record.state:8} {record.seconds:4.0f} s, {passed} of {len(record.checks)} checks "
                  f"passed, {len(record.figures)} figures", flush=True)  # fmt: skip
        return self.record

    def _run(self, record: PartRecord, part: Part, share: float) -> None:
        """Run one part, whose share is of the time that is left."""
        seconds = share * (self.budget - self._spent)
        if seconds < (0 if self.context.tiny else part.least):
            record.state = "skipped"
            record.reason = f"the budget leaves {max(seconds, 0):.0f} s, and it needs {part.least:g} s"
            return
        record.state = "running"
        self._write()
        self.context.begin(record, seconds)
        started = time.perf_counter()
        with recorded(record):
            part.run(self.context)
            record.state = "done"
        record.seconds = time.perf_counter() - started
        self.context.free()

    @property
    def _spent(self) -> float:
        return time.perf_counter() - self.began

    def _write(self) -> None:
        self.record.seconds = self._spent
        plain = {**self.record.to_dict(), "projected": [row.to_dict() for row in projected(self.record)]}
        files.write_json(str(self.out / "gpu.json"), plain)
        files.write_bytes(str(self.out / "GPU.md"), page.of(self.record).encode())


@contextmanager
def recorded(record: PartRecord) -> Iterator[None]:
    """A block whose exception becomes the state of a part: skipped where a package is missing, else failed."""
    try:
        yield
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] not in OWN:
            record.state, record.reason = "skipped", f"needs {error.name}, which is not here"
        else:
            record.state, record.reason = "failed", "".join(traceback.format_exception(error)).strip()


def load(record: PartRecord) -> Part | None:
    """The part of `benchmarks.gpu.parts` that has the record's name, which gets its title too."""
    part: Part | None = None
    with recorded(record):
        part = import_module(f"benchmarks.gpu.parts.{record.name}").PART
        record.title = part.title
    return part


def summary(record: Record) -> str:
    """The end of a run in a few lines, for a terminal."""
    checks = [check for part in record.parts for check in part.checks]
    lines = [f"{sum(check.passed for check in checks)} of {len(checks)} checks passed, {record.seconds:.0f} s"]
    lines += [
        f"check failed: {check.name}: {check.what} {check.value:g}, limit {check.limit:g}"
        for check in checks
        if not check.passed
    ]
    lines += [
        f"part {part.state}: {part.name}: {part.reason.splitlines()[-1]}"
        for part in record.parts
        if part.state in ("failed", "skipped")
    ]
    if record.absent:
        lines.append(f"not found: {', '.join(record.absent)}")
    return "\n".join(lines)
