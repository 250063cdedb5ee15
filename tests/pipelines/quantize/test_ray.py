"""A quantization on Ray: the same bytes as in one process, whatever dies on the way."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from raycond.pipelines.quantize.run import quantize
from tests.conftest import ROOT
from tests.pipelines.quantize.make import config, contents, data
from tests.support.processes import ended
from tests.support.ray_workers import ray_processes

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return data(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def local(root: Path) -> Path:
    """What the in-process runner makes."""
    quantize(config(root, root / "local", evaluate=True, methods=("weighted",), ipc=(1, 3)))
    return root / "local"


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_same_bytes_and_accuracies_as_in_one_process(root: Path, local: Path) -> None:
    options = {"evaluate": True, "methods": ("weighted",), "ipc": (1, 3), "runner": "ray"}
    run = quantize(config(root, root / "ray", **options))
    assert run.machine["actors"] == "as many as fit"
    assert (run.machine["nodes"], run.machine["cpus"]) == (2, 4)
    assert contents(root / "ray" / "set") == contents(local / "set")
    results = [
        sorted(line.split(",")[:6] for line in (out / "results.csv").read_text().splitlines())
        for out in (local, root / "ray")
    ]
    assert results[0] == results[1]
    assert len(results[0]) == 3


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_failed_class_is_told_and_the_others_are_finished(tmp_path: Path) -> None:
    source = data(tmp_path / "data")
    for path in (source / "train" / "bee").iterdir():
        path.write_bytes(b"")
    run = quantize(config(source, tmp_path / "out", runner="ray", max_bad="none"))
    (failure,) = run.failures
    assert failure.startswith("class bee: IPC 3")
    assert len(run.bad) == 12
    assert {label for label, _ in run.codebooks} == {0, 2, 3}


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_killed_actor_is_replaced_and_nothing_is_lost(root: Path) -> None:
    out = root / "killed"
    killed: list[int] = []

    def kill() -> None:
        until = time.monotonic() + 60
        while not killed and time.monotonic() < until:
            if list(out.glob("work/codebooks/ipc1/*.json")):
                for process in ray_processes("PoolActor"):
                    os.kill(process.pid, signal.SIGKILL)
                    killed.append(process.pid)
            time.sleep(0.01)

    thread = threading.Thread(target=kill)
    thread.start()
    run = quantize(config(root, out, runner="ray", actors=1, restarts=300, classes_at_once=1))
    thread.join()
    assert killed
    assert not run.failures
    quantize(config(root, root / "unkilled", restarts=300))
    assert contents(out / "set") == contents(root / "unkilled" / "set")


# ---- the command line with its own Ray


COMMAND = [sys.executable, "-m", "raycond.cli.main", "quantize", "--codec", "pixels", "--size", "8", "--ipc", "1", "3"]
SMALL = ["--batch", "5", "--restarts", "2", "--w2-classes", "1", "--no-dashboard"]


def _started(arguments: list[str], **env: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *SMALL, *arguments],
        env={k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"} | env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _gone(processes: list[psutil.Process], seconds: float = 60) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    return not alive


@pytest.mark.slow
def test_address_of_the_environment_is_used(ray_cluster: str, root: Path, local: Path, tmp_path: Path) -> None:
    arguments = ["--data", str(root), "--out", str(tmp_path / "out"), "--no-evaluate"]
    with _started(arguments, RAY_ADDRESS=ray_cluster) as process:
        text, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    assert "2" in re.findall(r"nodes\D+(\d+)", (tmp_path / "out" / "report.html").read_text())
    assert contents(tmp_path / "out" / "set") == contents(local / "set")
    # nothing but our own lines: no notice of Ray's
    assert all(re.match(r"(list|condense) +\d+/4 classes", line) for line in error.splitlines()), error
    assert str(tmp_path / "out") in text


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_signal_leaves_no_ray_process_and_the_run_goes_on(
    root: Path, local: Path, tmp_path: Path, children: list[psutil.Process], sent: signal.Signals
) -> None:
    out = tmp_path / "out"
    arguments = ["--data", str(root), "--out", str(out), "--students", "convnet3-w8", "--methods", "random", "weighted"]
    arguments += ["--seeds", *map(str, range(40))]
    with _started(arguments, RAY_ADDRESS="local") as process:
        while not list(out.glob("work/cells/*")):
            assert process.poll() is None
            time.sleep(0.2)
        children += psutil.Process(process.pid).children(recursive=True)
        assert any(child.name() == "raylet" for child in children)
        process.send_signal(sent)
        error = ended(process)
    assert process.returncode == 128 + sent
    assert "raycond: stopped; the same command goes on from here" in error
    assert "Traceback" not in error
    assert _gone(children)

    done = len(list(out.glob("work/cells/*")))
    run = quantize(config(root, out, evaluate=True, methods=("random", "weighted"), seeds=tuple(range(3))))
    assert run.computed == {"condense": 0, "write": 0}
    assert done >= 1
    assert contents(out / "set") == contents(local / "set")


@pytest.mark.slow
def test_killed_driver_on_ray_resumes_to_the_same_bytes(
    root: Path, local: Path, tmp_path: Path, children: list[psutil.Process]
) -> None:
    out = tmp_path / "out"
    arguments = ["--data", str(root), "--out", str(out), "--no-evaluate", "--actors", "1"]
    with _started(arguments, RAY_ADDRESS="local") as process:
        while not list(out.glob("work/codebooks/*/*.json")):
            assert process.poll() is None
            time.sleep(0.005)
        children += psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.communicate(timeout=60)
    with _started(arguments, RAY_ADDRESS="local") as process:
        _, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    assert contents(out / "set") == contents(local / "set")


@pytest.mark.slow
def test_lost_node_is_survived(tmp_path: Path) -> None:
    """In a process of its own: the cluster of the other tests keeps its nodes."""
    source = data(tmp_path / "data", train=40)
    done = subprocess.run(
        [sys.executable, "-m", "tests.pipelines.quantize.lost_node", str(source), str(tmp_path / "out")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    quantize(config(source, tmp_path / "local", restarts=300))
    assert contents(tmp_path / "out" / "set") == contents(tmp_path / "local" / "set")
