"""Processes of the Ray that a test uses, to be killed in the middle of their work."""

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


def ray_processes(title: str) -> list[psutil.Process]:
    """Processes of this process's Ray, and of no other on the machine, whose title holds `title`."""
    import ray

    session = ray._private.worker.global_worker.node.get_session_dir_path()
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            named = title in " ".join(process.cmdline())
            if named and any(session in file.path for file in process.open_files()):
                found.append(process)
    return found


@contextlib.contextmanager
def one_killed(work: Path, checkpoint: str, title: str = "RayTrainWorker") -> Iterator[None]:
    """Inside, one worker, of Ray Train by default, is killed as soon as a file matches `checkpoint`, which must be long
    before the last step. title: a part of the title of its process. Raises AssertionError at the end if none was."""
    killed: list[int] = []
    killer = threading.Thread(target=_kill_one, args=(work, checkpoint, title, killed))
    killer.start()
    yield
    killer.join()
    assert killed, "the training was over before a worker could be killed"


def _kill_one(work: Path, checkpoint: str, title: str, killed: list[int]) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if list(work.glob(checkpoint)):
            for process in ray_processes(title)[:1]:
                os.kill(process.pid, signal.SIGKILL)
                killed.append(process.pid)
            return
        time.sleep(0.05)
