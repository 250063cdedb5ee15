"""Workers of Ray Train that are killed in the middle of a training."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

PATIENCE = 120  # seconds until the first checkpoint


@contextlib.contextmanager
def one_killed(work: Path, checkpoint: str) -> Iterator[None]:
    """Inside, one worker is killed as soon as a file matches `checkpoint`, which must be long before the last step.
    Raises AssertionError at the end if none was."""
    killed: list[int] = []
    killer = threading.Thread(target=_kill_one, args=(work, checkpoint, killed))
    killer.start()
    yield
    killer.join()
    assert killed, "the training was over before a worker could be killed"


def _kill_one(work: Path, checkpoint: str, killed: list[int]) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if list(work.glob(checkpoint)):
            for process in _workers()[:1]:
                os.kill(process.pid, signal.SIGKILL)
                killed.append(process.pid)
            return
        time.sleep(0.05)


def _workers() -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if "RayTrainWorker" in " ".join(process.cmdline()):
                found.append(process)
    return found
