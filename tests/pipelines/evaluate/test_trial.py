"""Trainings as trials: what makes a record stale, what a trial costs, and that failures stay their own."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from raycond.core import records
from raycond.data.images import Decoding
from raycond.evaluate.table import Row
from raycond.pipelines.evaluate.trial import Trial
from raycond.runtime.local_runner import LocalRunner
from tests.pipelines.evaluate.trial import PROTOCOL, Broken, cell, decoded, trial
from tests.pipelines.quantize.make import data
from tests.support.watcher import Recorder


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("units")
    data(folder / "data")
    decoded(folder)
    return folder


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "medoid"},
        {"ipc": 3},
        {"student": "mlp-w5"},
        {"seed": 1},
        {"protocol": PROTOCOL.override(lr=0.1)},
        {"options": Decoding(8, "squash", 3, 10**6)},
        {"weights": "sqrt"},
        {"variant": "plain"},
        {"device": "cuda"},
        {"data": "other"},
        {"test": "other"},
        {"labels": "other"},
    ],
    ids=str,
)
def test_what_an_accuracy_depends_on_is_in_the_fingerprint(root: Path, changes: dict[str, Any]) -> None:
    digests = {"data": "data", "test": "test", "labels": ""}
    base = Trial.of(cell(root), "place", **digests)
    of_cell = {name: value for name, value in changes.items() if name not in digests}
    other = Trial.of(cell(root, **of_cell), "place", **{**digests, **{k: changes[k] for k in changes if k in digests}})
    assert other.fingerprint != base.fingerprint


def test_what_changes_no_accuracy_is_not(root: Path) -> None:
    base = Trial.of(cell(root), "place", "data", "test")
    moved = cell(root, test="elsewhere.npz", train=Broken(), set="another label")
    assert Trial.of(moved, "elsewhere", "data", "test", images=3, tests=5, held=9).fingerprint == base.fingerprint


def test_bytes_of_the_data(root: Path) -> None:
    pixels = 3 * 8 * 8
    base = dataclasses.replace(trial(root, root), images=10, tests=20, held=0)
    assert base.data_bytes == 2 * (10 + 20) * pixels
    assert dataclasses.replace(base, held=1000).data_bytes == 2 * (1000 + 20) * pixels
    on_gpu = dataclasses.replace(base, held=1000, cell=cell(root, device="cuda"))
    assert on_gpu.data_bytes == (10 + 20) * pixels


def test_a_trial_leaves_a_record_that_stands_for_it(root: Path, tmp_path: Path) -> None:
    one = trial(root, tmp_path)
    assert one.finished() is None
    assert one.row is None
    steps: list[float] = []
    result = one.run(lambda values: steps.append(values["step"]))
    assert steps == [2, 4]
    assert one.finished() == json.loads(json.dumps(result))
    row = one.row
    assert row is not None
    assert dataclasses.asdict(row) == result
    assert (row.method, row.student, row.images, row.steps, len(row.curve)) == ("random", "mlp-w4", 4, 4, 2)
    assert dataclasses.replace(one, fingerprint="other").finished() is None
    Path(records.record_of(one.place)).write_text('{"fingerprint": 3}')
    assert one.finished() is None


def test_trials_of_a_grid_in_one_process(root: Path, tmp_path: Path) -> None:
    trials = [trial(root, tmp_path, train=Broken(), method="broken"), trial(root, tmp_path)]
    heard = Recorder()
    LocalRunner().trials(trials, heard, folder=str(tmp_path / "tune"))
    broken, fine = (one.name for one in trials)
    assert heard.events == [
        ("started", broken),
        ("failed", broken),
        ("started", fine),
        ("step 2", fine),
        ("step 4", fine),
        ("done", fine),
    ]
    assert heard.failures == {broken: "ValueError('broken images')"}
    ((place, result),) = heard.results.items()
    assert (place, Row.from_dict(result)) == (trials[1].place, trials[1].row)


def test_costs_are_images_through_the_student() -> None:
    def cost(images: int, **changes: Any) -> float:
        training = cell(Path(), train=Broken(), protocol=PROTOCOL.override(**changes))
        return dataclasses.replace(trial(Path(), Path(), train=Broken()), cell=training, images=images).cost

    assert cost(10, steps=100, batch=64) == 1000
    assert cost(1000, steps=100, batch=64) == 6400
    assert cost(1000, epochs=2, batch=100) == 2000
    assert cost(1000, steps=100, batch=64, tasks=5) == 5 * 6400


def test_what_dashboards_show_has_no_empty_value() -> None:
    training = cell(Path(), train=Broken(), method="full", ipc=None)
    shown = dataclasses.replace(trial(Path(), Path(), train=Broken()), cell=training).parameters
    assert shown == {"method": "full", "ipc": 0, "student": "mlp-w4", "seed": 0, "variant": "own"}
