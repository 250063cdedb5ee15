"""The commands about labels, from a condensed set to a grid that trains with them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from raycond.cli.main import main
from raycond.data import quarantine
from raycond.data.classes import Classes
from raycond.labels.projector.delta import save_projector
from raycond.labels.projector.network import Projector
from raycond.models import students
from raycond.models.clip import open_clip_model
from raycond.pipelines.evaluate.config import load_grid_config
from raycond.pipelines.quantize.run import quantize
from raycond.sets.manifest import read_manifest
from raycond.sets.verify import verify
from tests.labels.clips import saved
from tests.labels.projectors import shaken
from tests.pipelines.evaluate.make import made_run, table
from tests.pipelines.quantize.make import CLASSES, config, data

SETTINGS = ["--protocol", "quick", "--set", "loss=kl", "temperature=4", "steps=4", "checks=1"]
GRID = [*SETTINGS, "--students", "mlp-w4", "--seeds", "0", "--baselines", "none", "--weights", "sqrt"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_run(tmp_path_factory.mktemp("labels"))


@pytest.fixture(scope="module")
def teacher(made: Path) -> str:
    torch.manual_seed(0)
    net = students.build("convnet3-w8", classes=4, size=8, channels=3)
    torch.save(net.state_dict(), made / "teacher.pt")
    return f"convnet3-w8@{made}/teacher.pt,mean=0.5,std=0.25"


def evaluate(made: Path, out: Path, labeler: str) -> list[dict[str, str]]:
    command = ["evaluate", "--sets", str(made / "set"), "--out", str(out), "--runner", "local", "--labeler", labeler]
    assert main([*command, *GRID]) == 0
    return table(out)


def test_stored_labels(made: Path, teacher: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = ["store-labels", str(made / "set"), str(tmp_path / "labels"), "--labeler", f"teacher:{teacher}"]
    assert main([*store, *SETTINGS, "--views", "2", "--top-k", "2"]) == 0
    assert "ipc3: 2 views of 12 images" in capsys.readouterr().out
    assert main(["verify", str(tmp_path / "labels")]) == 0
    assert "labels: whole" in capsys.readouterr().out
    rows = evaluate(made, tmp_path / "grid", f"stored:{tmp_path}/labels")
    assert [row["ipc"] for row in rows] == ["1", "3"]
    assert all(row["labeler"].startswith("stored:") for row in rows)
    assert main([*store[:-2], "--labeler", "hard", *SETTINGS]) == 2
    assert "raycond: " in capsys.readouterr().err
    assert main([*store, *SETTINGS, "--device", "tpu"]) == 2
    assert "--device tpu: expected cpu or cuda" in capsys.readouterr().err
    (tmp_path / "labels" / "ipc3" / "ids.safetensors").unlink()
    assert main(["verify", str(tmp_path / "labels")]) == 1
    assert "ipc3: ids.safetensors: missing" in capsys.readouterr().out
    assert main(["verify", str(tmp_path / "labels" / "ipc1")]) == 0
    (tmp_path / "labels" / "ipc1" / "labels.json").unlink()  # as while it is written
    assert main(["verify", str(tmp_path / "labels")]) == 1
    assert "ipc1: " in capsys.readouterr().out


def test_a_projector_that_a_set_carries(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = made_run(tmp_path)
    projector = shaken(Projector(open_clip_model(saved(tmp_path / "fit" / "clip"), device="cpu"), classes()))
    save_projector(str(tmp_path / "fit"), projector, "int8", {"name": "toy"})
    assert main(["attach", str(run / "set"), str(tmp_path / "fit")]) == 0
    told, table_of_bytes = capsys.readouterr().out.split("\n\n", 1)
    assert json.loads(told)["label_generator"]["dtype"] == "int8"
    assert "| images |" in table_of_bytes
    assert f"use       --labeler projector:{run}/set\n" in table_of_bytes
    assert verify(str(run / "set")) == []
    rows = evaluate(run, tmp_path / "grid", f"projector:{run}/set")
    assert [row["labeler"] for row in rows] == ["projector:toy"] * 2
    # quantizing again finds the set done, and leaves the projector where it is
    assert quantize(config(tmp_path / "data", run)).computed == {"condense": 0, "write": 0}
    assert "label_generator" in read_manifest(str(run / "set")).content
    damaged = run / "set" / "labels" / "projector" / "delta.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert quantize(config(tmp_path / "data", run)).computed == {"condense": 0, "write": 1}
    assert verify(str(run / "set")) == []
    assert not damaged.exists()


def classes() -> Classes:
    return Classes(CLASSES, CLASSES)


def test_collages(teacher: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = data(tmp_path / "data")
    command = ["collages", str(tmp_path / "set"), "--data", str(source), "--teacher", teacher, "--size", "8"]
    assert main([*command, "--ipc", "1", "2", "--pool", "9", "--crops", "2"]) == 0
    assert f"set       {tmp_path}/set: 12 images" in capsys.readouterr().out
    assert verify(str(tmp_path / "set")) == []
    assert read_manifest(str(tmp_path / "set")).content["method"] == "RDED"
    (source / "train" / CLASSES[0] / f"{CLASSES[0]}_0.png").write_bytes(b"")
    assert main([*command, "--ipc", "1", "--pool", "30", "--max-bad", "5%"]) == 0
    listed = tmp_path / "set-work" / "quarantine.parquet"
    assert f"left out  1 images that cannot be read, listed in {listed}" in capsys.readouterr().out
    assert [one.class_id for one in quarantine.read(str(listed))] == [CLASSES[0]]
    assert main([*command, "--ipc", "0"]) == 2
    assert "ipc must be at least 1" in capsys.readouterr().err


def test_places_of_labelers_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "rn50").mkdir(parents=True)
    for given, wanted in (
        ("projector:fit", f"projector:{tmp_path}/fit"),
        ("projector:fit,clip=RN50:openai", f"projector:{tmp_path}/fit,clip=RN50:openai"),
        ("projector:fit,clip=models/rn50", f"projector:{tmp_path}/fit,clip={tmp_path}/models/rn50"),
        ("stored:labels", f"stored:{tmp_path}/labels"),
        ("hard", "hard"),
    ):
        assert load_grid_config({"sets": ["s"], "labeler": given}).labeler == wanted
