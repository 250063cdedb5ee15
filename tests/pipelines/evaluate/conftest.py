from __future__ import annotations

from pathlib import Path

import pytest

from raycond.pipelines.evaluate import run as pipeline
from raycond.pipelines.evaluate.run import evaluate_grid
from tests.pipelines.evaluate.make import grid_config, made_run


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with a set, its source beside it. Grids of tests go elsewhere."""
    return made_run(tmp_path_factory.mktemp("made"))


@pytest.fixture
def report() -> None:
    """For tests that look at the report; the others do without, as it takes longest."""


@pytest.fixture(autouse=True)
def _no_report(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "report" not in request.fixturenames:
        monkeypatch.setattr(pipeline, "write_grid_report", lambda *_: None)


@pytest.fixture(scope="session")
def whole(run: Path) -> Path:
    """An undisturbed grid of two seeds, with its report."""
    out = run.parent / "whole"
    found = evaluate_grid(grid_config(run, out, seeds=(0, 1)))
    assert not found.failures
    assert found.trained == 18
    return out
