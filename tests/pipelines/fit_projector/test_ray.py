"""The fit on Ray Train: two workers, one of which is killed, and the bytes of an undisturbed run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from raycond.pipelines.fit_projector.run import fit_projector
from tests.pipelines.fit_projector.make import config, data, projector_files
from tests.support.ray_workers import one_killed

pytestmark = [pytest.mark.ray, pytest.mark.slow]

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


@pytest.mark.usefixtures("ray_cluster")
def test_killed_worker(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, whole, out = data(tmp_path / "source"), tmp_path / "whole", tmp_path / "out"
    assert fit_projector(config(root, whole, **OPTIONS)).trained == ["clip", "teachers", "fit"]
    shutil.copytree(whole, out)  # with its CLIP and teachers; the fit is to be done again
    for done in (*out.glob("work/training/fit-*/state.safetensors"), out / "work" / "projector.done.json"):
        done.unlink()
    (out / "projector.json").unlink()
    with one_killed(out / "work", "training/fit-*/state.safetensors"):
        run = fit_projector(config(root, out, **OPTIONS))
    assert run.trained == ["fit"]
    assert "a worker died; restart 1" in capsys.readouterr().err
    assert projector_files(out) == projector_files(whole)
