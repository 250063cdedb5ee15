"""The Ray runner: pools, tasks and trainings on a small cluster, whatever dies on the way."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from raycond.core.errors import RaycondError, UserError
from raycond.runtime.ray_runner import RayRunner
from raycond.runtime.resources import Resources
from tests.support.jobs import CountingJob
from tests.support.pool import MakeDoubler, process_id, square

pytestmark = pytest.mark.ray
CPU = Resources()


@pytest.fixture
def runner(ray_cluster: str) -> RayRunner:
    """On two nodes of two processors each, without GPUs. It did not start Ray, so `close` leaves it."""
    return RayRunner()


def test_what_the_cluster_has(runner: RayRunner) -> None:
    assert (runner.capacity.cpus, runner.capacity.gpus) == (4, 0)
    assert runner.capacity.node_bytes > 2**28
    assert runner.describe() == {"runner": "ray", "nodes": 2, "cpus": 4, "gpus": 0}


def test_the_device_is_that_of_what_is_asked_for(runner: RayRunner) -> None:
    assert [runner.device(Resources(gpus=gpus)) for gpus in (-1.0, 0.0, 0.5)] == ["cpu", "cpu", "cuda"]


@pytest.mark.parametrize(
    ("resources", "text"),
    [
        (Resources(3, unit="actor"), "one actor asks for 3 CPUs and 0 GPUs, and no node of the cluster (4 CPUs, 0 GPU"),
        (Resources(1, 0.5, "trial"), "one trial asks for 1 CPUs and 0.5 GPUs, and no node of the cluster"),
    ],
)
def test_what_no_node_has_is_refused_unless_the_cluster_may_grow(
    runner: RayRunner, capsys: pytest.CaptureFixture[str], resources: Resources, text: str
) -> None:
    with pytest.raises(UserError, match=re.escape(text)) as refused:
        runner.require(resources)
    assert str(refused.value).endswith(f"lower --cpus-per-{resources.unit} or --gpus-per-{resources.unit}")
    with pytest.raises(UserError, match=re.escape(text)):
        runner.require(resources, workers=2)  # of a training, which has always a number of workers
    with pytest.raises(UserError, match=f", or give --{resources.unit}s N if the cluster will grow"):
        runner.require(resources, may_grow=True)
    runner.require(resources, workers=2, may_grow=True)
    assert "waiting for it to grow" in capsys.readouterr().err


def test_what_fits_is_no_word_and_what_fits_in_part_is_one(
    runner: RayRunner, capsys: pytest.CaptureFixture[str]
) -> None:
    runner.require(CPU)
    runner.require(CPU, workers=4)
    assert capsys.readouterr().err == ""
    runner.require(Resources(2), workers=3)
    assert "3 workers with 2 CPUs and 0 GPUs each: 2 fit; waiting" in capsys.readouterr().err


# ---- pools


def test_a_pool_answers_every_job(runner: RayRunner, tmp_path: Path) -> None:
    jobs = [str(k) for k in range(10)]
    results = dict(runner.pool(MakeDoubler(str(tmp_path)), jobs, CPU, workers=2, batch=4))
    assert results == {k: f"{2 * k} on cpu of {4 if k < 8 else 2}" for k in range(10)}
    assert len(list(tmp_path.glob("made-*"))) <= 2  # one may have done all before the other had started


def test_a_worker_that_cannot_be_made_ends_the_pool_with_its_machine(runner: RayRunner) -> None:
    with pytest.raises(UserError, match=r"worker on .+: no such codec$"):
        list(runner.pool(MakeDoubler(broken="no such codec"), ["1", "2"], CPU, workers=1))


def test_a_killed_worker_is_replaced_and_no_job_is_lost(runner: RayRunner, tmp_path: Path) -> None:
    jobs = [str(k) for k in range(6)]
    results = dict(runner.pool(MakeDoubler(str(tmp_path), deadly="3"), jobs, CPU, workers=1))
    assert results == {k: f"{2 * k} on cpu of 1" for k in range(6)}
    assert len(list(tmp_path.glob("dead-*"))) == 1
    assert len(list(tmp_path.glob("made-*"))) == 2


# ---- tasks


def test_tasks_give_every_result_and_the_errors_themselves(runner: RayRunner) -> None:
    results = dict(runner.tasks(square, range(30), CPU))
    error = results.pop(5)
    assert isinstance(error, UserError)  # and not Ray's page about it
    assert str(error) == "five is wrong"
    assert results == {k: k * k for k in range(30) if k != 5}
    assert list(runner.tasks(square, [], CPU)) == []


def test_fresh_tasks_share_no_process(runner: RayRunner) -> None:
    processes = [result for _, result in runner.tasks(process_id, range(3), Resources(2), fresh=True)]
    assert len({*processes, os.getpid()}) == 4


# ---- trainings


@pytest.mark.slow
def test_what_restarts_would_not_mend_ends_a_training_with_its_cause(runner: RayRunner, tmp_path: Path) -> None:
    with pytest.raises(RaycondError, match=r"^the loss is nan at step 7$"):
        runner.train(CountingJob(str(tmp_path), fails_at=7), CPU)
    assert CountingJob(str(tmp_path)).state() == b"4"
    assert [path.name for path in tmp_path.iterdir()] == ["state.safetensors"]


@pytest.mark.slow
def test_a_training_goes_on_from_its_state_to_its_last_step(
    runner: RayRunner, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = CountingJob(str(tmp_path))
    Path(job.place).write_bytes(b"4")
    runner.train(job, CPU, workers=2, stage="fit")
    assert job.state() == b"10"
    assert capsys.readouterr().err.splitlines()[-1].startswith("fit        10/10 steps")
