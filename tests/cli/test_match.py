"""`raycond match` as it is typed."""

from __future__ import annotations

from pathlib import Path

import pytest

from raycond.cli.main import main
from tests.pipelines.match.make import data


@pytest.fixture
def typed(tmp_path: Path) -> list[str]:
    """A small run; methods and further options go behind it."""
    source = data(tmp_path / "data")
    return [
        *("match", "--data", str(source), "--out", str(tmp_path / "out"), "--size", "8", "--network", "convnet3-w4"),
        *("--ipc", "1", "--iterations", "2", "--runner", "local", "--set", "batch=4", "log_every=1"),
    ]


def test_a_run_and_its_summary(typed: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*typed, "--method", "dm", "--no-evaluate"]) == 0
    told = capsys.readouterr()
    assert f"set       {tmp_path}/out/set" in told.out
    assert "match      2/2 steps" in told.err
    assert main(["verify", str(tmp_path / "out")]) == 0


def test_a_dry_run(typed: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*typed, "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert "time      ipc1: " in told
    assert "evaluate  15 trainings: dc, dc (8-bit), random medoid full" in told
    assert not (tmp_path / "out").exists()


def test_what_fails_is_told(typed: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*typed, "lr=1e30", "--method", "dm", "--iterations", "30", "--no-evaluate"]) == 1
    assert "NOT MADE: 1 failed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--set", "speed=1"], "--set speed: is not a setting"),
        (["--set", "speed"], "--set speed: expected field=value"),
        (["--preset", "cifar"], "--preset cifar: not one of"),
        (["--clusters", "3"], "--clusters: goes with --sampling dream"),
    ],
)
def test_wrong_options(typed: list[str], more: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*typed, *more]) == 2
    assert message in capsys.readouterr().err
