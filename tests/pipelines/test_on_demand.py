"""The runner of a run is opened once, only if something asks for it, and closed whatever happens."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from raycond.core.progress import Timed
from raycond.pipelines import on_demand as module
from raycond.pipelines.on_demand import on_demand
from raycond.runtime.resources import Resources
from tests.support.recording_runner import RecordingRunner

CONFIG: Any = SimpleNamespace(runner="local", dashboard=False, workers=3, resources=Resources(2, 1.0, "worker"))


class Run(Timed):
    machine: dict[str, Any]


@pytest.fixture
def runners(monkeypatch: pytest.MonkeyPatch) -> list[RecordingRunner]:
    """Those that were opened."""
    opened: list[RecordingRunner] = []

    def open_runner(name: str, dashboard: bool) -> RecordingRunner:
        assert (name, dashboard) == ("local", False)
        opened.append(RecordingRunner())
        return opened[-1]

    monkeypatch.setattr(module, "open_runner", open_runner)
    return opened


def test_nothing_to_do_opens_none(runners: list[RecordingRunner]) -> None:
    with on_demand(CONFIG, Run()):
        pass
    assert runners == []


def test_one_is_opened_and_asked_for_one_worker(runners: list[RecordingRunner]) -> None:
    run = Run()
    with on_demand(CONFIG, run) as get:
        assert get() is get()
    (runner,) = runners
    assert runner.asked == [("require", CONFIG.resources)]
    assert run.machine == {"runner": "local", "device": "cpu", "workers": 3}
    assert list(run.seconds) == ["start"]
    assert runner.closed == 1


def test_it_is_closed_after_an_error(runners: list[RecordingRunner]) -> None:
    def fail() -> None:
        with on_demand(CONFIG, Run()) as get:
            get()
            raise ValueError("from inside")

    with pytest.raises(ValueError, match="from inside"):
        fail()
    assert runners[0].closed == 1
