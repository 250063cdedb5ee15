"""The command line: its options, its exit codes, what it says and what it leaves alone."""

from __future__ import annotations

import csv
import errno
import io
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import pytest

from raycond.cli.main import guarded, main
from raycond.core import files
from raycond.core.errors import UserError
from raycond.pipelines.evaluate import trial as trial_module
from raycond.sets.verify import verify
from tests.data.make import tar
from tests.pipelines.quantize.make import CLASSES, contents, data, stamps
from tests.support.methods import SQRT, UNIFORM
from tests.support.processes import ended

SMALL = ["--codec", "pixels", "--size", "8", "--ipc", "1", "3", "--runner", "local"]
TRAINED = ["--students", "convnet3-w8", "--seeds", "0"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return data(tmp_path / "data")


def run(root: Path | str, out: Path | str, *more: str) -> int:
    return main(["quantize", "--data", str(root), "--out", str(out), *SMALL, *more])


def exit_code(arguments: list[str]) -> int:
    """Of `main`, whether it returns (our errors) or exits (argparse's)."""
    try:
        return main(arguments)
    except SystemExit as stop:
        return int(stop.code or 0)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            ["--preset", "digist"],
            r"--preset digist: not one of d4m, ddoq-dit, ddoq, digits, imagenet, mgd3; did you mean digits\?",
        ),
        (["--generator", "x"], "--generator"),
        (["--codec", "x"], "--codec: expected one of kl, .*, not 'x'"),
        (["--students", "x"], "--students: student 'x' is not known"),
        (["--protocol", "x"], "--protocol"),
        (["--quantizer", "loyd"], r"--quantizer: expected one of lloyd, .*, not 'loyd'; did you mean lloyd\?"),
        (["--ipc", "0"], "--ipc"),
        (["--ipc", "3", "3"], "--ipc"),
        (["--ipc", "many"], "--ipc: expected a whole number, not 'many'"),
        (["--ipc"], "--ipc: its value is missing"),
        (["--seeds", "-1"], "--seeds"),
        (["--classes", "5"], "--classes 5"),
        (["--max-bad", "x"], "--max-bad"),
        (["--size", "0"], "--size"),
        (["--data", "nowhere"], "--data: .*nowhere: does not exist"),
        (["--val", "nowhere"], "--val: .*nowhere: does not exist"),
        (["--config", "nowhere"], "--config nowhere"),
        (["--unknown"], "--unknown: no such option"),
        (["--no-evaluat"], r"--no-evaluat: no such option; did you mean --no-evaluate"),
        (["--out", "memory://x", "--runner", "ray"], "--out memory://x"),
    ],
)
def test_bad_value_is_one_message_and_exit_code_2(
    root: Path, tmp_path: Path, arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["quantize", "--data", str(root), "--out", str(tmp_path / "out"), *SMALL, *arguments]
    assert exit_code(command) == 2
    error = capsys.readouterr().err
    assert error.startswith("raycond: ")
    assert re.search(text, error)
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()


def test_whole_run_gives_set_results_and_report(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert run(root, out, *TRAINED) == 0
    text = capsys.readouterr().out
    assert {p.name for p in out.iterdir()} == {
        *("config.json", "quarantine.parquet", "raycond.log", "report.html", "results.csv", "set", "work")
    }
    rows = list(csv.DictReader(io.StringIO((out / "results.csv").read_text())))
    assert set(rows[0]) >= {"method", "ipc", "student", "seed", "top1"}
    units = {(r["method"], r["ipc"], r["student"], r["seed"]) for r in rows}
    condensed = {(m, i, "convnet3-w8", s) for m in ("random", "medoid", UNIFORM, SQRT) for i in "13" for s in "0"}
    assert units == condensed | {("full", "", "convnet3-w8", s) for s in "0"}
    assert len(rows) == len(units)
    assert f"{SQRT} against {UNIFORM}, IPC 3" in text
    assert str(out / "report.html") in text

    assert main(["verify", str(out / "set")]) == 0
    assert main(["inspect", str(out / "set")]) == 0
    assert "whole" in capsys.readouterr().out
    (out / "set" / "preview.png").write_bytes(b"")
    assert main(["verify", str(out / "set")]) == 1
    assert "preview.png" in capsys.readouterr().out
    assert main(["inspect", str(tmp_path)]) == 2


def test_relative_paths_and_working_directory(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("data", "out", "--no-evaluate") == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    before = stamps(tmp_path / "out" / "work")
    assert run("../data", "../out", "--no-evaluate") == 0
    assert stamps(tmp_path / "out" / "work") == before
    assert verify(str(tmp_path / "out" / "set")) == []
    assert run(root, Path("again"), "--no-evaluate") == 0
    assert (tmp_path / "elsewhere" / "again" / "set" / "manifest.json").exists()


@pytest.mark.parametrize("kind", ["folder", "tar"])
def test_dry_run_writes_nothing_and_says_what_would_be_done(
    root: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = root
    if kind == "tar":
        for split in ("train", "val"):
            members = {}
            for number, path in enumerate(sorted((root / split).rglob("*.png"))):
                members[f"{number:04d}.png"] = path.read_bytes()
                members[f"{number:04d}.cls"] = str(CLASSES.index(path.parent.name)).encode()
            tar(tmp_path / "tars" / f"{split}-0.tar", members)
        uri = tmp_path / "tars"
    before = contents(tmp_path)
    assert run(uri, tmp_path / "out", *TRAINED, "--dry-run") == 0
    text = capsys.readouterr().out
    assert "4 classes, 48 images, 12 to 12 a class" in text
    assert "9 trainings" in text
    assert run(uri, tmp_path / "out", "--ipc", "13", "--dry-run") == 2
    assert "--ipc 13: more than the images of class" in capsys.readouterr().err
    assert contents(tmp_path) == before


@pytest.mark.slow
def test_memory_as_run_folder(root: Path, tmp_path: Path) -> None:
    out = f"memory://{tmp_path.name}/out"
    assert run(root, out, *TRAINED, "--methods", "weighted", "full") == 0
    assert verify(f"{out}/set") == []
    assert len(files.read_bytes(f"{out}/results.csv").splitlines()) == 4
    assert run(root, tmp_path / "out", "--no-evaluate") == 0
    for name, content in contents(tmp_path / "out" / "set").items():
        assert files.read_bytes(f"{out}/set/{name}") == content
    fsspec.filesystem("memory").rm(f"/{tmp_path.name}", recursive=True)


@pytest.mark.parametrize("place", ["file", "readonly"])
def test_run_folder_that_cannot_be_written_is_said(
    root: Path, tmp_path: Path, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "place"
    if place == "file":
        out.write_text("not a folder")
    elif os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    else:
        out.mkdir(mode=0o500)
    assert run(root, out, "--no-evaluate") == (2 if place == "file" else 1)
    error = capsys.readouterr().err
    assert str(out) in error
    assert "Traceback" not in error


def test_failed_training_is_listed_and_the_others_are_made(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:

    real = trial_module.run_cell

    def broken(cell: trial_module.Cell, report: Any = None) -> object:
        if cell.method == UNIFORM:
            raise RuntimeError("out of memory")
        return real(cell, report)

    monkeypatch.setattr(trial_module, "run_cell", broken)
    assert run(root, tmp_path / "out", *TRAINED, "--ipc", "1", "--methods", "uniform", "weighted") == 1
    text = capsys.readouterr().out
    assert "NOT MADE: 1 failed" in text
    assert f"{UNIFORM} ipc1 convnet3-w8 seed0: RuntimeError('out of memory')" in text
    assert len((tmp_path / "out" / "results.csv").read_text().splitlines()) == 2
    monkeypatch.setattr(trial_module, "run_cell", real)
    assert run(root, tmp_path / "out", *TRAINED, "--ipc", "1", "--methods", "uniform", "weighted") == 0
    assert len((tmp_path / "out" / "results.csv").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "raycond: give a command (raycond --help lists the commands)"),
        (
            ["quantise"],
            "raycond: quantise: no such command; did you mean quantize? (raycond --help lists the commands)",
        ),
        (["--quantize"], "raycond: --quantize: no such command"),
        (["verify"], "raycond: PATH is missing: Folder of a condensed set, "),
    ],
)
def test_wrong_commands(arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith(text)
    assert shown.err.count("\n") == 1
    assert not shown.out


def test_error_in_an_option_names_the_help_of_its_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--sets", "a", "--seed", "1"]) == 2
    text = "raycond: --seed: no such option; did you mean --seeds? (raycond evaluate --help lists the options)\n"
    assert capsys.readouterr().err == text


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert re.fullmatch(r"raycond \d+\.\d+\.\d+\n", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (KeyboardInterrupt(), 130),
        (KeyboardInterrupt("in words"), 130),
        (KeyboardInterrupt(signal.SIGTERM), 143),
        (KeyboardInterrupt("in words", signal.SIGTERM), 143),
        (UserError("wrong"), 2),
        (OSError("full"), 1),
    ],
)
def test_exit_codes(raised: BaseException, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> int:
        raise raised

    before = signal.getsignal(signal.SIGTERM)
    assert guarded("verify", work) == code
    assert signal.getsignal(signal.SIGTERM) is before
    shown = capsys.readouterr().err
    assert ("stopped; the same command goes on" in shown) == isinstance(raised, KeyboardInterrupt)
    assert "Traceback" not in shown


def test_a_full_disk_is_one_line_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> int:
        raise OSError(errno.ENOSPC, "No space left on device", "/runs/x")

    assert guarded("quantize", work) == 1
    expected = "raycond: /runs/x: no space is left on the disk; free some, and the same command goes on from here\n"
    assert capsys.readouterr().err == expected


def test_sigterm_ends_the_work_whatever_is_raised_after_it() -> None:
    def work() -> int:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)
        except KeyboardInterrupt:
            raise KeyboardInterrupt("by Ray") from None
        return 0

    assert guarded("verify", work) == 143


def test_work_in_another_thread(capsys: pytest.CaptureFixture[str]) -> None:
    def failing() -> int:
        raise UserError("wrong")

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(guarded, "verify", lambda: 0).result() == 0
        assert pool.submit(guarded, "verify", failing).result() == 2
    assert capsys.readouterr().err == "raycond: wrong\n"


# with Ray, and for SIGINT: tests/runtime/test_cluster.py
@pytest.mark.slow
def test_sigterm_ends_with_a_message(root: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "raycond.cli.main",
        "quantize",
        "--data",
        str(root),
        "--out",
        str(tmp_path / "out"),
    ]
    with subprocess.Popen([*command, *SMALL, "--seeds", *map(str, range(50))], stderr=subprocess.PIPE, text=True) as p:
        while not list((tmp_path / "out").glob("work/cells/*")):
            assert p.poll() is None
            time.sleep(0.05)
        p.send_signal(signal.SIGTERM)
        error = ended(p)
    assert p.returncode == 143
    assert "raycond: stopped; the same command goes on from here" in error
    assert "Traceback" not in error
