"""`raycond evaluate` and `raycond export`: options, exit codes, what they say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from raycond.cli.main import main
from raycond.evaluate.cell import Cell
from raycond.pipelines.evaluate import trial as cells_module
from raycond.sets.reader import open_set
from tests.pipelines.evaluate.make import methods, table
from tests.pipelines.quantize.make import CLASSES
from tests.support.methods import DENSITY, SQRT, UNIFORM

SMALL = ["--runner", "local", "--students", "mlp-w4", "--seeds", "0", "--set", "steps=5"]


def evaluate(*arguments: str | Path) -> int:
    try:
        return main(["evaluate", *map(str, arguments)])
    except SystemExit as stop:  # argparse's errors
        return int(stop.code or 0)


@pytest.mark.usefixtures("report")
def test_a_grid_from_beginning_to_end(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    arguments = ["--sets", run / "set", "--out", out, "--ipc", "1", "--baselines", "el2n", "--proxy-steps", "2"]
    more = [
        "--weights",
        "density",
        "uniform",
        "--proxy-nets",
        "1",
        "--proxy-student",
        "mlp-w4",
        "--trials-at-once",
        "2",
    ]
    assert evaluate(*arguments, *more, *SMALL, "checks=2") == 0
    shown = capsys.readouterr()
    assert shown.out == (out / "summary.txt").read_text()
    names = ("random", "medoid", "el2n", UNIFORM, DENSITY)
    assert methods(out) == [(name, "1") for name in names]
    assert all(name in shown.out for name in names)
    assert "trainings  5 now, 0 before" in shown.out
    assert "el2n" in (out / "report.html").read_text()
    assert re.search(r"^train +5/5 trainings", shown.err, re.MULTILINE)
    assert json.loads((out / "config.json").read_text())["changes"] == {"steps": 5, "checks": 2}

    assert evaluate("--resume", "--out", out) == 0
    assert "trainings  0 now, 5 before" in capsys.readouterr().out


def test_by_default_beside_the_set(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.pipelines.evaluate.make import copied

    own = copied(run, tmp_path / "own")
    monkeypatch.chdir(tmp_path)
    assert evaluate("--sets", "own/set", "--baselines", "none", "--ipc", "1", "--weights", "sqrt", *SMALL) == 0
    assert methods(own / "grid") == [(SQRT, "1")]
    monkeypatch.chdir(own)
    assert evaluate("--out", "grid", "--resume") == 0
    assert len(table(own / "grid")) == 1


def test_failures_give_exit_code_1_and_an_interrupt_130(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = cells_module.run_cell
    raised: BaseException = RuntimeError("out of memory")

    def run_cell(cell: Cell, report: Any = None) -> Any:
        if cell.method == "medoid":
            raise raised
        return real(cell, report)

    monkeypatch.setattr(cells_module, "run_cell", run_cell)
    arguments = ["--sets", run / "set", "--out", tmp_path / "out", "--ipc", "1", *SMALL]
    assert evaluate(*arguments) == 1
    shown = capsys.readouterr()
    assert "FAILED     1 trainings\n  medoid ipc1 mlp-w4 seed0: RuntimeError('out of memory')" in shown.out
    assert "medoid ipc1 mlp-w4 seed0 failed: RuntimeError('out of memory')" in shown.err
    raised = KeyboardInterrupt()
    assert evaluate(*arguments) == 130
    assert "raycond: stopped; the same command goes on from here" in capsys.readouterr().err
    monkeypatch.setattr(cells_module, "run_cell", real)
    assert evaluate("--resume", "--out", tmp_path / "out") == 0
    assert "trainings  1 now, 4 before" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--students", "x"], "--students: student 'x' is not known"),
        (["--protocol", "x"], "--protocol: protocol 'x' is not known: use one of class-incremental"),
        (["--set", "x=1"], "--set: protocol quick: x: is not a setting"),
        (["--set", "x"], "--set x: expected field=value"),
        (["--set", "scale=[1"], "--set scale=.1: not valid YAML"),
        (["--labeler", "x"], "--labeler: expected one of hard, .*, not 'x'"),
        (["--ipc", "2"], "--ipc 2: .*set has only 1, 3"),
        (["--ipc", "many"], "--ipc: expected a whole number, not 'many'"),
        (["--baselines", "x"], "--baselines: expected one of random, .*, not 'x'"),
        (["--weights", "x"], "--weights: expected one of uniform, density, sqrt, not 'x'"),
        (["--val", "nowhere"], "--val: .*nowhere: does not exist"),
        (["--data", "nowhere", "--val", "digits:"], "nowhere: does not exist"),
        (["--sets", "nowhere"], "nowhere: no such folder; expected a condensed set"),
        (["--runner", "x"], "--runner: expected one of ray, local, not 'x'"),
        (["--unknown"], "--unknown"),
    ],
    ids=str,
)
def test_bad_value_is_one_message_and_exit_code_2(
    run: Path, tmp_path: Path, arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    small = [a for a in SMALL if "--set" not in arguments or a not in ("--set", "steps=5")]
    assert evaluate("--sets", run / "set", "--out", tmp_path / "out", *small, *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("raycond: ")
    assert re.search(text, error)
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()


def test_resume_says_what_it_needs(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(*arguments: str | Path) -> str:
        assert evaluate(*arguments) == 2
        return capsys.readouterr().err

    out = tmp_path / "out"
    assert "--resume: give the grid's folder with --out" in refused("--resume")
    assert f"--resume: {out} holds no grid; start it without --resume" in refused("--resume", "--out", out)
    assert "config.json is not of a grid" in refused("--resume", "--out", run)
    arguments = ["--sets", run / "set", "--baselines", "none", "--ipc", "1", "--weights", "sqrt", "--out", out, *SMALL]
    assert evaluate(*arguments) == 0
    for option in (["--set", "steps=6"], ["--seeds", "1"], ["--scores"]):
        error = refused("--resume", "--out", out, *option)
        assert f"raycond: {option[0]}: the grid in {out} has " in error
        assert "leave the option out to go on with it, or start another grid without --resume" in error
    assert evaluate("--resume", *arguments) == 0


def test_nothing_at_all_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate() == 2
    assert "--sets" in capsys.readouterr().err


# ---- raycond export


def exported(run: Path, out: Path, *arguments: str) -> int:
    return main(["export", str(run / "set"), str(out), *arguments])


@pytest.mark.parametrize(
    ("kind", "folder"), [("ddranking", "images/00000"), ("rethinkdc", "train/00000"), ("folder", "ant")]
)
def test_export(run: Path, tmp_path: Path, kind: str, folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert exported(run, out, "--to", kind, "--ipc", "1") == 0
    about = json.loads(capsys.readouterr().out)
    assert (about["kind"], about["ipc"], about["images"]) == (kind, 1, 4)
    assert about["classes"]["ids"] == list(CLASSES)
    assert [p.name for p in (out / folder).iterdir()] == ["00000.png"]
    weights = torch.load(out / "weights.pt", weights_only=True)
    assert torch.equal(weights, open_set(str(run / "set"), 1).weights)
    assert exported(run, out, "--to", kind) == 2
    assert f"--out {out}: is not an empty folder" in capsys.readouterr().err


def test_export_with_soft_labels(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from raycond.models import students

    torch.save(students.build("convnet3-w4", classes=4, size=8, channels=3).state_dict(), tmp_path / "w.pt")
    labeler = f"teacher:convnet3-w4@{tmp_path}/w.pt,mean=0.5,std=0.5"
    assert exported(run, tmp_path / "out", "--to", "ddranking", "--labeler", labeler) == 0
    about = json.loads(capsys.readouterr().out)
    assert (about["ipc"], about["labeler"]) == (3, "teacher:convnet3-w4")
    assert torch.load(tmp_path / "out" / "soft_labels.pt", weights_only=True).shape == (12, 4)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "--to"),
        (["--to", "x"], "--to: expected one of ddranking, rethinkdc, folder, not 'x'"),
        (["--to", "folder", "--ipc", "2"], "has no IPC 2; it has 1, 3"),
        (["--to", "folder", "--labeler", "hard"], "--labeler: goes with kind ddranking, not folder"),
        (["--to", "ddranking", "--labeler", "x:y"], "labeler x: not one of hard"),
    ],
    ids=str,
)
def test_export_refuses(
    run: Path, tmp_path: Path, arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = exported(run, tmp_path / "out", *arguments)
    except SystemExit as stop:
        code = int(stop.code or 0)
    assert code == 2
    assert text in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_export_of_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(tmp_path), str(tmp_path / "out"), "--to", "folder"]) == 2
    assert "not a condensed set" in capsys.readouterr().err
