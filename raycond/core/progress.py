"""Progress of a run: one line that is rewritten on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import logging
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TextIO

log = logging.getLogger(__name__)
QUIET_SECONDS = 5.0  # between lines where they cannot be rewritten


class Progress:
    """Counts the units of one stage. Use as a context manager; `step` after each unit, `say` for a line of its own.

    done: units that were finished before; they do not count as work when the time left is guessed. quiet: print
    nothing; somebody else shows `line`.
    """

    def __init__(
        self, stage: str, total: int, unit: str, *, done: int = 0, stream: TextIO | None = None, quiet: bool = False
    ) -> None:
        self.quiet = quiet
        self.stage, self.total, self.unit = stage, total, unit
        self.stream = stream or sys.stderr
        self.done = self.before = done
        self.note = f"{done} resumed" if done else ""
        self.started = self._printed = time.monotonic()
        self._shown = -1  # how many were done when a line was last printed
        self._live = self.stream.isatty()
        self._lock = threading.RLock()
        self._late: threading.Timer | None = None  # prints what came too soon after a line, if nothing else comes

    def __enter__(self) -> Progress:
        self._print(force=True)
        return self

    def __exit__(self, *error: object) -> None:
        with self._lock:
            if self._late is not None:
                self._late.cancel()
                self._late = None
        log.info("%s", self.line)
        self._print(force=self._live or self._shown != self.done)
        if self._live and not self.quiet:
            self.stream.write("\n")
            self.stream.flush()

    def step(self, count: int = 1, note: str = "") -> None:
        self.done += count
        self.note = note or self.note
        self._print()

    def say(self, text: str) -> None:
        if self.quiet:
            return
        if self._live:
            self.stream.write("\r\x1b[K")
        print(text, file=self.stream, flush=True)
        self._print(force=self._live)

    def _print(self, force: bool = False) -> None:
        if self.quiet:
            return
        with self._lock:
            self._print_now_or_later(force)

    def _print_now_or_later(self, force: bool) -> None:
        now = time.monotonic()
        wait = (0.1 if self._live else QUIET_SECONDS) - (now - self._printed)
        if not force and wait > 0:
            if self._late is None:
                self._late = threading.Timer(wait, self._print_late)
                self._late.daemon = True
                self._late.start()
            return
        self._printed, self._shown = now, self.done
        line = self.line
        if self._live:  # a line that wraps could not be rewritten
            line = f"\r\x1b[K{line[: shutil.get_terminal_size().columns - 1]}"
        else:
            line += "\n"
        self.stream.write(line)
        self.stream.flush()

    def _print_late(self) -> None:
        with self._lock:
            if self._late is None:  # the stage has ended since
                return
            self._late = None
            if self._shown != self.done:
                self._print_now_or_later(force=True)

    @property
    def line(self) -> str:
        """How far the stage is, with the time left and the last note."""
        passed = time.monotonic() - self.started
        left = ""
        worked = self.done - self.before
        if worked and self.done < self.total:
            left = f", {clock(passed / worked * (self.total - self.done))} left"
        note = f"  {self.note}" if self.note else ""
        return f"{self.stage:<10} {self.done}/{self.total} {self.unit}  {clock(passed)}{left}{note}"


class TrainingProgress(Progress):
    """Progress of a training, of which `done` steps were made in an earlier run."""

    def __init__(self, steps: int, done: int = 0, stage: str = "train") -> None:
        super().__init__(stage, steps, "steps", done=done)

    def begin(self, step: int) -> None:
        """Only what comes after `step` is worked on now: the time left is reckoned from there."""
        self.before = self.done = step

    def show(self, step: int, loss: float) -> None:
        if step != self.done:  # fewer than before where a worker died
            self.step(step - self.done, f"loss {loss:.4f}")


@dataclass
class Timed:
    """A run that knows how long its stages took."""

    seconds: dict[str, float] = field(default_factory=dict, kw_only=True)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[stage] = time.perf_counter() - started

    @property
    def times(self) -> str:
        return ", ".join(f"{stage} {clock(seconds)}" for stage, seconds in self.seconds.items())


def clock(seconds: float) -> str:
    """1.5 s, 2 min 5 s, 3 h 20 min."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"
