from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from raycond.core.errors import UserError
from raycond.pipelines.fit_projector.config import load_projector_config
from raycond.pipelines.loading import presets


def test_presets() -> None:
    assert list(presets("projectors")) == ["digits", "fashion-mnist", "imagenet", "imagenette"]
    for name in presets("projectors"):
        config = load_projector_config({"data": "digits:", "epochs": 7, "lambda": 0.5}, preset=name)
        assert config.out.endswith(f"runs/{name}-projector")
        assert (config.fit.epochs, config.fit.ce) == (7, 0.5)


def test_paper_preset() -> None:
    config = load_projector_config({"data": "digits:"}, preset="imagenet")
    assert (config.clip, config.conv_rank, config.head_rank, config.layout) == ("RN50:openai", 8, 128, "3x3")
    assert (config.teacher.network, len(config.teacher.keep)) == ("resnet18", 9)


def test_defaults() -> None:
    config = load_projector_config({"data": "digits:"})
    assert (config.clip, config.teachers, config.dtype) == ("RN50:openai", ("train",), "float16")


def test_options_of_sections() -> None:
    given = {"data": "digits:", "lambda": "0.3", "clip_norm": "2", "clip": "ViT-B-32:x", "keep": ["1", "2.5"]}
    config = load_projector_config({**given, "teacher_network": "convnet3", "scale": ["0.2", "0.9"], "flip": True})
    assert (config.clip, config.fit.clip, config.fit.ce, config.fit.flip) == ("ViT-B-32:x", 2, 0.3, True)
    assert (config.teacher.keep, config.teacher.network, config.teacher.batch) == ((1, 2.5), "convnet3", 256)
    assert config.fit.scale == (0.2, 0.9)
    assert not config.teacher.flip


def test_file_over_preset_and_options_over_file(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text("name: own\nfit: {epochs: 70, batch: 16}\nteacher: {lr: 0.5}\nclip_training: {width: 4}\n")
    config = load_projector_config({"batch": 32, "keep": [1]}, preset="digits", config=str(file))
    assert (config.name, config.fit.epochs, config.fit.batch) == ("own", 70, 32)
    preset = load_projector_config({}, preset="digits")
    assert config.fit.lr == preset.fit.lr
    assert (config.teacher.lr, config.teacher.keep, config.teacher.network) == (0.5, (1,), preset.teacher.network)
    assert config.clip_training is not None
    assert preset.clip_training is not None
    assert (config.clip_training.width, config.clip_training.embed) == (4, preset.clip_training.embed)


def test_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rn").mkdir()
    config = load_projector_config({"data": "d", "clip": "rn", "teachers": ["resnet18@w.pt,size=32", "mobilenet_v2"]})
    assert config.data == str(tmp_path / "d")
    assert config.clip == str(tmp_path / "rn")
    assert config.teachers == (f"resnet18@{tmp_path}/w.pt,size=32", "mobilenet_v2")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"data": ""}, "--data: give a URI"),
        ({"clip": "train"}, "--clip train: needs a `clip_training` section"),
        ({"workers": 3}, "--batch 256: expected a multiple of --workers 3"),
        ({"workers": 3, "batch": 3}, "teacher.batch 256: expected a multiple of --workers 3"),
        ({"teachers": ["train", "resnet18"]}, "--teachers: train and none stand alone"),
        ({"teachers": []}, "--teachers: give at least one, or none"),
        ({"gpus_per_worker": 0.5}, "--gpus-per-worker 0.5: expected 0 or 1"),
        ({"epochs": 0}, "--epochs: expected a number above 0, not 0"),
        ({"lambda": -1}, "--lambda: expected at least 0, not -1"),
        ({"clip_norm": -1}, "--clip-norm: "),
        ({"scale": [0.9, 0.2]}, "--scale: expected two shares"),
        ({"keep": [1, 1.001]}, "--keep: expected epochs of at most two decimal places"),
        ({"conv_rank": 0, "head_rank": 0}, "--conv-rank 0 --head-rank 0: leave nothing to fit"),
        ({"targets": "labels"}, "--targets: "),
        ({"keep": [0]}, "--keep: expected different epochs above 0"),
        ({"conv_rank": -1}, "--conv-rank: "),
        ({"dtype": "int4"}, "--dtype: "),
        ({"depth": 3}, "unknown field 'depth'"),
        ({"fit": {"depth": 3}}, "fit: unknown field 'depth'"),
        (
            {"clip": "train", "clip_training": {"image_size": 40}},
            "clip_training.image_size: a resnet needs",
        ),
    ],
)
def test_wrong_options(options: dict[str, Any], text: str) -> None:
    with pytest.raises(UserError, match=text):
        load_projector_config({"data": "digits:", **options})


def test_unknown_preset() -> None:
    with pytest.raises(UserError, match="--preset cifar: not one of digits, fashion-mnist, imagenet, imagenette"):
        load_projector_config({}, preset="cifar")
