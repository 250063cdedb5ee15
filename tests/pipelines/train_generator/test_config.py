from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from raycond.cli.train_generator import generator_options
from raycond.core.errors import UserError
from raycond.models.generators.options import DitConfig
from raycond.pipelines.loading import presets
from raycond.pipelines.train_generator.config import GeneratorTrainingConfig, load_generator_config


def test_presets() -> None:
    assert list(presets("generators")) == ["digits", "imagenette"]
    for name in presets("generators"):
        config = load_generator_config({"data": "digits:", "steps": 7, "warmup": 0}, preset=name)
        assert config.out.endswith(f"runs/{name}-dit")
        assert config.dit.steps == 7
        assert config.codec == "train"
        assert config.encoding().autoencoder == config.autoencoder


def test_presets_name_their_commands() -> None:
    for name, text in presets("generators").items():
        assert text.startswith(f"# python pipelines/train_generator.py --preset {name} ")


def test_digits_codec_is_that_of_the_quantization() -> None:
    from raycond.pipelines.quantize.config import load_config

    ours, theirs = load_generator_config({}, preset="digits"), load_config({}, preset="digits")
    assert ours.autoencoder == theirs.autoencoder
    assert (ours.size, ours.data, ours.seed) == (theirs.size, theirs.data, theirs.seed)


def test_every_field_is_an_option() -> None:
    parser = argparse.ArgumentParser()
    generator_options(parser)
    known = {action.dest for action in parser._actions}
    wanted = {f.name for f in fields(GeneratorTrainingConfig)} | {f.name for f in fields(DitConfig)}
    assert wanted - known == {"autoencoder", "dit"}
    given = vars(parser.parse_args(["--steps", "9", "--flip", "--data", "digits:", "--no-dashboard"]))
    options = {k: v for k, v in given.items() if k not in ("preset", "config", "dry_run")}
    config = load_generator_config(options)
    assert (config.dit.steps, config.flip, config.dashboard, config.dit.width) == (9, True, False, 384)


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
        ({"codec": "train"}, "--codec train: needs an `autoencoder` section"),
        ({"workers": 3}, "--batch 256: expected a multiple of --workers 3"),
        ({"width": 100}, "--width 100: expected a multiple of --heads 6"),
        ({"steps": 5, "warmup": 5}, "--warmup 5: expected fewer than --steps 5"),
        ({"steps": 0}, "--steps: .*greater than or equal to 1.*, not 0"),
        ({"class_dropout": 1.0}, "--class-dropout: .*less than 1"),
        ({"gpus_per_worker": 0.5}, "--gpus-per-worker 0.5: expected 0 or 1"),
        ({"size": 0}, "--size: "),
        ({"dit": {"depth": 3}}, "--depth: "),
        ({"depth": 3}, "unknown field 'depth'"),
    ],
)
def test_wrong_options(options: dict[str, Any], text: str) -> None:
    with pytest.raises(UserError, match=text):
        load_generator_config({"data": "digits:", **options})


def test_unknown_preset() -> None:
    with pytest.raises(UserError, match="--preset cifar: not one of digits, imagenette"):
        load_generator_config({}, preset="cifar")
