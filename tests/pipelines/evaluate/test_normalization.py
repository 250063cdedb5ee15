"""Constants of the real images: those of the sets, or of the source, for every row of a grid."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from raycond.core.errors import UserError
from raycond.data.labelled import pixels
from raycond.evaluate.cell import Cell
from raycond.evaluate.results import Row
from raycond.pipelines.evaluate import trial as cells_module
from raycond.pipelines.evaluate.run import evaluate_grid
from raycond.sets.normalization import Normalization
from tests.pipelines.evaluate.make import copied, grid_config, rewrite

REAL = {"changes": {"steps": 5, "checks": 2, "normalize": "real"}}


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Normalization | None]:
    """The normalization of every training."""
    found: list[Normalization | None] = []

    def run_cell(cell: Cell, report: Any = None) -> Row:
        found.append(cell.normalization)
        return Row(cell.method, cell.ipc, cell.student, cell.seed, 50.0, 50.0, 5, 0.1, 4, "quick")

    monkeypatch.setattr(cells_module, "run_cell", run_cell)
    return found


def with_constants(run: Path, target: Path, mean: float) -> Path:
    found = copied(run, target)
    about = {"kind": "channels", "mean": [mean] * 3, "std": [0.5] * 3}
    rewrite(found / "set" / "manifest.json", normalization=about)
    return found


def test_a_protocol_with_other_constants_asks_for_none(
    run: Path, tmp_path: Path, seen: list[Normalization | None]
) -> None:
    assert not evaluate_grid(grid_config(run, tmp_path / "out")).failures
    assert set(seen) == {None}


def test_measured_on_the_source_where_the_set_has_none(
    run: Path, tmp_path: Path, seen: list[Normalization | None]
) -> None:
    assert not evaluate_grid(grid_config(run, tmp_path / "out", **REAL)).failures
    (found,) = set(seen)
    assert found is not None
    images = pixels(str(tmp_path / "out" / "work" / "pixels" / "train.safetensors"), 4).images.double() / 255
    assert found.mean == pytest.approx(images.mean((0, 2, 3)).tolist(), abs=1e-6)
    assert found.std == pytest.approx(images.std((0, 2, 3), correction=0).tolist(), abs=1e-6)


def test_what_travels_with_the_set_comes_first(run: Path, tmp_path: Path, seen: list[Normalization | None]) -> None:
    one = with_constants(run, tmp_path / "one", 0.25)
    assert not evaluate_grid(grid_config([one, run], tmp_path / "out", **REAL)).failures
    assert set(seen) == {Normalization((0.25,) * 3, (0.5,) * 3)}


def test_other_constants_are_other_trainings(run: Path, tmp_path: Path, seen: list[Normalization | None]) -> None:
    one = with_constants(run, tmp_path / "one", 0.25)
    first = evaluate_grid(grid_config(one, tmp_path / "out", **REAL))
    again = evaluate_grid(grid_config(one, tmp_path / "out", **REAL))
    rewrite(one / "set" / "manifest.json", normalization={"kind": "channels", "mean": [0.1] * 3, "std": [0.5] * 3})
    other = evaluate_grid(grid_config(one, tmp_path / "out", **REAL))
    assert (first.trained, again.trained, other.trained) == (len(first.rows), 0, len(first.rows))


def test_sets_of_different_constants(run: Path, tmp_path: Path) -> None:
    both = [with_constants(run, tmp_path / name, mean) for name, mean in (("one", 0.25), ("two", 0.5))]
    with pytest.raises(UserError, match="one and two are normalized by different constants"):
        evaluate_grid(grid_config(both, tmp_path / "out", **REAL))


def test_no_constants_and_no_source(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has none: give their source with --data .* or --set normalize=train"):
        evaluate_grid(grid_config(run, tmp_path / "out", baselines=("none",), **REAL))


def test_a_student_learns_under_them(run: Path, tmp_path: Path) -> None:
    found = evaluate_grid(grid_config(run, tmp_path / "out", **REAL))
    assert not found.failures
    assert all(torch.isfinite(torch.tensor(row.top1)) for row in found.rows)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["changes"]["normalize"] == "real"
