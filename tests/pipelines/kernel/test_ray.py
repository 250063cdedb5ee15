"""Blocks on Ray: the bytes of a run in one process, whatever the number of workers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from raycond.pipelines.kernel import run as pipeline
from raycond.pipelines.kernel.run import condense
from tests.pipelines.kernel.make import SOLVE, config, data, results

pytestmark = pytest.mark.ray


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("method", [{"learn_labels": True, "steps": 3}, SOLVE], ids=["kip", "ls"])
def test_the_bytes_are_those_of_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: dict[str, Any]
) -> None:
    monkeypatch.setattr(pipeline, "measured_rate", lambda *_, **__: 1e6)
    source, options = data(tmp_path / "data"), {**method, "kernel": "conv-vec1"}
    run = condense(config(source, tmp_path / "ray", **options, runner="ray", workers=2))
    assert run.machine["runner"] == "ray"
    condense(config(source, tmp_path / "local", **options))
    assert results(tmp_path / "ray") == results(tmp_path / "local")
