"""Trials on Ray Tune: nothing is lost without a word, whatever dies on the way."""

from __future__ import annotations

import pickle
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tensorboardX.proto.event_pb2 import Event

from raycond.runtime import ray_tune
from raycond.runtime.ray_runner import RayRunner
from raycond.runtime.ray_tune import MAX_RESTARTS
from tests.support.trials import StepTrial
from tests.support.watcher import Recorder

pytestmark = pytest.mark.ray


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """Where trials leave their records."""
    (tmp_path / "records").mkdir()
    return str(tmp_path / "records")


@pytest.mark.usefixtures("ray_cluster")
def test_a_killed_worker_is_replaced_and_one_at_a_time_is_one(folder: str, tmp_path: Path) -> None:
    trials = [
        StepTrial(folder, "last"),
        StepTrial(folder, "broken", error="bad data", cost=2),
        StepTrial(folder, "killed", deaths=1, cost=3),
    ]
    heard = Recorder()
    RayRunner().trials(trials, heard, folder=str(tmp_path / "tune"), at_once=1)
    assert len(trials[2].dead()) == 1
    assert heard.failures == {"broken": "ValueError('bad data')"}
    assert "Traceback" in heard.details["broken"]  # of the worker, for the log
    assert heard.results == {one.place: one.finished() for one in (trials[0], trials[2])}
    assert heard.results[trials[0].place] == {"name": "last", "top1": 50.0}
    running, order = set[str](), list[str]()
    for event, name in heard.events:
        running = running | {name} if event == "started" else running
        assert running == {name}
        if event in ("done", "failed"):
            running = set()
            order.append(name)
    assert order == ["killed", "broken", "last"]  # the longest first

    (run,) = (tmp_path / "tune").iterdir()
    (curves,) = run.glob("last-*/events.out.tfevents.*")
    curve = [(step, round(value)) for step, value in scalars(curves, "ray/tune/top1")]
    assert list(dict.fromkeys(curve)) == [(10, 100), (20, 50)]  # x is the step of the training, at its end too


def scalars(path: Path, tag: str) -> Iterator[tuple[int, float]]:
    """(x, y) of a curve in a file of TensorBoard: records of a length, a checksum, an event and a checksum."""
    data = path.read_bytes()
    while data:
        (size,) = struct.unpack("<Q", data[:8])
        event = Event.FromString(data[12 : 12 + size])
        data = data[16 + size :]
        for value in event.summary.value:
            if value.tag == tag:
                yield event.step, value.simple_value


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_a_worker_that_always_dies_is_a_failure(folder: str, tmp_path: Path) -> None:
    trials = [StepTrial(folder, "killed", deaths=100), StepTrial(folder, "fine")]
    heard = Recorder()
    RayRunner().trials(trials, heard, folder=str(tmp_path / "tune"))
    assert heard.failures == {"killed": f"its worker died {MAX_RESTARTS + 1} times"}
    assert len(trials[0].dead()) == MAX_RESTARTS + 1
    assert list(heard.results) == [trials[1].place]


@pytest.mark.usefixtures("ray_cluster")
def test_without_trials_there_is_no_tune(tmp_path: Path) -> None:
    RayRunner().trials([], Recorder(), folder=str(tmp_path / "tune"))
    assert not (tmp_path / "tune").exists()


# ---- without a cluster


def test_a_trial_that_tune_repeats_is_told_once_and_a_lost_one_too(folder: str) -> None:
    trials = [StepTrial(folder, f"trial {k}") for k in range(4)]
    names = [one.name for one in trials]
    heard = Recorder()
    callback = ray_tune._Callback(trials, heard)

    def trial(position: int) -> Any:
        return SimpleNamespace(config={"trial": {"position": position}})

    result = {"name": "trial 0", "top1": 1.0}
    callback.on_trial_start(1, [], trial(0))
    callback.on_trial_result(1, [], trial(0), {"step": 2, "top1": 3.0, "date": "today"})
    callback.on_trial_result(2, [], trial(0), {"result": result, "top1": 1.0})
    callback.on_trial_start(3, [], trial(0))  # its worker died before Tune knew
    callback.on_trial_result(4, [], trial(0), {"result": result, "top1": 1.0})
    callback.on_trial_result(1, [], trial(1), {"failure": "out of memory", "details": "Traceback"})
    callback.on_trial_error(2, [], trial(1))
    callback.on_trial_error(1, [], trial(2))
    callback.close()
    callback.close()
    assert heard.events.count(("done", names[0])) == 1
    assert ("step 2", names[0]) in heard.events
    assert heard.failures == {
        names[1]: "out of memory",
        names[2]: "its worker died 4 times",
        names[3]: "Tune stopped before it had ended",
    }
    assert heard.details == {names[1]: "Traceback", names[2]: "", names[3]: ""}
    assert [event for event, _ in heard.events].count("failed") == 3
    heard.lock = threading.Lock()  # type: ignore[attr-defined]
    pickle.dumps(callback)  # without the watcher, which may hold what cannot be pickled


def test_a_repeated_trial_finds_what_it_had_finished(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reports: list[dict[str, Any]] = []
    monkeypatch.setattr(ray_tune.tune, "report", reports.append)
    one = StepTrial(folder, "one")
    for _ in range(2):
        ray_tune._trial({"trial": {"position": 0}}, [one])
    assert [report.get("timesteps_total") for report in reports] == [10, 20, 20, None]
    assert [report.get("step") for report in reports] == [10, 20, None, None]
    for report in reports[2:]:
        assert report["top1"] == 50.0  # beside the result, where dashboards look for it
        assert report["result"] == one.finished()
    ray_tune._trial({"trial": {"position": 0}}, [StepTrial(folder, "two", error="bad data")])
    assert reports[4]["failure"] == "ValueError('bad data')"
    assert reports[4]["details"].endswith("ValueError: bad data")
