"""The whole pipeline in one process: what it makes, and that a rerun does what is missing and nothing else."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from raycond.core.errors import ClassMismatch, RaycondError, UserError
from raycond.data import quarantine
from raycond.data.classes import Classes
from raycond.labels.projector.delta import open_projector
from raycond.labels.registry import open_labeler
from raycond.pipelines import on_demand
from raycond.pipelines.fit_projector.run import fit_projector
from raycond.pipelines.fit_projector.summary import bytes_table, plan, summary
from raycond.runtime.resources import Resources
from tests.data.make import tree
from tests.pipelines.fit_projector.make import CLASSES, OPTIONS, config, data, projector_files
from tests.pipelines.quantize.make import rewritten, stamps
from tests.support.killed import killed_at_rename
from tests.support.recording_runner import RecordingRunner


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return data(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def whole(source: Path) -> Path:
    """An undisturbed run."""
    run = fit_projector(config(source, source / "whole"))
    assert (run.images, run.decoded, run.trained, run.bad) == (20, 2, ["clip", "teachers", "fit"], 0)
    return source / "whole"


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    """In place of `whole`, because the places of teachers are part of it."""
    return Path(shutil.copytree(whole, tmp_path / "copy"))


def test_what_it_makes(source: Path, whole: Path) -> None:
    found = projector_files(whole)
    teachers = sorted(name for name in found if name.startswith("teachers/"))
    assert [name.rsplit("/")[-1] for name in teachers] == ["epoch-001.00.safetensors", "epoch-002.00.safetensors"]
    assert set(found) - set(teachers) == {
        *("delta.safetensors", "projector.json"),
        *("clip/open_clip_config.json", "clip/open_clip_model.safetensors"),
    }
    told = json.loads(found["projector.json"])
    about = told["about"]
    assert told["clip"]["spec"] == "clip"
    assert (about["source"]["images"], len(about["teachers"]), about["steps"]) == (20, 2, 12)
    assert [check["step"] for check in about["checks"]] == [0, 4, 8, 12]
    assert about["kept"] in about["checks"]
    assert about["checks"][0]["step"] == 0
    for content in found.values():
        assert str(source).encode() not in content
    projector = open_projector(str(whole), "cpu")
    assert projector.classes.ids == CLASSES
    assert projector(torch.rand(3, 3, 8, 8)).shape == (3, 2)


def test_each_stage_asks_for_what_it_needs(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = RecordingRunner(trains=False)
    monkeypatch.setattr(on_demand, "open_runner", lambda *_: runner)
    with pytest.raises(RaycondError, match="does not train"):
        fit_projector(config(source, tmp_path / "out", cpus_per_worker=2, gpus_per_worker=1))
    worker = Resources(2, 1.0, "worker")
    decoding = Resources(2, 0.0)  # which computes nothing
    assert runner.asked == [("require", worker), ("decode_class", decoding), ("clip", worker)]


def test_it_is_a_labeler(whole: Path) -> None:
    labeler = open_labeler(f"projector:{whole}", classes=Classes.of(CLASSES), device="cpu")
    assert labeler.logits is not None
    images = torch.rand(3, 3, 8, 8)
    assert torch.allclose(labeler.logits(images), open_projector(str(whole), "cpu")(images), atol=1e-3)


def test_rerun_does_nothing(source: Path, copy: Path) -> None:
    before = stamps(copy)
    run = fit_projector(config(source, copy))
    assert (run.decoded, run.trained, run.images) == (0, [], 20)
    assert rewritten(before, stamps(copy)) == {"raycond.log"}
    text = summary(config(source, copy), run)
    assert "fitted already" in text
    assert "start" not in run.seconds


# pixels 2 a class; each training then writes a state every 2 steps and at its end
@pytest.mark.parametrize("renames", [*(pytest.param(n, marks=pytest.mark.slow) for n in (3, 16)), 9, 26])
def test_killed_run_resumes_to_the_same_bytes(source: Path, whole: Path, renames: int) -> None:
    out = source / f"killed{renames}"  # beside `whole`, because the places of teachers are part of it
    assert killed_at_rename(renames, fit_projector, config(source, out))
    assert not (out / "projector.json").exists()
    before = stamps(out)
    run = fit_projector(config(source, out))
    assert "fit" in run.trained
    assert not {n for n in before if f"{n}.done.json" in before} & rewritten(before, stamps(out))
    assert projector_files(out) == projector_files(whole)


@pytest.mark.parametrize(
    ("options", "decoded", "trained"),
    [
        ({"lr": 1e-3}, 0, ["fit"]),
        ({"conv_rank": 1}, 0, ["fit"]),
        ({"dtype": "int8"}, 0, ["fit"]),  # from the last checkpoint
        ({"keep": (1,)}, 0, ["teachers", "fit"]),
        ({"clip_training": {**OPTIONS["clip_training"], "lr": 1e-4}}, 0, ["clip", "fit"]),
        ({"holdout": 1}, 0, ["clip", "teachers", "fit"]),
        ({"seed": 1}, 0, ["clip", "teachers", "fit"]),
        ({"size": 12}, 2, ["clip", "teachers", "fit"]),
        ({"checkpoint_every": 1}, 0, []),
        ({"cpus_per_worker": 2}, 0, []),
        ({"workers": 2}, 0, []),
        ({"ipc": 9}, 0, []),
    ],
    ids=str,
)
def test_changed_option_redoes_what_depends_on_it(
    source: Path, whole: Path, copy: Path, options: dict[str, Any], decoded: int, trained: list[str]
) -> None:
    run = fit_projector(config(source, copy, **options))
    assert (run.decoded, run.trained) == (decoded, trained)
    same = projector_files(copy)["delta.safetensors"] == projector_files(whole)["delta.safetensors"]
    assert same == (not trained)


def test_back_and_forth_gives_the_same_bytes(source: Path, whole: Path, copy: Path) -> None:
    fit_projector(config(source, copy, keep=(0.5, 1), clip_training={**OPTIONS["clip_training"], "lr": 1e-4}))
    fit_projector(config(source, copy))
    found = projector_files(copy)
    assert {name: found[name] for name in projector_files(whole)} == projector_files(whole)


@pytest.mark.parametrize("name", ["delta.safetensors", "projector.json", "clip/open_clip_config.json", "teachers"])
def test_damaged_file_is_made_again(source: Path, whole: Path, copy: Path, name: str) -> None:
    path = copy / name if name != "teachers" else next((copy / "teachers").rglob("*001*"))
    path.write_bytes(path.read_bytes()[:-3] + b"}}\n")
    run = fit_projector(config(source, copy))
    assert ("teachers" in run.trained) == (name == "teachers")
    assert projector_files(copy) == projector_files(whole)


def test_missing_checkpoint_is_made_again(source: Path, whole: Path, copy: Path) -> None:
    next((copy / "teachers").rglob("*001*")).unlink()
    fit_projector(config(source, copy))
    assert projector_files(copy) == projector_files(whole)


def test_own_clip_and_teachers(source: Path, whole: Path, tmp_path: Path) -> None:
    teacher = next((whole / "teachers").rglob("*002*"))
    spec = f"convnet3-w8@{teacher},size=8,mean=0.5,std=0.3"
    run = fit_projector(config(source, tmp_path / "out", clip=str(whole / "clip"), teachers=[spec]))
    assert run.trained == ["fit"]
    assert set(projector_files(tmp_path / "out")) == {"delta.safetensors", "projector.json"}
    assert json.loads((tmp_path / "out" / "projector.json").read_text())["clip"]["spec"] is None
    used = summary(config(source, tmp_path / "out", clip=str(whole / "clip"), teachers=[spec]), run)
    assert f"--labeler projector:{tmp_path}/out,clip={whole}/clip" in used
    opened = open_labeler(f"projector:{tmp_path}/out,clip={whole}/clip", classes=Classes.of(CLASSES), device="cpu")
    assert opened.name == f"projector:{config(source, tmp_path).name}"
    alone = fit_projector(config(source, tmp_path / "alone", clip=str(whole / "clip"), teachers=["none"], conv_rank=0))
    assert alone.teachers == ()
    assert "with the labels on held-out images" in summary(
        config(source, tmp_path / "alone", clip=str(whole / "clip"), teachers=["none"], conv_rank=0), alone
    )


def test_bad_images_are_left_out_and_counted(tmp_path: Path) -> None:
    root = data(tmp_path / "data")
    (root / "train" / "bee" / "bee_2.png").write_bytes(b"")
    with pytest.raises(UserError, match="1 bad images, more than --max-bad 1% allows"):
        fit_projector(config(root, tmp_path / "out"))
    run = fit_projector(config(root, tmp_path / "out", max_bad="1"))
    assert (run.images, run.bad, run.decoded) == (19, 1, 0)
    (bad,) = quarantine.read(run.layout.quarantine)
    assert bad.class_id == "bee"
    for path in (root / "train" / "ant").iterdir():
        path.write_bytes(b"")
    with pytest.raises(RaycondError, match="class ant: not one of its 10 images can be read"):
        fit_projector(config(root, tmp_path / "out", max_bad="none"))


def test_other_classes_in_the_folder(tmp_path: Path, copy: Path) -> None:
    tree(tmp_path / "data" / "train", dict.fromkeys(("ant", "cat"), 5))
    with pytest.raises(ClassMismatch, match="use another --out"):
        fit_projector(config(tmp_path / "data", copy))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"classes": 5}, "--classes 5: .* has only 2"),
        ({"data": "/nowhere"}, "--data: /nowhere: does not exist"),
        ({"max_bad": "x"}, "--max-bad: "),
        ({"runner": "ray", "out": "memory://x"}, "is of one process"),
        ({"clip": "/nowhere"}, "--clip: CLIP /nowhere: no such folder"),
        ({"clip": "RN51:openai"}, "--clip: CLIP RN51.*neither a folder nor a model of open_clip"),
        ({"teachers": ["resnet18@/nowhere.pt"]}, "--teachers: /nowhere.pt: cannot be read"),
        ({"templates": ["no braces"]}, "--templates: expected photo, simple, imagenet, or texts"),
        ({"teacher_network": "resnet99x"}, "resnet99x"),
        ({"clip_training": {**OPTIONS["clip_training"], "context": 6}}, "clip_training, context: .* more than 6"),
    ],
)
def test_wrong_options_are_found_at_once(source: Path, tmp_path: Path, options: dict[str, Any], text: str) -> None:
    given = dict(options)
    with pytest.raises(UserError, match=text):
        fit_projector(config(source, given.pop("out", tmp_path / "out"), **given))
    assert not (tmp_path / "out" / "work" / "pixels").exists()


def test_checkpoints_of_one_step(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--keep 1 2: both are step 1 of the teacher's training on 16 images"):
        fit_projector(config(source, tmp_path / "out", teacher_batch=64))
    assert not (tmp_path / "out" / "work" / "training").exists()  # before a CLIP is trained


def test_classes_without_names(tmp_path: Path) -> None:
    tree(tmp_path / "data" / "train", dict.fromkeys(("n00000001", "n00000002"), 6))
    with pytest.raises(UserError, match="class n00000001: has no name"):
        fit_projector(config(tmp_path / "data", tmp_path / "out"))


def test_plan(source: Path, tmp_path: Path) -> None:
    text = plan(config(source, tmp_path / "out", workers=2))
    assert "2 classes, 20 images, 10 to 10 a class" in text
    assert "convnet3-w8 after 1 2 epochs" in text
    assert "batches of 4, 2 workers" in text
    assert not os.path.exists(tmp_path / "out" / "work" / "pixels")


def test_bytes(source: Path, whole: Path) -> None:
    run = fit_projector(config(source, whole))
    text = bytes_table(config(source, whole), run)
    assert "300 epochs x 6 images x 2 classes" in text
    assert "projector delta, float16" in text
    assert "top-" not in text  # two classes
    assert "not public: it goes with the delta" in text  # this CLIP was trained here
    size = (whole / "delta.safetensors").stat().st_size
    numbers = sum(p.numel() for p in open_projector(str(whole), "cpu").delta().values())
    assert run.parameters == numbers
    assert 2 * numbers < size < 2 * numbers + 4000


@pytest.mark.slow
def test_remote_folder(source: Path, whole: Path) -> None:
    from raycond.core import files

    out = "memory://projectors/tiny"
    assert fit_projector(config(source, out)).trained
    name = "delta.safetensors"
    assert files.read_bytes(files.join(out, name)) == projector_files(whole)[name]
    assert not fit_projector(config(source, out)).trained
