"""The whole pipeline in one process: what it makes, and that a rerun does what is missing and nothing else."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raycond.core.errors import ClassMismatch, RaycondError, UserError
from raycond.data import quarantine
from raycond.pipelines import on_demand
from raycond.pipelines.train_generator.run import train_generator
from raycond.pipelines.train_generator.summary import plan, summary
from raycond.runtime.resources import Resources
from tests.pipelines.quantize.make import rewritten, stamps
from tests.pipelines.train_generator.make import CLASSES, config, data, pipeline_files
from tests.support.killed import killed_at_rename
from tests.support.recording_runner import RecordingRunner


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return data(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def whole(source: Path) -> Path:
    """An undisturbed run."""
    run = train_generator(config(source, source / "whole"))
    assert (run.images, run.encoded, run.trained, run.bad) == (14, 2, True, 0)
    return source / "whole"


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "copy"))


def test_what_it_makes(source: Path, whole: Path) -> None:
    from diffusers import DiTPipeline

    assert set(pipeline_files(whole)) == {
        *("transformer/config.json", "transformer/diffusion_pytorch_model.safetensors"),
        *("vae/config.json", "vae/diffusion_pytorch_model.safetensors", "scheduler/scheduler_config.json"),
        *("model_index.json", "classes.json", "raycond.json"),
    }
    pipeline = DiTPipeline.from_pretrained(whole)
    pipeline.set_progress_bar_config(disable=True)
    images = pipeline(pipeline.get_label_ids(["bee"]), num_inference_steps=2, output_type="np").images
    assert images.shape == (1, 8, 8, 3)
    about = json.loads((whole / "raycond.json").read_text())
    assert about["latent_shape"] == [2, 4, 4]
    assert about["codec"]["name"] == "train"
    assert about["source"]["images"] == 14
    assert [step for step, _ in about["loss"]] == [2, 4, 6]
    assert about["trained_on"] == {"workers": 1, "device": "cpu", "threads": 1}
    for content in pipeline_files(whole).values():
        assert str(source).encode() not in content


def test_each_stage_asks_for_what_it_needs(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = RecordingRunner(trains=False)
    monkeypatch.setattr(on_demand, "open_runner", lambda *_: runner)
    with pytest.raises(RaycondError, match="does not train"):
        train_generator(config(source, tmp_path / "out", cpus_per_worker=2, gpus_per_worker=1))
    worker = Resources(2, 1.0, "worker")  # encoding too has the processors of a worker, and its GPU
    assert runner.asked == [("require", worker), ("encode_class", worker), ("train", worker)]


def test_rerun_does_nothing(source: Path, copy: Path) -> None:
    before = stamps(copy)
    run = train_generator(config(source, copy))
    assert (run.encoded, run.trained, run.images) == (0, False, 14)
    assert run.loss == json.loads((copy / "raycond.json").read_text())["loss"][-1][1]
    assert rewritten(before, stamps(copy)) == {"raycond.log"}
    assert "trained already" in summary(run)
    assert "start" not in run.seconds


# renames: autoencoder 6 (images and their record, a checkpoint, the folder and its record),
# latents 2 a class, then a checkpoint every 2 of 6 steps, then the folder
@pytest.mark.parametrize(
    ("renames", "encoded"), [pytest.param(8, 2, marks=pytest.mark.slow), (10, 1), (12, 0), (13, 0), (17, 0)]
)
def test_killed_run_resumes_to_the_same_bytes(
    source: Path, whole: Path, tmp_path: Path, renames: int, encoded: int
) -> None:
    out = tmp_path / "out"
    assert killed_at_rename(renames, train_generator, config(source, out))
    assert not (out / "model_index.json").exists()
    before = stamps(out)
    run = train_generator(config(source, out))
    assert (run.encoded, run.trained) == (encoded, True)
    assert not {n for n in before if f"{n}.done.json" in before} & rewritten(before, stamps(out))
    assert pipeline_files(out) == pipeline_files(whole)


@pytest.mark.parametrize(
    ("options", "encoded", "trained"),
    [
        ({"lr": 1e-3}, 0, True),
        ({"steps": 8}, 0, True),
        ({"seed": 1}, 2, True),
        ({"flip": True}, 2, True),
        ({"name": "other"}, 0, True),  # raycond.json says it; the weights are taken from the last checkpoint
        ({"checkpoint_every": 1}, 0, False),
        ({"cpus_per_worker": 2}, 2, False),  # threads of the encoder; the latents are the same here
        ({"workers": 2}, 0, False),
    ],
    ids=str,
)
def test_changed_option_redoes_what_depends_on_it(
    source: Path, whole: Path, copy: Path, options: dict[str, Any], encoded: int, trained: bool
) -> None:
    run = train_generator(config(source, copy, **options))
    assert (run.encoded, run.trained) == (encoded, trained)
    weights = "transformer/diffusion_pytorch_model.safetensors"
    same = pipeline_files(copy)[weights] == pipeline_files(whole)[weights]
    assert same == (not trained or "name" in options)


@pytest.mark.parametrize(
    "name", ["transformer/diffusion_pytorch_model.safetensors", "classes.json", "vae/config.json", "raycond.json"]
)
def test_damaged_file_is_made_again_without_training(source: Path, whole: Path, copy: Path, name: str) -> None:
    before = stamps(copy / "work" / "training")
    (copy / name).write_bytes((copy / name).read_bytes()[:-3] + b"}}\n")
    train_generator(config(source, copy))
    assert pipeline_files(copy) == pipeline_files(whole)
    assert stamps(copy / "work" / "training") == before


def test_latents_are_those_of_the_codec(source: Path, whole: Path, tmp_path: Path) -> None:
    from raycond.data.images import load
    from raycond.data.sources import open_source
    from raycond.models.codecs.registry import open_codec

    train_generator(config(source, tmp_path / "out", flip=True, codec=f"kl:{whole}", steps=1))
    found = np.load(tmp_path / "out" / "work" / "latents" / "00001.npy")
    assert found.shape == (14, 2, 4, 4)
    refs = open_source(str(source), index_dir=str(tmp_path)).refs(1)
    pixels = torch.from_numpy(np.stack([load(ref, size=8)[0] for ref in refs])).permute(0, 3, 1, 2)
    codec = open_codec(f"kl:{whole}")
    expected = torch.cat([codec.encode(pixels), codec.encode(pixels.flip(3))])
    assert np.allclose(found, expected, rtol=2e-3, atol=1e-3)
    vae = "vae/diffusion_pytorch_model.safetensors"
    assert pipeline_files(tmp_path / "out")[vae] == pipeline_files(whole)[vae]
    about = json.loads((tmp_path / "out" / "raycond.json").read_text())
    assert about["codec"]["name"] == "kl:whole"


def test_bad_images_are_left_out_and_counted(tmp_path: Path) -> None:
    root = data(tmp_path / "data")
    (root / "train" / "bee" / "bee_2.png").write_bytes(b"")
    with pytest.raises(UserError, match="1 bad images, more than --max-bad 1% allows"):
        train_generator(config(root, tmp_path / "out"))
    run = train_generator(config(root, tmp_path / "out", max_bad="1"))
    assert (run.images, run.bad, run.encoded) == (13, 1, 0)
    (bad,) = quarantine.read(run.layout.quarantine)
    assert bad.class_id == "bee"
    for path in (root / "train" / "ant").iterdir():
        path.write_bytes(b"")
    with pytest.raises(RaycondError, match="class ant: not one of its 7 images can be read"):
        train_generator(config(root, tmp_path / "out", max_bad="none"))


def test_other_classes_in_the_folder(tmp_path: Path, copy: Path) -> None:
    from tests.data.make import tree

    tree(tmp_path / "data" / "train", dict.fromkeys(("ant", "cat"), 3))
    with pytest.raises(ClassMismatch, match="use another --out"):
        train_generator(config(tmp_path / "data", copy))
    (copy / "raycond.json").unlink()
    with pytest.raises(UserError, match="a pipeline that raycond did not train"):
        train_generator(config(tmp_path / "data", copy))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"size": 7}, "--size 7: codec train needs a multiple of 2"),
        ({"patch": 3}, "patches of 3"),
        ({"classes": 5}, "--classes 5: .* has only 2"),
        ({"data": "/nowhere"}, "--data: /nowhere: does not exist"),
        ({"max_bad": "x"}, "--max-bad: "),
        ({"runner": "ray", "out": "memory://x"}, "is of one process"),
        ({"codec": "kl:/nowhere"}, "--codec kl:/nowhere: /nowhere: no such folder"),
    ],
)
def test_wrong_options_are_found_at_once(source: Path, tmp_path: Path, options: dict[str, Any], text: str) -> None:
    with pytest.raises(UserError, match=text):
        train_generator(config(source, options.pop("out", tmp_path / "out"), **options))


def test_shifted_latents_are_refused(source: Path, copy: Path, tmp_path: Path) -> None:
    settings = json.loads((copy / "vae" / "config.json").read_text())
    (copy / "vae" / "config.json").write_text(json.dumps({**settings, "shift_factor": 0.5}))
    with pytest.raises(UserError, match=r"latents are shifted by 0.5, which DiTPipeline would not undo"):
        train_generator(config(source, tmp_path / "out", codec=f"kl:{copy}"))


def test_plan(source: Path, tmp_path: Path) -> None:
    text = plan(config(source, tmp_path / "out", workers=2))
    assert "2 classes, 14 images, 7 to 7 a class" in text
    assert "latents 2×4×4" in text
    assert "6 steps of 4, 2 workers" in text
    assert not os.path.exists(tmp_path / "out")


@pytest.mark.slow
def test_remote_folder(source: Path, whole: Path) -> None:
    from raycond.core import files

    out = "memory://generators/tiny"
    run = train_generator(config(source, out))
    assert run.trained
    for name, content in pipeline_files(whole).items():
        assert files.read_bytes(files.join(out, name)) == content
    assert not train_generator(config(source, out)).trained


def test_classes_are_named(whole: Path) -> None:
    assert json.loads((whole / "classes.json").read_text())["ids"] == list(CLASSES)
