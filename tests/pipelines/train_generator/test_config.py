from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from raycond.core.errors import UserError
from raycond.pipelines.loading import presets
from raycond.pipelines.train_generator.config import load_generator_config


def test_presets() -> None:
    assert list(presets("generators")) == ["digits", "imagenette"]
    for name in presets("generators"):
        config = load_generator_config({"data": "digits:", "steps": 7, "warmup": 0}, preset=name)
        assert config.out.endswith(f"runs/{name}-dit")
        assert config.dit.steps == 7
        assert config.codec == "train"


def test_digits_codec_is_that_of_the_quantization() -> None:
    from raycond.pipelines.quantize.config import load_config

    ours, theirs = load_generator_config({}, preset="digits"), load_config({}, preset="digits")
    assert ours.autoencoder == theirs.autoencoder
    assert (ours.size, ours.data, ours.seed) == (theirs.size, theirs.data, theirs.seed)


def test_file_over_preset_and_options_over_file(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text("name: own\ndit: {steps: 70, layers: 3}\n")
    config = load_generator_config({"layers": 5}, preset="digits", config=str(file))
    assert (config.name, config.dit.steps, config.dit.layers) == ("own", 70, 5)
    assert config.dit.width == load_generator_config({}, preset="digits").dit.width


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"data": ""}, "--data: give a URI"),
        ({"codec": "pixels"}, "--codec pixels: a DiTPipeline holds an AutoencoderKL: give kl:WHERE, or train"),
        ({"codec": "taef2:x"}, "--codec taef2:x: a DiTPipeline holds"),
        ({"workers": 3}, "--batch 256: expected a multiple of --workers 3"),
        ({"width": 100}, "--width 100: expected a multiple of --heads 6"),
        ({"steps": 5, "warmup": 5}, "--warmup 5: expected fewer than --steps 5"),
        ({"steps": 0}, "--steps: expected at least 1, not 0"),
        ({"class_dropout": 1.0}, "--class-dropout: expected a number below 1, not 1.0"),
        ({"gpus_per_worker": 0.5}, "--gpus-per-worker 0.5: expected 0 or 1"),
        ({"size": 0}, "--size: "),
        ({"dit": {"depth": 3}}, "dit: unknown field 'depth'"),
        ({"depth": 3}, "unknown field 'depth'"),
    ],
)
def test_wrong_options(options: dict[str, Any], text: str) -> None:
    with pytest.raises(UserError, match=text):
        load_generator_config({"data": "digits:", **options})


def test_unknown_preset() -> None:
    with pytest.raises(UserError, match="--preset cifar: not one of digits, imagenette"):
        load_generator_config({}, preset="cifar")
