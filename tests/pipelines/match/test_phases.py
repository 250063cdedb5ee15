"""Which phases there are, when images are kept, and what is shown of their progress."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from raycond.core import files
from raycond.methods.match.config import MatchConfig
from raycond.pipelines.match.phase import PhaseTrial
from raycond.pipelines.match.phases import PhaseProgress, carry_out, label_groups, snapshot_steps
from raycond.pipelines.match.run import match
from raycond.runtime.local_runner import LocalRunner
from tests.pipelines.match.make import IDC, config, data


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return data(tmp_path_factory.mktemp("source"))


@pytest.fixture
def trial(root: Path, tmp_path: Path) -> PhaseTrial:
    """A phase of IDC of six steps, finished in another folder and not begun in its own."""
    run = match(config(root, tmp_path / "whole", ipc=(2,), **IDC))
    (found,) = run.phases
    return replace(found, job=replace(found.job, folder=str(tmp_path / "phase"), pictures=str(tmp_path / "image")))


def test_groups_of_labels() -> None:
    assert label_groups(10, 3) == [(0, 1, 2), (3, 4, 5, 6), (7, 8, 9)]
    assert label_groups(2, 5) == [(0,), (1,)]
    assert label_groups(3, 1) == [(0, 1, 2)]


def test_steps_of_snapshots() -> None:
    ten = MatchConfig(iterations=10, steps=3)
    assert snapshot_steps(ten, 0) == ()
    assert snapshot_steps(ten, 1) == (0, 30)
    assert snapshot_steps(ten, 3) == (0, 9, 21, 30)
    assert snapshot_steps(replace(ten, iterations=2), 10) == (0, 3, 6)


def test_every_ipc_and_every_part_is_a_phase(root: Path, tmp_path: Path) -> None:
    run = match(config(root, tmp_path / "out", parts=2, **IDC))
    assert [trial.slug for trial in run.phases] == ["ipc1-part0", "ipc1-part1", "ipc2-part0", "ipc2-part1"]
    assert [trial.job.labels for trial in run.phases] == [(0, 1), (2,)] * 2
    assert len({trial.fingerprint for trial in run.phases}) == 4
    assert run.phases[2].images().shape == (4, 3, 8, 8)


def test_a_phase_that_stops_anywhere_goes_on_to_the_same_images(trial: PhaseTrial, tmp_path: Path) -> None:
    """Stopped by an exception after each report in turn, which is after each step."""

    class StoppedError(Exception):
        pass

    whole = replace(trial, job=replace(trial.job, folder=str(tmp_path / "whole-phase")))
    whole.run(lambda _: None)
    for stop in range(1, 6):

        def report(values: dict[str, float], stop: int = stop) -> None:
            if values["step"] >= stop:
                raise StoppedError

        place = str(tmp_path / f"stopped-{stop}")
        again = replace(trial, job=replace(trial.job, folder=place))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("raycond.pipelines.match.phase.REPORT_SECONDS", 0.0)
            with pytest.raises(StoppedError):
                again.run(report)
        assert again.finished() is None
        assert files.exists(again.job.place)
        seen: list[float] = []
        again.run(lambda values, seen=seen: seen.append(values["step"]))  # type: ignore[misc]
        assert seen[0] == stop
        assert torch.equal(again.images(), whole.images())
        for step in trial.job.snapshots:
            assert torch.equal(again.images(step), whole.images(step))
        assert [row[:2] for row in _curve(again)] == [row[:2] for row in _curve(whole)]
        seconds = [row[2] for row in _curve(again)]
        assert seconds == sorted(seconds)


def _curve(trial: PhaseTrial) -> list[list[Any]]:
    facts = trial.facts()
    assert facts is not None
    curve: list[list[Any]] = facts["curve"]
    return curve


def test_the_first_snapshot_is_the_start_and_the_last_the_result(trial: PhaseTrial) -> None:
    trial.run(lambda _: None)
    assert torch.equal(trial.images(trial.job.total), trial.images())
    assert not torch.equal(trial.images(0), trial.images())
    assert 0 <= float(trial.images(0).min()) <= float(trial.images(0).max()) <= 1
    assert all(files.exists(trial.job.picture(step)) for step in trial.job.snapshots)


def test_damaged_state_is_an_error_that_names_the_way_out(trial: PhaseTrial) -> None:
    files.write_bytes(trial.job.place, b"x" * 50)
    failures = carry_out([trial], [trial], LocalRunner(), folder="", at_once=0)
    assert len(failures) == 1
    assert "delete it, and the training starts again" in failures[0]


def test_progress_of_two_phases(trial: PhaseTrial) -> None:
    other = replace(trial, slug="other", job=replace(trial.job, folder="/other"))
    stream = io.StringIO()
    with PhaseProgress([trial, other], [trial, other], stream) as progress:
        progress.started(trial)
        progress.checked(trial, {"step": 2, "loss": float("nan"), "seconds": 1.0})  # two steps of an earlier run
        assert (progress._progress.done, progress._progress.before) == (2, 2)
        progress.checked(trial, {"step": 3, "loss": 0.5, "seconds": 2.0})
        progress.checked(other, {"step": 0, "loss": float("nan"), "seconds": 0.0})
        assert (progress._progress.done, progress._progress.before) == (3, 2)
        progress.done(trial, {"step": 6, "loss": 0.25})
        assert "ipc2 loss 0.25" in progress._progress.line
        progress.failed(other, "no memory")
    assert progress.failures == ["idc ipc2: no memory"]
    assert "match      6/12 steps" in stream.getvalue()
