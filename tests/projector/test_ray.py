"""The fit on Ray Train: two workers, one of which is killed, and the bytes of an undisturbed run."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from raycond.projector import fit_projector
from tests.projector.make import config, data, projector_files

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.long]

# long enough for the group of workers to be caught in the middle
OPTIONS: dict[str, Any] = {
    "runner": "ray",
    "workers": 2,
    "epochs": 50,
    "checks": 5,
    "patience": 0,
    "log_every": 10,
    "checkpoint_every": 10,
}


def _workers() -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if "RayTrainWorker" in " ".join(process.cmdline()):
                found.append(process)
    return found


def _kill_one(work: Path, killed: list[int]) -> None:
    """As soon as the fit has a checkpoint, which is long before its last step."""
    for _ in range(2400):
        if list(work.glob("training/fit-*/state.safetensors")):
            for process in _workers()[:1]:
                os.kill(process.pid, signal.SIGKILL)
                killed.append(process.pid)
            return
        time.sleep(0.05)


@pytest.mark.usefixtures("ray_cluster")
def test_killed_worker(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, whole, out = data(tmp_path / "source"), tmp_path / "whole", tmp_path / "out"
    assert fit_projector(config(root, whole, **OPTIONS)).trained == ["clip", "teachers", "fit"]
    shutil.copytree(whole, out)  # with its CLIP and teachers; the fit is to be done again
    for done in (*out.glob("work/training/fit-*/state.safetensors"), out / "work" / "projector.done.json"):
        done.unlink()
    (out / "projector.json").unlink()
    killed: list[int] = []
    killer = threading.Thread(target=_kill_one, args=(out / "work", killed))
    killer.start()
    run = fit_projector(config(root, out, **OPTIONS))
    killer.join()
    assert killed
    assert run.trained == ["fit"]
    assert "a worker died; restart 1" in capsys.readouterr().err
    assert projector_files(out) == projector_files(whole)
