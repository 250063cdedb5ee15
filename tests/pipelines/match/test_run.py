"""A whole run: what it leaves, what a rerun and a changed option do, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import raycond
from raycond.core import files
from raycond.core.errors import ClassMismatch, UserError
from raycond.evaluate.protocol import parse_settings
from raycond.evaluate.training_sets import SetImages
from raycond.pipelines.evaluate.config import load_grid_config
from raycond.pipelines.evaluate.run import evaluate_grid
from raycond.pipelines.match.config import load_matching_config
from raycond.pipelines.match.run import match
from raycond.sets.inspect import describe
from raycond.sets.verify import verify
from tests.pipelines.match.make import CLASSES, IDC, config, contents, data, lines, protocol, stamps
from tests.support.killed import killed_at_rename


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return data(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def evaluated(root: Path) -> Path:
    """A run of IDC with DREAM, evaluated, with a curve of accuracy."""
    out = root / "evaluated"
    options = {"evaluate": True, "curve": True, "sampling": "dream", "clusters": 4, "protocol": protocol(root)}
    assert not match(config(root, out, **IDC, **options)).failures
    return out


def test_what_a_run_leaves(evaluated: Path) -> None:
    assert {p.name for p in evaluated.iterdir()} == {
        *("config.json", "set", "report.html", "results.csv", "curve.csv", "quarantine.parquet", "raycond.log"),
        *("images", "tensorboard", "work"),
    }
    assert verify(str(evaluated / "set")) == []
    assert sorted(p.name for p in (evaluated / "images").iterdir()) == [
        f"ipc{ipc}-{iteration:06d}.png" for ipc in (1, 2) for iteration in (0, 1, 2)
    ]
    assert all(list((evaluated / "tensorboard" / f"ipc{ipc}").iterdir()) for ipc in (1, 2))


def test_rows(evaluated: Path) -> None:
    found = [(row["method"], row["ipc"], row["images"]) for row in lines(evaluated / "results.csv")]
    assert found == [
        *(("random", "1", "3"), ("random", "2", "6"), ("medoid", "1", "3"), ("medoid", "2", "6")),
        *(("idc+dream", "1", "12"), ("idc+dream", "2", "24")),
        *(("idc+dream (8-bit)", "1", "12"), ("idc+dream (8-bit)", "2", "24"), ("full", "", "36")),
    ]


def test_the_curve(evaluated: Path) -> None:
    found = lines(evaluated / "curve.csv")
    assert list(found[0]) == ["ipc", "part", "step", "iteration", "seconds", "loss", "top1"]
    of_two = [row for row in found if row["ipc"] == "2"]
    assert [row["step"] for row in of_two] == list("0123456")
    assert [bool(row["loss"]) for row in of_two] == [False, *[True] * 6]
    assert [bool(row["top1"]) for row in of_two] == [True, False, False, True, False, False, True]
    seconds = [float(row["seconds"]) for row in of_two]
    assert seconds == sorted(seconds)


def test_the_set_says_how_it_was_made(evaluated: Path) -> None:
    manifest = json.loads((evaluated / "set" / "manifest.json").read_text())
    assert (manifest["method"], manifest["generator"], manifest["codec"]["name"]) == ("IDC+DREAM", "match", "none")
    four = {"factor": 2, "decoder": "single", "bound": 128}
    assert manifest["formation"] == {"ipc1": four, "ipc2": four}
    assert manifest["cells"]["ipc2"] == {"images": 6, "source_images": 36}
    assert manifest["config"]["matching"]["ipc2"]["sampling"]["clusters"] == 4
    images = torch.cat([torch.from_numpy(np.load(evaluated / f"work/pixels/classes/{k:05d}.npy")) for k in range(3)])
    mean = (images.double() / 255).mean((0, 2, 3))
    assert manifest["normalization"]["mean"] == pytest.approx(mean.tolist(), abs=1e-5)
    assert "2 × 2 training images in each (decoder single)" in describe(str(evaluated / "set"))


def test_floats_and_bytes_are_the_same_images(evaluated: Path) -> None:
    opened = raycond.open(str(evaluated / "set"), 2)
    floats = opened.float_pixels()
    assert floats is not None
    stored = torch.stack([opened[k][0] for k in range(6)])
    assert float((floats.clamp(0, 1) - stored).abs().max()) <= 0.5 / 255 + 1e-5
    assert len(SetImages(opened.path, 2, "uniform", exact=True).load(3, _decoding())) == 24


def _decoding() -> Any:
    from raycond.data.images import Decoding

    return Decoding(8, "crop", 3, 10**6)


def test_medoids_are_real_images_of_their_class(evaluated: Path) -> None:
    opened = raycond.open(str(evaluated / "set"), 2)
    for label, image_id in zip(opened.labels.tolist(), opened.source_ids, strict=True):
        assert CLASSES[label] in image_id
    assert len(set(opened.source_ids)) == 6


def test_the_report_has_curves_and_pictures(evaluated: Path) -> None:
    page = (evaluated / "report.html").read_text()
    for text in ("Matching loss", "Accuracy on the way", "Accuracy against time", "ipc2, after 2 iterations"):
        assert text in page
    assert "float tensors" in page


def test_a_rerun_does_nothing(root: Path, evaluated: Path) -> None:
    options = {"evaluate": True, "curve": True, "sampling": "dream", "clusters": 4, "protocol": protocol(root)}
    before = stamps(evaluated / "set") | stamps(evaluated / "work")
    run = match(config(root, evaluated, **IDC, **options))
    assert (run.computed, run.written, len(run.rows)) == (0, False, 9)
    assert stamps(evaluated / "set") | stamps(evaluated / "work") == before
    assert [bool(row["top1"]) for row in lines(evaluated / "curve.csv")][:1] == [True]


@pytest.mark.parametrize("method", ["dc", "dsa", "dm"])
def test_the_other_methods(root: Path, tmp_path: Path, method: str) -> None:
    run = match(config(root, tmp_path / "out", method=method, ipc=(2,)))
    assert not run.failures
    assert verify(str(tmp_path / "out" / "set")) == []
    assert run.manifest["method"] == method.upper()
    assert "formation" not in run.manifest
    (phase,) = run.phases
    tensors = raycond.open(str(tmp_path / "out" / "set"), 2).tensors()["images"]
    assert torch.equal(tensors, phase.images())  # as they were optimized, without limits


def test_parts_of_dm_give_the_images_of_one(root: Path, tmp_path: Path) -> None:
    """Networks and real images are drawn by the seed alone, and one class does not move another's images."""
    for parts in (1, 3):
        match(config(root, tmp_path / f"parts{parts}", method="dm", ipc=(2,), parts=parts))
    one, three = (raycond.open(str(tmp_path / f"parts{k}" / "set"), 2).tensors()["images"] for k in (1, 3))
    torch.testing.assert_close(one, three, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def whole(root: Path) -> Path:
    """An undisturbed run of IDC with DREAM, which is not evaluated."""
    match(config(root, root / "whole", sampling="dream", clusters=4, **IDC))
    return root / "whole"


# The configuration takes one rename, three classes two each, a phase some fifteen.
@pytest.mark.parametrize("renames", [4, 16, 40])
def test_a_killed_run_resumes_to_the_same_bytes(root: Path, whole: Path, tmp_path: Path, renames: int) -> None:
    settings = config(root, tmp_path / "out", sampling="dream", clusters=4, **IDC)
    assert killed_at_rename(renames, match, settings)
    assert not (tmp_path / "out" / "set" / "manifest.json").exists()
    run = match(settings)
    assert not run.failures
    assert run.computed == (2 if renames < 30 else 1)
    assert contents(tmp_path / "out" / "set") == contents(whole / "set")
    assert contents(tmp_path / "out" / "images") == contents(whole / "images")


def test_bad_images_are_put_into_quarantine(tmp_path: Path) -> None:
    source = data(tmp_path / "data")
    (source / "train" / "bee" / "bee_3.png").write_bytes(b"x")
    run = match(config(source, tmp_path / "out", max_bad="5%"))
    assert [(bad.id, bad.class_id) for bad in run.bad] == [("bee/bee_3.png", "bee")]
    assert run.images == 35
    assert run.manifest["source"]["quarantined"] == 1
    assert run.manifest["cells"]["ipc1"]["source_images"] == 35
    with pytest.raises(UserError, match="1 bad images, more than --max-bad"):
        match(config(source, tmp_path / "strict", max_bad="0"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ipc": (13,)}, "--ipc 13: more than the images of class ant"),
        ({"ipc": (4,), "factor": 2, "method": "idc"}, "has 12 usable images, and 16 are needed for --ipc 4"),
        ({"network": "convnet9"}, "--network"),
        ({"evaluate": True, "students": ("magic",)}, "--students"),
        ({"evaluate": True, "protocol": "magic"}, "--protocol"),
        ({"evaluate": True, "protocol": "rded"}, "learns soft labels"),
        ({"data": "/nowhere"}, "--data"),
        ({"published": "mnist", "channels": 3, "normalization": "published"}, "has 1 channels and the images have 3"),
    ],
)
def test_what_is_refused(root: Path, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        match(config(root, tmp_path / "out", **options))
    assert not (tmp_path / "out" / "set").exists()


def test_other_classes_need_another_folder(root: Path, tmp_path: Path) -> None:
    match(config(root, tmp_path / "out", ipc=(1,)))
    with pytest.raises(ClassMismatch):
        match(config(root, tmp_path / "out", ipc=(1,), classes=2))


def test_a_loss_that_is_not_finite_is_a_failure(root: Path, tmp_path: Path) -> None:
    options = {"method": "dm", "ipc": (1,), "iterations": 30, "changes": {"lr": 1e30, "batch": 8}}
    run = match(config(root, tmp_path / "out", **options))
    assert len(run.failures) == 1
    assert "dm ipc1: matching: the loss is " in run.failures[0]
    assert not run.manifest


@pytest.mark.slow
def test_settings_of_imagenet_with_the_memory_told_beforehand(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """224 pixels, ResNetAP-10 and nine tiles an image, in two parts; a single step with few images."""
    few = ["steps=1", "batch=2", "max_synthetic=2", "training.images=2", "training.batch=2", "training.pretrain=0"]
    options = {"data": str(data(tmp_path / "data", train=9)), "out": str(tmp_path / "out"), "classes": 2, "parts": 2}
    options |= {"ipc": (1,), "iterations": 1, "snapshots": 0, "runner": "local", "evaluate": False}
    options["changes"] = parse_settings(few)
    settings = load_matching_config(options, preset="imagenet-100")
    assert (settings.matching(1).network, settings.shape, settings.factor) == ("resnetap10", (3, 224, 224), 3)
    run = match(settings)
    assert not run.failures
    told = capsys.readouterr().err
    assert told.count(" MiB on its cpu") == 2
    assert told.index("MiB on its cpu") < told.index("match ")
    assert run.manifest["formation"]["ipc1"]["factor"] == 3
    assert raycond.open(str(tmp_path / "out" / "set"), 1).tensors()["images"].shape == (2, 3, 224, 224)


def test_a_set_is_compared_later_as_any_other(evaluated: Path, tmp_path: Path) -> None:
    options = {"sets": [str(evaluated)], "out": str(tmp_path), "students": ("mlp-w4",), "seeds": (0,), "ipc": (2,)}
    settings = {"protocol": protocol(tmp_path), "baselines": ("full",), "runner": "local"}
    found = evaluate_grid(load_grid_config({**options, **settings}))
    assert not found.failures
    assert [row.method for row in sorted(found.rows, key=lambda row: row.method)] == [
        *("full", "idc+dream", "idc+dream (8-bit)", "medoid", "random"),
    ]
    assert found.normalization is not None
    assert "IDC" in (tmp_path / "report.html").read_text()


@pytest.mark.slow
def test_a_run_in_an_object_store(root: Path, whole: Path, tmp_path: Path) -> None:
    out = f"memory://test-match{tmp_path}/out"
    run = match(config(root, out, sampling="dream", clusters=4, **IDC))
    assert not run.failures
    assert verify(out) == []
    for name, data_of in contents(whole / "set").items():
        assert files.read_bytes(f"{out}/set/{name}") == data_of
    assert min(entry.name for entry in files.listdir(f"{out}/images")) == "ipc1-000000.png"
    assert match(config(root, out, sampling="dream", clusters=4, **IDC)).computed == 0
