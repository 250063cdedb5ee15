"""Training on Ray Train: two workers, one of which is killed, and the bytes of an undisturbed run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from raycond.pipelines.train_generator.run import train_generator
from tests.pipelines.train_generator.make import config, data, pipeline_files
from tests.support.ray_workers import one_killed

pytestmark = [pytest.mark.ray, pytest.mark.slow]

# long enough for the group of workers to be caught in the middle
OPTIONS: dict[str, Any] = {"runner": "ray", "workers": 2, "steps": 2400, "log_every": 25, "checkpoint_every": 50}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return data(tmp_path_factory.mktemp("source"))


@pytest.mark.usefixtures("ray_cluster")
def test_killed_worker(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert train_generator(config(root, whole, **OPTIONS)).trained
    with one_killed(out / "work", "training/*/state.safetensors"):
        run = train_generator(config(root, out, **OPTIONS))
    assert run.trained
    assert "a worker died; restart 1" in capsys.readouterr().err
    assert pipeline_files(out) == pipeline_files(whole)
