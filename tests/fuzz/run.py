"""Run readers on damaged inputs and report what is neither a result nor an error of ours."""

from __future__ import annotations

import faulthandler
import os
import resource
import signal
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import FrameType

from raycond.core.errors import RaycondError
from tests.fuzz.damage import damaged
from tests.fuzz.reader import Reader, all_readers

SECONDS = 10.0  # for one input
BYTES = 1 << 30  # by which the memory of the process may grow


class TooLong(BaseException):
    """One input takes more than SECONDS; no reader may take it for an error of its own."""


@dataclass(frozen=True)
class Finding:
    """One input on which a reader failed."""

    reader: str
    number: int
    """`input_of(reader, seed, number)` gives the input again."""

    error: str


def input_of(reader: Reader, seed: int, number: int) -> bytes:
    """The input of this number, on every machine the same."""
    random = Random(f"{seed} {reader.name} {number}")
    data = damaged(reader.seeds(), random)
    return reader.repair(data, random) if reader.repair is not None and random.random() < 0.5 else data


def run(reader: Reader, numbers: range, seed: int, folder: Path) -> Iterator[Finding]:
    """The findings among the inputs of these numbers."""
    for number in numbers:
        data = input_of(reader, seed, number)
        before = _peak()
        try:
            with _limited(SECONDS):
                reader.read(data, folder)
        except RaycondError as error:
            if "\n" in str(error)[:2000] and len(str(error)) > 5000:
                yield Finding(reader.name, number, f"a message of {len(str(error))} characters")
        except TooLong:
            yield Finding(reader.name, number, f"takes more than {SECONDS:.0f} s")
        except Exception as error:
            lines = traceback.format_exception(error)
            yield Finding(reader.name, number, "".join(lines[-3:]))
        if _peak() - before > BYTES:
            yield Finding(reader.name, number, f"takes {(_peak() - before) >> 20} MB")


def run_chunk(name: str, seed: int, start: int, stop: int) -> tuple[float, list[Finding]]:
    """The findings of one reader among some numbers, with the seconds that it took; for a process of its own."""
    faulthandler.enable()
    began = time.monotonic()
    memory = "/dev/shm"
    with tempfile.TemporaryDirectory(dir=memory if os.path.isdir(memory) else None) as folder:
        for sound in all_readers()[name].seeds():  # what is imported for the first time takes its time
            all_readers()[name].read(sound, Path(folder))
        found = list(run(all_readers()[name], range(start, stop), seed, Path(folder)))
    return time.monotonic() - began, found


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    def stop(_number: int, _frame: FrameType | None) -> None:
        raise TooLong

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    began = time.monotonic()
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    if time.monotonic() - began > seconds:  # the alarm came while C code was at work that swallowed it
        raise TooLong


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
