"""The options of an evaluation grid, and what `--resume` makes of those that are given with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from raycond.core.errors import OptionError, UserError
from raycond.pipelines.evaluate.config import load_grid_config
from raycond.pipelines.evaluate.prepare import resumed


def test_places_of_a_grid_hold_in_every_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = load_grid_config(
        {"sets": ["a/set"], "labeler": "once:mlp@net.pt,mean=0.5", "protocol": "mine.yaml", "val": "val"}
    )
    assert config.sets == (f"{tmp_path}/a/set",)
    assert config.out == f"{tmp_path}/a/grid"
    assert config.labeler == f"once:mlp@{tmp_path}/net.pt,mean=0.5"
    assert (config.protocol, config.val) == (f"{tmp_path}/mine.yaml", f"{tmp_path}/val")
    assert load_grid_config({"sets": ["a"], "labeler": "teacher:resnet18"}).labeler == "teacher:resnet18"
    with pytest.raises(UserError, match="--sets: give at least one folder"):
        load_grid_config({"seeds": [1]})


def test_without_a_labeler_that_of_the_protocols_source_is_taken() -> None:
    def labeler(**options: Any) -> str:
        return load_grid_config({"sets": ["a"], **options}).labeler

    assert labeler(protocol="rded") == "teacher:resnet18:IMAGENET1K_V1"
    assert labeler(protocol="rded", labeler="hard") == "hard"
    assert labeler(protocol="rded", changes={"loss": "cross-entropy"}) == "hard"
    assert labeler(protocol="minimax-hard") == labeler() == labeler(protocol="nowhere") == "hard"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"score_lrs": [0.1]}, "--score-lrs: does nothing without --scores"),
        ({"full_accuracy": 69.8}, "--full-accuracy: does nothing without --scores"),
        ({"score_lrs": [0.0], "scores": True}, "--score-lrs: expected numbers above 0"),
        ({"sets": ["a", "a"]}, "--sets: .* none twice"),
        ({"ipc": [0]}, "--ipc: expected numbers from 1 up, not 0"),
        ({"seeds": [-1]}, "--seeds: expected numbers from 0 up"),
        ({"baselines": ["none", "full"]}, "--baselines: none goes with no other"),
        ({"baselines": ["herdin"]}, "--baselines: .*; did you mean herding?"),
        ({"gpus_per_trial": 2}, "--gpus-per-trial: expected a fraction from 0 to 1, not 2"),
        ({"labeler": "techer:x"}, "--labeler: .*; did you mean teacher?"),
        ({"proxy_net": 2}, "unknown field 'proxy_net'; did you mean proxy_nets"),
    ],
)
def test_wrong_options(options: dict[str, Any], text: str) -> None:
    with pytest.raises(OptionError, match=text):
        load_grid_config({"sets": ["s"], **options})


@pytest.fixture
def grid(tmp_path: Path) -> dict[str, Any]:
    """The options of a grid that was started in tmp_path/grid."""
    options = {
        "sets": [str(tmp_path / "set")],
        "out": str(tmp_path / "grid"),
        "ipc": ["1", "3"],
        "changes": {"steps": 5},
        "labeler": "projector:fit",
        "seeds": ["0"],
    }
    (tmp_path / "grid").mkdir()
    (tmp_path / "grid" / "config.json").write_text(json.dumps(load_grid_config(options).to_dict()))
    return options


def test_resume_takes_the_options_that_a_grid_was_started_with(grid: dict[str, Any]) -> None:
    before = load_grid_config(grid)
    for options in ({}, *({name: value} for name, value in grid.items()), grid):
        assert resumed(grid["out"], options) == before
    now = resumed(grid["out"], {**grid, "trials_at_once": "2", "runner": "local", "max_bad": "3%"})
    assert (now.trials_at_once, now.runner, now.max_bad) == (2, "local", "3%")
    assert now.seeds == before.seeds


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"ipc": ["1"]}, "--ipc: the grid in .*grid has 1 3, not 1; leave the option out"),
        ({"changes": {"steps": 6}}, "--set: .* has steps=5, not steps=6"),
        ({"labeler": "hard"}, "--labeler: .* not hard"),
        ({"data": "s3://other"}, "--data: .* has None, not s3://other"),
        ({"scores": True}, "--scores: "),
        ({"max_pixels": "9"}, "--max-pixels: "),
    ],
)
def test_resume_refuses_an_option_that_differs(grid: dict[str, Any], changed: dict[str, Any], text: str) -> None:
    with pytest.raises(UserError, match=text):
        resumed(grid["out"], {**grid, **changed})
