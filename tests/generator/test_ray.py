"""Training on Ray Train: two workers, one of which is killed, and the bytes of an undisturbed run."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from raycond.generator import train_generator
from tests.generator.make import config, data, pipeline_files

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.long]

# long enough for the group of workers to be caught in the middle
OPTIONS: dict[str, Any] = {"runner": "ray", "workers": 2, "steps": 3000, "log_every": 50, "checkpoint_every": 200}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return data(tmp_path_factory.mktemp("source"))


def _workers() -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if "RayTrainWorker" in " ".join(process.cmdline()):
                found.append(process)
    return found


def _kill_one(work: Path, killed: list[int]) -> None:
    """As soon as there is a checkpoint, which is long before the last step."""
    for _ in range(2400):
        if list(work.glob("training/*/state.safetensors")):
            for process in _workers()[:1]:
                os.kill(process.pid, signal.SIGKILL)
                killed.append(process.pid)
            return
        time.sleep(0.05)


@pytest.mark.usefixtures("ray_cluster")
def test_killed_worker(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert train_generator(config(root, whole, **OPTIONS)).trained
    killed: list[int] = []
    killer = threading.Thread(target=_kill_one, args=(out / "work", killed))
    killer.start()
    run = train_generator(config(root, out, **OPTIONS))
    killer.join()
    assert killed
    assert run.trained
    assert "a worker died; restart 1" in capsys.readouterr().err
    assert pipeline_files(out) == pipeline_files(whole)
