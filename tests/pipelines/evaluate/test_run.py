"""A whole grid: what it leaves behind, what a rerun does, and that one failure stays one."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from raycond.core.errors import UserError
from raycond.data.decode import decode
from raycond.data.labelled import pixels
from raycond.evaluate import results
from raycond.evaluate.cell import Cell
from raycond.evaluate.results import Row
from raycond.pipelines.evaluate import trial as cells_module
from raycond.pipelines.evaluate.run import evaluate_grid
from raycond.pipelines.quantize.run import quantize
from raycond.pipelines.stages import splits
from raycond.sets.reader import open_set
from tests.data.make import png
from tests.pipelines.evaluate.make import (
    MEASURED,
    STUDENT,
    WITH_FULL,
    cells,
    copied,
    grid_config,
    made_run,
    methods,
    stored,
    table,
)
from tests.pipelines.quantize.make import config, contents, data, rewritten, stamps
from tests.support.methods import SQRT, UNIFORM


def broken(monkeypatch: pytest.MonkeyPatch, error: BaseException, after: int = 0, method: str = "") -> list[str]:
    """Let trainings (of `method`) raise once `after` of them have run; gives the names of those that began."""
    real, begun = cells_module.run_cell, list[str]()

    def run_cell(cell: Cell, report: Any = None) -> Row:
        begun.append(cell.name)
        if cell.method.startswith(method) and len(begun) > after:
            raise error
        return real(cell, report)

    monkeypatch.setattr(cells_module, "run_cell", run_cell)
    return begun


def test_what_a_grid_leaves(whole: Path, run: Path) -> None:
    names = {p.name for p in whole.iterdir()}
    assert names == {
        "config.json",
        "results.csv",
        "results.parquet",
        "summary.txt",
        "report.html",
        "raycond.log",
        "work",
    }
    assert methods(whole) == WITH_FULL
    lines = table(whole)
    assert len(lines) == 2 * len(WITH_FULL)
    assert {line["seed"] for line in lines} == {"0", "1"}
    assert {(line["student"], line["protocol"], line["variant"], line["steps"]) for line in lines} == {
        (STUDENT, "quick", "own", "5")
    }
    assert {line["set"] for line in lines if "vae" in line["method"]} == {"run"}
    assert {(line["method"], line["ipc"]): line["images"] for line in lines} == {
        (method, ipc): "48" if method == "full" else str(4 * int(ipc)) for method, ipc in WITH_FULL
    }
    assert str(run.parent) not in (whole / "results.csv").read_text()
    for row in stored(whole):
        assert [check.step for check in row.curve] == [2, 5]
        assert row.curve[-1].top1 == row.top1
        assert row.best == max(check.top1 for check in row.curve)


def test_summary_and_report_hold_the_rows(whole: Path) -> None:
    text = (whole / "summary.txt").read_text()
    page = (whole / "report.html").read_text()
    for method, _ in WITH_FULL:
        assert method in text
        assert f">{method}<" in page
    assert "mlp-w4, protocol quick: top-1 %, last step, mean ± standard deviation (n - 1) over 2 seeds" in text
    assert "trainings  18 now, 0 before" in text
    for name in ("results.csv, .parquet", "report.html"):
        assert f"{whole}/{name}" in text
    assert "run: evaluation" in page
    assert "set for this run" in page  # steps=5
    mean = np.mean([row.top1 for row in stored(whole) if (row.method, row.ipc) == ("medoid", 3)])
    assert f"{mean:.1f}" in text
    assert f"{mean:.1f}" in page


def test_the_same_grid_again_is_the_same_apart_from_what_is_measured(whole: Path, run: Path, tmp_path: Path) -> None:
    evaluate_grid(grid_config(run, tmp_path / "out", seeds=(0, 1)))
    assert table(tmp_path / "out") == table(whole)
    again, before = (
        [{k: v for k, v in vars(row).items() if k not in MEASURED} for row in stored(out)]
        for out in (tmp_path / "out", whole)
    )
    assert again == before


def test_a_rerun_trains_nothing_and_writes_the_same_bytes(whole: Path, run: Path, tmp_path: Path) -> None:
    out = copied(whole, tmp_path / "out")
    before, kept = stamps(out), contents(out)
    found = evaluate_grid(grid_config(run, out, seeds=(0, 1)))
    assert (found.trained, len(found.rows)) == (0, 18)
    changed = rewritten(before, stamps(out))
    assert changed == {"config.json", "raycond.log", "results.csv", "results.parquet", "summary.txt"}
    for name in ("results.csv", "results.parquet"):
        assert (out / name).read_bytes() == kept[name]
    assert "trainings  0 now, 18 before" in (out / "summary.txt").read_text()


@pytest.mark.parametrize("after", [0, 7])
def test_a_stopped_grid_goes_on_where_it_was(
    whole: Path, run: Path, tmp_path: Path, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    options = grid_config(run, out, seeds=(0, 1))
    with monkeypatch.context() as patch:
        broken(patch, KeyboardInterrupt(), after)
        with pytest.raises(KeyboardInterrupt):
            evaluate_grid(options)
    assert not (out / "results.csv").exists()
    done = cells(out)
    assert len(done) == after

    begun = broken(monkeypatch, AssertionError(), after=10**6)
    found = evaluate_grid(options)
    assert (found.trained, len(begun), found.failures) == (18 - after, 18 - after, [])
    assert {name: stamp for name, stamp in cells(out).items() if name in done} == done
    assert table(out) == table(whole)
    measured = {(r.method, r.ipc, r.seed): (r.seconds, r.memory) for r in stored(out)}
    evaluate_grid(options)
    assert {(r.method, r.ipc, r.seed): (r.seconds, r.memory) for r in stored(out)} == measured


def test_more_of_a_grid_trains_only_what_is_new(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def begun(**options: Any) -> set[str]:
        before = cells(out)
        assert not evaluate_grid(grid_config(run, out, **options)).failures
        after = cells(out)
        return {name for name, stamp in after.items() if before.get(name) != stamp}

    one: dict[str, Any] = {"ipc": (1,), "baselines": ("none",), "weights": ("uniform",)}
    assert begun(**one) == {"d4m-vae-ipc1-mlp-w4-seed0"}
    assert begun(**one) == set()
    assert begun(**{**one, "ipc": (1, 3)}) == {"d4m-vae-ipc3-mlp-w4-seed0"}
    assert begun(**one, seeds=(0, 1)) == {"d4m-vae-ipc1-mlp-w4-seed1"}
    assert begun(**one, students=("mlp-w4", "mlp-w5")) == {"d4m-vae-ipc1-mlp-w5-seed0"}
    assert begun(**{**one, "weights": ("uniform", "density")}) == {"ddoq-vae-density-ipc1-mlp-w4-seed0"}
    assert begun(**{**one, "baselines": ("random",)}) == {f"{m}-ipc1-mlp-w4-seed0" for m in ("random", "medoid")}
    assert begun(**one) == set()


# ---- what is stale


def trained(options: Any) -> int:
    found = evaluate_grid(options)
    assert not found.failures
    return found.trained


@pytest.mark.parametrize(
    ("options", "number"),
    [
        ({"changes": {"steps": 6, "checks": 2}}, 9),
        ({"changes": {"steps": 5, "checks": 1}}, 9),
        ({"protocol": "rethinkdc-hard", "changes": {"epochs": 1, "normalise": "train"}}, 8),  # without full
        ({"max_pixels": 1000}, 9),
        ({"trials_at_once": 3, "gpus_per_trial": 0}, 0),
    ],
    ids=str,
)
def test_changed_option(whole: Path, run: Path, tmp_path: Path, options: dict[str, Any], number: int) -> None:
    out = copied(whole, tmp_path / "out")
    assert trained(grid_config(run, out, **options)) == number
    assert trained(grid_config(run, out, **options)) == 0
    fresh = tmp_path / "fresh"
    evaluate_grid(grid_config(run, fresh, **options))
    assert table(fresh) == table(out)


def test_changed_set_and_source(tmp_path: Path) -> None:
    run = made_run(tmp_path)
    out = tmp_path / "out"
    options = grid_config(run, out)
    assert trained(options) == 9
    quantize(config(tmp_path / "data", run, weights="density"))  # at IPC 1 the file stays as it is
    assert trained(options) == 2 + 2  # medoid and uniform weights at IPC 3, and the new weights
    (tmp_path / "data" / "train" / "ant" / "ant_0.png").write_bytes(png(999))
    before = results.read_parquet(str(out / "results.parquet"))
    assert trained(options) == 2 + 2 + 1  # random, medoid, full
    assert results.read_parquet(str(out / "results.parquet")) != before
    (tmp_path / "data" / "val" / "ant" / "ant_0.png").write_bytes(png(998))
    assert trained(options) == 9
    evaluate_grid(grid_config(run, tmp_path / "fresh"))
    assert table(tmp_path / "fresh") == table(out)


def test_damaged_record_and_split_are_made_again(whole: Path, run: Path, tmp_path: Path) -> None:
    out = copied(whole, tmp_path / "out")
    record = next((out / "work" / "cells").glob("medoid-ipc1-mlp-w4-seed0-*"))
    record.write_text("{")
    for name in ("train", "val-8"):
        (out / "work" / "pixels" / f"{name}.safetensors").write_bytes(b"")
    assert trained(grid_config(run, out, seeds=(0, 1))) == 1
    assert table(out) == table(whole)
    assert (out / "work" / "pixels" / "train.safetensors").read_bytes() == (
        whole / "work/pixels/train.safetensors"
    ).read_bytes()


# ---- failures


@pytest.mark.usefixtures("report")
def test_failed_trainings_are_listed_and_tried_again(
    whole: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        broken(patch, RuntimeError("out of memory"), method=SQRT)
        found = evaluate_grid(grid_config(run, out, seeds=(0, 1)))
    names = [f"{SQRT} ipc{ipc} mlp-w4 seed{seed}" for ipc in (1, 3) for seed in (0, 1)]
    assert sorted(found.failures) == [f"{name}: RuntimeError('out of memory')" for name in names]
    assert methods(out) == [row for row in WITH_FULL if row[0] != SQRT]
    text, page = (out / "summary.txt").read_text(), (out / "report.html").read_text()
    assert "FAILED     4 trainings" in text
    assert "trainings  18 now, 0 before" in text
    for name in names:
        assert f"  {name}: RuntimeError('out of memory')" in text
        assert name in page
    assert "Not made" in page

    found = evaluate_grid(grid_config(run, out, seeds=(0, 1)))
    assert (found.trained, found.failures) == (4, [])
    assert table(out) == table(whole)
    assert "FAILED" not in (out / "summary.txt").read_text()


def test_nothing_but_failures(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    broken(monkeypatch, UserError("too few images"))
    found = evaluate_grid(grid_config(run, out))
    assert (len(found.failures), found.rows) == (9, [])
    text = (out / "summary.txt").read_text()
    assert "FAILED     9 trainings" in text
    assert "random ipc1 mlp-w4 seed0: too few images" in text
    assert "report" not in text
    assert table(out) == []


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        ({}, "give --baselines without full"),
        ({"baselines": ("el2n",)}, "give --baselines without el2n"),
        (
            {"baselines": ("el2n", "herding"), "scores": True},
            "give --baselines without el2n herding full and leave out --scores",
        ),
    ],
    ids=str,
)
def test_a_source_that_is_too_large_to_decode(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], remedy: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(splits.shutil, "disk_usage", lambda _: SimpleNamespace(free=48 * 192 - 1))
        with pytest.raises(UserError, match=rf"the 48 images of the train split take .*; {remedy}$"):
            evaluate_grid(grid_config(run, tmp_path, **options))
    assert not evaluate_grid(grid_config(run, tmp_path, baselines=("random",))).failures


def test_a_loss_that_explodes_is_a_failure(run: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"baselines": ("none",), "weights": ("uniform",), "ipc": (1,)}
    changes = {"steps": 5, "lr": 1e30, "optimizer": "sgd"}
    found = evaluate_grid(grid_config(run, tmp_path / "out", **options, changes=changes))
    (failure,) = found.failures
    assert failure.startswith(f"{UNIFORM} ipc1 mlp-w4 seed0: student mlp-w4, seed 0: the loss is ")


def test_medoid_that_is_gone_from_the_source(run: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(run.parent / "data", tmp_path / "data"))
    gone = (set(open_set(str(run / "set"), 3).source_ids) - set(open_set(str(run / "set"), 1).source_ids)).pop()
    next(p for p in own.rglob("*.png") if str(p).endswith(gone)).unlink()
    found = evaluate_grid(grid_config(run, tmp_path / "out", data=str(own)))
    assert [f.partition(": ")[0] for f in found.failures] == ["medoid ipc3 mlp-w4 seed0"]
    assert f"medoid: {gone}, which {run}/set names, cannot be read" in found.failures[0]
    assert len(found.rows) == 8


@pytest.mark.parametrize(("count", "ending"), [(1, None), (2, "--val: 2 bad images, more than --max-bad 1%")])
def test_bad_validation_images(run: Path, tmp_path: Path, count: int, ending: str | None) -> None:
    own = data(tmp_path / "data", train=3, val=30)  # of 120 images 1 % is one
    for k in range(count):
        (own / "val" / "bee" / f"bee_{k}.png").write_bytes(b"")
    options = grid_config(run, tmp_path / "out", val=str(own), baselines=("none",), ipc=(1,))
    if ending:
        with pytest.raises(UserError, match=ending):
            evaluate_grid(options)
    else:
        assert not evaluate_grid(options).failures
    assert (tmp_path / "out" / "quarantine.parquet").exists()


def test_test_images_are_cropped_however_the_set_was_resized(tmp_path: Path) -> None:
    run = made_run(tmp_path, resize="squash")
    for path in (tmp_path / "data" / "val").rglob("*.png"):
        image = Image.open(path)
        image.resize((60, 20)).save(path)
    options: dict[str, Any] = {"baselines": ("none",), "weights": ("uniform",), "ipc": (1,)}
    evaluate_grid(grid_config(run, tmp_path / "out", **options))
    found = pixels(str(tmp_path / "out" / "work" / "pixels" / "val-8.safetensors"), 4).images[0]
    first = min((tmp_path / "data" / "val" / "ant").iterdir())
    cropped = decode(first.read_bytes(), size=8, resize="crop", interpolation="bilinear")
    assert torch.equal(found, torch.from_numpy(cropped).permute(2, 0, 1))


def test_views_larger_than_what_is_stored_are_a_warning(run: Path, tmp_path: Path, capfd: Any) -> None:
    options: dict[str, Any] = {"baselines": ("none",), "weights": ("uniform",), "ipc": (1,)}
    evaluate_grid(grid_config(run, tmp_path, **options))
    assert "WARNING" not in capfd.readouterr().err
    evaluate_grid(grid_config(run, tmp_path, **options, changes={"steps": 1, "view_size": 10}))
    assert "images are stored at 8 pixels, and students of protocol quick see 10" in capfd.readouterr().err
