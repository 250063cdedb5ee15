"""Cells as units of work: what makes a record stale, what a unit costs, and that failures stay their own."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from raycond.runtime.local_trials import LocalGrid

from raycond.core import records
from raycond.core.errors import RaycondError, UserError
from raycond.data.images import Decoding
from raycond.pipelines.evaluate.config import load_grid_config
from raycond.pipelines.evaluate.trial import Trial, carry_out, run_units
from raycond.runtime.local_runner import LocalRunner
from raycond.runtime.trials import reason
from tests.pipelines.evaluate.trial import PROTOCOL, Broken, Told, cell, decoded, unit
from tests.pipelines.quantize.make import config, data


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
    base = dataclasses.replace(unit(root, root), images=10, tests=20, held=0)
    assert base.data_bytes == 2 * (10 + 20) * pixels
    assert dataclasses.replace(base, held=1000).data_bytes == 2 * (1000 + 20) * pixels
    on_gpu = dataclasses.replace(base, held=1000, cell=cell(root, device="cuda"))
    assert on_gpu.data_bytes == (10 + 20) * pixels


def test_a_unit_leaves_a_record_that_stands_for_it(root: Path, tmp_path: Path) -> None:
    made = unit(root, tmp_path)
    assert made.finished() is None
    steps: list[int] = []
    row = carry_out(made, lambda check: steps.append(check.step))
    assert steps == [2, 4]
    found = made.finished()
    assert found is not None
    assert dataclasses.asdict(found) == row
    assert (found.method, found.student, found.images, found.steps, len(found.curve)) == ("random", "mlp-w4", 4, 4, 2)
    assert dataclasses.replace(made, fingerprint="other").finished() is None
    Path(records.record_of(made.place)).write_text('{"fingerprint": 3}')
    assert made.finished() is None


def test_reasons_are_messages_of_ours_and_types_of_others() -> None:
    assert reason(UserError("give --val")) == "give --val"
    assert reason(RaycondError("the loss is nan")) == "the loss is nan"
    assert reason(KeyError("x")) == "KeyError('x')"


def test_units_of_the_quantize_pipeline(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    units = [unit(root, tmp_path, seed=seed) for seed in range(3)]
    units.insert(1, unit(root, tmp_path, train=Broken(), method="broken"))
    carry_out(units[0])
    runner = LocalRunner(config(root / "data", tmp_path / "out"))
    rows, failures = run_units(units, runner)
    assert [row.seed for row in rows] == [0, 1, 2]
    assert failures == ["broken ipc1 mlp-w4 seed0: ValueError('broken images')"]
    assert "broken ipc1 mlp-w4 seed0 failed: ValueError('broken images')" in capsys.readouterr().err
    assert run_units(units[:1], runner) == (rows[:1], [])


def test_the_local_grid_tells_what_happens_in_order(root: Path, tmp_path: Path) -> None:
    units = [unit(root, tmp_path, train=Broken(), method="broken"), unit(root, tmp_path)]
    runner, told = LocalGrid(load_grid_config({"sets": ["x"], "runner": "local", "gpus_per_trial": 0})), Told()
    runner.run(units, told)
    broken, fine = (one.cell.name for one in units)
    assert told.events == [
        *(("started", broken), ("failed", broken)),
        *(("started", fine), ("step 2", fine), ("step 4", fine), ("done", fine)),
    ]
    assert told.rows[units[1].place] == units[1].finished()
    assert runner.describe() == {"runner": "local", "device": "cpu"}
    assert runner.once(len, "four") == 4
