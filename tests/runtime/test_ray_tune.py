"""The grid on Ray Tune: the accuracies of one process, whatever dies on the way, and nothing lost without a word."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from raycond.core.errors import UserError
from raycond.data.sources import open_source
from raycond.evaluate.results import Row
from raycond.evaluate.training_sets import RandomImages
from raycond.pipelines.evaluate.config import GridConfig, load_grid_config
from raycond.pipelines.evaluate.memory import Need
from raycond.pipelines.evaluate.run import evaluate_grid
from raycond.pipelines.evaluate.summary import GridRun
from raycond.runtime import ray_tune
from raycond.runtime.ray_tune import GRAIN, HEADROOM, MAX_RESTARTS, Slots, TuneRunner
from tests.pipelines.evaluate.make import MEASURED, grid_config, made_run, table
from tests.pipelines.evaluate.test_live import Terminal
from tests.pipelines.evaluate.trial import PROTOCOL, Broken, Killed, Told, cell, decoded, unit
from tests.pipelines.quantize.make import data
from tests.processes import ended

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
    assert tuned.machine == {"runner": "ray tune", "nodes": 2, "cpus": 4, "gpus": 0}

    (trials,) = (made.parent / "tune" / "tune").iterdir()
    events = sorted(p.parent.name.rpartition("_")[0] for p in trials.glob("*/events.out.tfevents.*"))
    assert len(events) == 10
    assert events[0].startswith("d4m-vae-ipc3-convnet3-w4-seed0-")

    # what has its record is no trial again
    monkeypatch.setattr(ray_tune.tune, "Tuner", None)
    again = evaluate_grid(options(made, "tune", runner="ray", students=("mlp-w4",)))
    assert (again.trained, again.failures) == (0, [])
    assert [p.name for p in (made.parent / "tune" / "tune").iterdir()] == [trials.name]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("units")
    data(folder / "data")
    decoded(folder)
    return folder


def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> TuneRunner:
    """On the cluster of the tests; nothing is measured, which would take a process."""
    found = TuneRunner(load_grid_config({"sets": ["x"], **changes}), str(tmp_path / "out"))
    monkeypatch.setattr(found, "_needs", lambda units: {Need.key(one.cell): Need(2**20, 0) for one in units})
    return found


def random_images(root: Path, seed: int = 0) -> RandomImages:
    return RandomImages(open_source(f"{root}/data", index_dir=str(root)), 1, seed)


@pytest.mark.usefixtures("ray_cluster")
def test_a_killed_worker_is_replaced_and_one_at_a_time_is_one(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dead").mkdir()
    killed = Killed(random_images(root), str(tmp_path / "dead"))
    units = [
        unit(root, tmp_path, train=killed, method="killed"),
        unit(root, tmp_path, train=Broken(), method="broken"),
        unit(root, tmp_path),
    ]
    told = Told()
    runner(tmp_path, monkeypatch, trials_at_once=1).run(units, told)
    assert len(list((tmp_path / "dead").iterdir())) == 1
    assert told.failures == {"broken ipc1 mlp-w4 seed0": "ValueError('broken images')"}
    again, _, plain = (told.rows.get(one.place) for one in units)
    assert again is not None
    assert plain is not None
    assert (again.top1, again.curve) == (plain.top1, plain.curve)
    assert all(one.finished() == told.rows.get(one.place) for one in units)
    running: set[str] = set()
    for event, name in told.events:
        running = running | {name} if event == "started" else running
        assert running == {name}
        running = set() if event in ("done", "failed") else running


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_a_worker_that_always_dies_is_a_failure(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dead").mkdir()
    killed = Killed(random_images(root), str(tmp_path / "dead"), times=100)
    units = [unit(root, tmp_path, train=killed, method="killed"), unit(root, tmp_path)]
    told = Told()
    runner(tmp_path, monkeypatch).run(units, told)
    assert told.failures == {"killed ipc1 mlp-w4 seed0": f"its worker died {MAX_RESTARTS + 1} times"}
    assert len(list((tmp_path / "dead").iterdir())) == MAX_RESTARTS + 1
    assert list(told.rows) == [units[1].place]


@pytest.mark.usefixtures("ray_cluster")
def test_what_the_cluster_does_not_have_is_said_at_once(tmp_path: Path) -> None:
    base = {"sets": ["x"], "out": str(tmp_path)}
    with pytest.raises(UserError, match=r"--cpus-per-trial 3: no node has them; there are 4 in all"):
        TuneRunner(load_grid_config({**base, "cpus_per_trial": 3}), str(tmp_path))
    with pytest.raises(UserError, match=r"--gpus-per-trial 0.5: the cluster has no GPU"):
        TuneRunner(load_grid_config({**base, "gpus_per_trial": 0.5}), str(tmp_path))
    found = TuneRunner(load_grid_config({**base, "gpus_per_trial": 0, "cpus_per_trial": 2}), str(tmp_path))
    assert (found.device, found.slots.cpus, found.slots.gpus) == ("cpu", 4, 0)
    assert found.slots.node_bytes > 2**28
    found.run([], Told())  # no trial, no Tune
    assert not (tmp_path / "tune").exists()
    assert found.once(json.loads, "7") == 7
    with pytest.raises(json.JSONDecodeError, match=r"^Expecting value"):  # and not Ray's page about it
        found.once(json.loads, "x")


# ---- without a cluster: what trials ask for, and what is heard of them


def slots(device: str, node_bytes: int = 2**40, **changes: Any) -> TuneRunner:
    found = object.__new__(TuneRunner)
    found.config = load_grid_config({"sets": ["x"], **changes})
    found.device, found.slots = device, Slots(8, 1, node_bytes, 0)
    return found


def request(of: TuneRunner, need: Need, **changes: Any) -> dict[str, float]:
    made = cell(Path(), train=Broken(), device=of.device)
    one = replace(unit(Path(), Path(), train=Broken()), cell=made, images=1000, tests=0, **changes)
    return of._request(one, {Need.key(made): need})


def test_on_cpus_trials_ask_for_the_memory_that_was_measured() -> None:
    gib = 2**30
    asked = request(slots("cpu", cpus_per_trial=2), Need(gib, 0))
    assert asked["CPU"] == 2
    assert asked["memory"] % GRAIN == 0
    assert 0 <= asked["memory"] - (gib + 2 * 1000 * 192) * HEADROOM < GRAIN
    # seeds, methods and sizes that differ by a little ask for the same, and so share a process
    assert request(slots("cpu"), Need(gib, 0), held=1100)["memory"] == asked["memory"]
    assert request(slots("cpu"), Need(gib, 0), held=10**7)["memory"] > asked["memory"]
    # more than any node has would wait for ever
    assert request(slots("cpu", node_bytes=gib), Need(4 * gib, 0))["memory"] == gib
    assert request(slots("cpu", node_bytes=4 * gib), Need(0, 0))["memory"] == 4 * gib  # not measured: alone
    assert "memory" not in request(slots("cpu", node_bytes=0), Need(gib, 0))
    assert "GPU" not in asked


def test_on_gpus_trials_ask_for_a_share() -> None:
    gib = 2**30
    share = request(slots("cuda"), Need(8 * gib, 80 * gib))["GPU"]
    assert share == pytest.approx(0.12)  # 8 GiB and the headroom, in whole percent
    assert request(slots("cuda"), Need(79 * gib, 80 * gib))["GPU"] == 1
    assert request(slots("cuda"), Need(0, 0))["GPU"] == 1  # not measured: its failure will have a name
    assert request(slots("cuda", gpus_per_trial=0.5), Need(8 * gib, 80 * gib))["GPU"] == 0.5
    assert "memory" not in request(slots("cuda"), Need(8 * gib, 80 * gib))


def test_costs_are_images_through_the_student() -> None:
    def cost(images: int, **changes: Any) -> float:
        made = cell(Path(), train=Broken(), protocol=PROTOCOL.override(**changes))
        return ray_tune._cost(replace(unit(Path(), Path(), train=Broken()), cell=made, images=images))

    assert cost(10, steps=100, batch=64) == 1000
    assert cost(1000, steps=100, batch=64) == 6400
    assert cost(1000, epochs=2, batch=100) == 2000
    assert cost(1000, steps=100, batch=64, tasks=5) == 5 * 6400


def test_a_trial_that_tune_repeats_is_told_once_and_a_lost_one_too() -> None:
    units = [unit(Path(), Path(), train=Broken(), seed=seed) for seed in range(4)]
    names = [one.cell.name for one in units]
    told = Told()
    callback = ray_tune._Callback(units, told)

    def trial(position: int) -> Any:
        return SimpleNamespace(config={"unit": {"position": position}})

    row = vars(Row("random", 1, "mlp-w4", 0, 1.0, 1.0, 4, 0.1, 4, "quick"))
    callback.on_trial_start(1, [], trial(0))
    callback.on_trial_result(1, [], trial(0), {"step": 2, "epoch": 1.0, "top1": 3.0, "loss": 1.0})
    callback.on_trial_result(2, [], trial(0), {"row": row, "top1": 1.0})
    callback.on_trial_start(3, [], trial(0))  # its worker died before Tune knew
    callback.on_trial_result(4, [], trial(0), {"row": row, "top1": 1.0})
    callback.on_trial_result(1, [], trial(1), {"failure": "out of memory"})
    callback.on_trial_error(2, [], trial(1))
    callback.on_trial_error(1, [], trial(2))
    callback.close()
    callback.close()
    assert told.events.count(("done", names[0])) == 1
    assert ("step 2", names[0]) in told.events
    assert told.failures == {
        names[1]: "out of memory",
        names[2]: "its worker died 4 times",
        names[3]: "Tune stopped before it had ended",
    }
    assert [event for event, _ in told.events].count("failed") == 3
    told.lock = threading.Lock()  # type: ignore[attr-defined]
    pickle.dumps(callback)


def test_a_repeated_trial_finds_what_it_had_finished(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports: list[dict[str, Any]] = []
    monkeypatch.setattr(ray_tune.tune, "report", reports.append)
    one = unit(root, tmp_path)
    for _ in range(2):
        ray_tune._trial({"unit": {"position": 0}}, [one])
    assert [min(found) for found in reports] == ["epoch", "epoch", "best", "best"]
    assert reports[2] == reports[3]
    assert Row.from_dict(reports[3]["row"]) == one.finished()
    ray_tune._trial({"unit": {"position": 0}}, [unit(root, tmp_path, train=Broken(), seed=1)])
    assert reports[4] == {"failure": "ValueError('broken images')"}


# ---- the command line with its own Ray


@pytest.fixture
def children() -> Iterator[list[psutil.Process]]:
    """Processes that a test has seen its command start; none may outlive it."""
    seen: list[psutil.Process] = []
    yield seen
    for process in seen:
        with contextlib.suppress(psutil.Error):
            process.kill()


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.long)])
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
    from raycond.pipelines.evaluate.run import resumed

    return {**vars(resumed(str(out), {"out": str(out), "runner": "local"}))}
