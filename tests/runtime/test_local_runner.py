"""The runner of one process: everything in order, and failures that stay with their unit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from raycond.core.errors import RaycondError, UserError
from raycond.runtime.local_runner import LocalRunner
from raycond.runtime.open import open_runner
from raycond.runtime.resources import Resources
from tests.support.jobs import CountingJob
from tests.support.pool import AddRows, MakeDoubler, square
from tests.support.trials import StepTrial
from tests.support.watcher import Recorder

CPU = Resources(gpus=0.0)


def test_a_pool_has_one_worker_and_batches(tmp_path: Path) -> None:
    results = list(LocalRunner().pool(MakeDoubler(str(tmp_path)), ["1", "2", "3"], CPU, workers=8, batch=2))
    assert results == [(0, "2 on cpu of 2"), (1, "4 on cpu of 2"), (2, "6 on cpu of 1")]
    assert len(list(tmp_path.iterdir())) == 1


def test_a_worker_that_cannot_be_made_ends_the_pool() -> None:
    with pytest.raises(UserError, match="no such codec"):
        list(LocalRunner().pool(MakeDoubler(broken="no such codec"), ["1"], CPU))


def test_an_error_is_the_result_of_its_task() -> None:
    results = dict(LocalRunner().tasks(square, [4, 5, 6], CPU, fresh=True))
    error = results.pop(1)
    assert isinstance(error, UserError)
    assert results == {0: 16, 2: 36}


def test_blocks_come_in_order_one_at_a_time_with_their_threads() -> None:
    taken: list[int] = []

    def rows() -> Iterator[int]:
        for row in (2, 0, -1):
            taken.append(row)
            yield row

    array = torch.arange(6.0).view(3, 2)
    results = LocalRunner().blocks(AddRows(), (array,), rows(), Resources(cpus=2))
    assert next(results) == (9.0, 2)
    assert taken == [2]
    assert torch.get_num_threads() == 1
    assert next(results) == (1.0, 2)
    with pytest.raises(UserError, match="no such row"):
        next(results)


def test_a_training_leaves_its_last_state_and_goes_on_from_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runner = LocalRunner()
    with pytest.raises(RaycondError, match="the loss is nan at step 7"):
        runner.train(CountingJob(str(tmp_path), fails_at=7), CPU, stage="fit")
    assert CountingJob(str(tmp_path)).state() == b"4"
    capsys.readouterr()
    (tmp_path / "ray" / "20261127").mkdir(parents=True)  # as Ray leaves it when the run is killed
    runner.train(CountingJob(str(tmp_path)), CPU, workers=3, stage="fit")
    assert CountingJob(str(tmp_path)).state() == b"10"
    assert [path.name for path in tmp_path.iterdir()] == ["state.safetensors"]
    lines = capsys.readouterr().err.splitlines()
    assert "4 resumed" in lines[0]
    assert lines[-1].startswith("fit        10/10 steps")


def test_a_training_has_the_threads_of_its_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []
    monkeypatch.setattr(CountingJob, "save", lambda *_: threads.append(torch.get_num_threads()))
    before = torch.get_num_threads()
    LocalRunner().train(CountingJob(str(tmp_path), threads=before + 1), CPU)
    assert set(threads) == {before + 1}
    assert torch.get_num_threads() == before


def test_trials_run_in_order_and_a_failure_stops_no_other(tmp_path: Path) -> None:
    trials = [StepTrial(str(tmp_path), "broken", error="bad data"), StepTrial(str(tmp_path), "fine")]
    heard = Recorder()
    LocalRunner().trials(trials, heard, folder=str(tmp_path / "tune"))
    assert heard.events == [
        ("started", "broken"),
        ("failed", "broken"),
        ("started", "fine"),
        ("step 10", "fine"),
        ("step 20", "fine"),
        ("done", "fine"),
    ]
    assert heard.failures == {"broken": "ValueError('bad data')"}
    assert heard.details["broken"].startswith("Traceback")
    assert heard.results == {trials[1].place: {"name": "fine", "top1": 50.0}}
    assert not (tmp_path / "tune").exists()


def test_an_interrupt_is_no_failure_of_a_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(StepTrial, "run", stop)
    heard = Recorder()
    with pytest.raises(KeyboardInterrupt):
        LocalRunner().trials([StepTrial(str(tmp_path), "one")], heard, folder="")
    assert not heard.failures


def test_this_process_takes_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = open_runner("local")
    runner.require(Resources(cpus=1000, gpus=8.0))
    assert runner.capacity is None
    for gpu, gpus, device in ((True, -1.0, "cuda"), (True, 0.0, "cpu"), (False, -1.0, "cpu"), (False, 1.0, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda gpu=gpu: gpu)
        assert runner.device(Resources(gpus=gpus)) == device
    assert runner.describe() == {"runner": "local", "device": "cpu"}
    runner.close()


def test_an_unknown_runner_is_an_error() -> None:
    with pytest.raises(UserError, match="--runner slurm: expected ray or local"):
        open_runner("slurm")
