"""Phases on Ray: parts of the classes beside each other, one worker killed, and the bytes of one process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from raycond.pipelines.match.run import match
from tests.pipelines.match.make import IDC, config, contents, data
from tests.support.ray_workers import one_killed

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.mark.usefixtures("ray_cluster")
def test_killed_worker_goes_on_to_the_bytes_of_one_process(tmp_path: Path) -> None:
    root = data(tmp_path / "source")
    # long enough for a worker to be caught in the middle
    options: dict[str, Any] = {**IDC, "parts": 3, "ipc": (2,), "iterations": 60, "sampling": "dream", "clusters": 4}
    match(config(root, tmp_path / "local", **options))
    out = tmp_path / "ray"
    with one_killed(out / "work", "phases/*/state.safetensors", "ImplicitFunc"):
        run = match(config(root, out, **options, runner="ray"))
    assert not run.failures
    assert run.computed == 3
    assert (run.machine["nodes"], run.machine["cpus"]) == (2, 4)
    assert contents(out / "set") == contents(tmp_path / "local" / "set")
    assert contents(out / "images") == contents(tmp_path / "local" / "images")
