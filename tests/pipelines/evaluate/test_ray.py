"""A grid on Ray: the accuracies of one process, its failures, and a rerun that trains only what is missing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from raycond.pipelines.evaluate.config import GridConfig
from raycond.pipelines.evaluate.prepare import resumed
from raycond.pipelines.evaluate.run import evaluate_grid
from raycond.pipelines.evaluate.summary import GridRun
from raycond.runtime import ray_tune
from tests.pipelines.evaluate.make import MEASURED, grid_config, made_run, table
from tests.support.processes import ended
from tests.support.terminal import Terminal

pytestmark = pytest.mark.ray

# a second student whose trainings explode: failures on purpose, in the worker as in one process
PROTOCOL_FILE = """
base: quick
name: own
steps: 5
checks: 2
when: [{if: {students: [convnet*]}, set: {optimizer: sgd, lr: 1.0e+30}}]
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tuner")
    (folder / "own.yaml").write_text(PROTOCOL_FILE)
    return made_run(folder)


def options(made: Path, name: str, **changes: Any) -> GridConfig:
    values: dict[str, Any] = {
        "protocol": str(made.parent / "own.yaml"),
        "changes": {},
        "students": ("mlp-w4", "convnet3-w4"),
        "ipc": (3,),
        "baselines": ("herding",),
        "proxy_nets": 1,
        "proxy_steps": 2,
        "proxy_student": "mlp-w4",
    }
    return grid_config(made, made.parent / name, **{**values, **changes})


def outcomes(run: GridRun) -> dict[tuple[Any, ...], dict[str, Any]]:
    return {
        (row.method, row.ipc, row.student): {k: v for k, v in vars(row).items() if k not in MEASURED}
        for row in run.rows
    }


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_the_same_grid_as_in_one_process_with_its_failures(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    local = evaluate_grid(options(made, "local"))
    monkeypatch.setattr(sys, "stderr", Terminal())  # a live table, which Tune must not want to pickle
    tuned = evaluate_grid(options(made, "tune", runner="ray", trials_at_once=3))
    assert len(outcomes(local)) == 5
    assert outcomes(tuned) == outcomes(local)  # top1, best, curve, steps, images: to the bit
    assert table(made.parent / "tune") == table(made.parent / "local")
    assert sorted(tuned.failures) == sorted(local.failures)
    assert len(local.failures) == 5
    assert all(": student convnet3-w4, seed 0: the loss is " in failure for failure in local.failures)
    assert tuned.machine == {"runner": "ray", "nodes": 2, "cpus": 4, "gpus": 0}

    (trials,) = (made.parent / "tune" / "tune").iterdir()
    events = sorted(p.parent.name.rpartition("_")[0] for p in trials.glob("*/events.out.tfevents.*"))
    assert len(events) == 10
    assert events[0].startswith("d4m-vae-ipc3-convnet3-w4-seed0-")

    # what has its record is no trial again
    monkeypatch.setattr(ray_tune.tune, "Tuner", None)
    again = evaluate_grid(options(made, "tune", runner="ray", students=("mlp-w4",)))
    assert (again.trained, again.failures) == (0, [])
    assert [p.name for p in (made.parent / "tune" / "tune").iterdir()] == [trials.name]


# ---- the command line with its own Ray


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_signal_stops_the_grid_and_the_same_command_goes_on(
    made: Path, tmp_path: Path, children: list[psutil.Process], sent: signal.Signals
) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "raycond.cli.main", "evaluate", "--sets", str(made / "set"), "--out", str(out)]
    grid = ["--students", "mlp-w4", "--ipc", "1", "--set", "steps=3000", "--baselines", "none", "--weights", "sqrt"]
    # of seconds each, so that they cannot all be done before the grid has heard of the signal and ended
    seeds = ["--seeds", *map(str, range(16)), "--no-dashboard"]
    env = {**os.environ, "RAY_ADDRESS": "local"}
    with subprocess.Popen([*command, *grid, *seeds], env=env, stderr=subprocess.PIPE, text=True) as process:
        while not list(out.glob("work/cells/*.done.json")):
            assert process.poll() is None
            time.sleep(0.2)
        children += psutil.Process(process.pid).children(recursive=True)
        process.send_signal(sent)
        error = ended(process)
    assert process.returncode == 128 + sent, error
    assert "raycond: stopped; the same command goes on from here" in error
    assert "Traceback" not in error
    assert not (out / "results.csv").exists()
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive
    done = len(list(out.glob("work/cells/*.done.json")))
    assert 1 <= done < 16
    run = evaluate_grid(replace(grid_config(made, out), **resumable(out)))
    assert (run.trained, run.failures, len(run.rows)) == (16 - done, [], 16)


def resumable(out: Path) -> dict[str, Any]:
    """What `--resume --runner local` would take."""
    return {**vars(resumed(str(out), {"out": str(out), "runner": "local"}))}
