"""Options from a preset, a file and the command line: which wins, and what is refused."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest

from raycond.core.errors import UserError
from raycond.pipelines.loading import presets
from raycond.pipelines.quantize.config import QuantizeConfig, load_config


def test_command_line_wins_over_file_wins_over_preset(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text("ipc: [2, 3]\nseed: 5\n")
    made = load_config({"seed": 7}, preset="digits", config=str(file))
    assert (made.size, made.ipc, made.seed) == (8, (2, 3), 7)
    assert load_config({}, preset="digits").ipc == (1, 10, 50)


@pytest.mark.parametrize("name", presets())
def test_every_preset_is_valid(name: str) -> None:
    assert load_config({"data": "digits:"}, preset=name).name == name


def test_what_is_saved_makes_the_same_configuration() -> None:
    made = load_config({}, preset="digits")
    assert load_config(made.to_dict()) == made


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ("/data/imagenet/train", "imagenet"),
        ("s3://bucket/flowers/", "flowers"),
        ("digits:", "digits"),
        ("/data/cars-{000..009}.tar", "cars"),
        ("/data/pets.parquet", "pets"),
        ("/train", "run"),
    ],
)
def test_name_and_folder_come_from_the_source(data: str, name: str) -> None:
    made = load_config({"data": data})
    assert (made.name, made.out) == (name, os.path.abspath(f"runs/{name}"))
    assert load_config({"data": data, "name": "other"}).out.endswith("/runs/other")


def test_paths_are_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vae").mkdir()
    made = load_config({"data": "images", "val": "more", "out": "here", "codec": "kl:vae"})
    assert (made.data, made.val, made.out) == tuple(str(tmp_path / n) for n in ("images", "more", "here"))
    assert made.codec == f"kl:{tmp_path}/vae"
    remote = load_config({"data": "s3://a/b", "out": "memory://c", "codec": "kl:owner/name"})
    assert (remote.data, remote.out, remote.codec) == ("s3://a/b", "memory://c", "kl:owner/name")


def test_a_diffusion_generator_brings_its_codec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dit").mkdir()
    made = load_config({"data": "x", "generator": "dit:dit", "noise": 0.3, "class_map": "map.json"}, preset="digits")
    assert (made.generator, made.codec) == (f"dit:{tmp_path}/dit", f"kl:{tmp_path}/dit")
    assert (made.diffusion.noise, made.diffusion.class_map) == (0.3, f"{tmp_path}/map.json")
    assert load_config(made.to_dict()) == made
    assert load_config({"data": "x", "generator": "sd:a/b@c"}, preset="imagenet").codec == "kl:a/b@c//vae"
    assert load_config({"data": "x", "generator": "sd:a/b", "codec": "kl:other"}).codec == "kl:other"
    assert load_config({"data": "x"}).codec == "kl:stabilityai/sd-vae-ft-mse"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"data": ""}, "--data: give a URI"),
        ({"ipc": [0]}, "--ipc: expected numbers from 1 up, not 0"),
        ({"ipc": [2, 2]}, "--ipc: .* none twice, not 2 2"),
        ({"ipc": []}, "--ipc: expected at least one"),
        ({"ipc": ["x"]}, "--ipc: .* not 'x'"),
        ({"quantizer": "loyd"}, "--quantizer: .*; did you mean lloyd?"),
        ({"codec": "kll:x"}, "--codec: expected one of kl, .* not 'kll:x'; did you mean kl?"),
        ({"seeds": [0, -1]}, "--seeds: expected numbers from 0 up"),
        ({"seeds": [1, 1]}, "--seeds: .* none twice"),
        ({"students": []}, "--students: expected at least one"),
        ({"methods": ["zz"]}, "--methods: expected one of random, .* not 'zz'"),
        ({"generator": "gan"}, r"--generator gan: not one of vae, medoid, "),
        ({"generator": "dit:x", "strength": 0.3}, "--strength: does nothing with --generator dit"),
        ({"generator": "sd:x", "noise": 0.3}, "--noise: does nothing with --generator sd"),
        ({"steps": 20}, "--steps: does nothing with --generator vae"),
        ({"generator": "dit:x", "noise": 0}, "--noise: .* not 0"),
        ({"generator": "dit:x", "generator_batch": 0}, "--generator-batch: .* not 0"),
        ({"diffusion": "fast"}, "^diffusion: expected `field: value` lines, not 'fast'"),
        ({"seed": -1}, "--seed: .* not -1"),
        ({"dtype": "int8"}, "--dtype: .*float32"),
        ({"gpus_per_actor": 1.5}, "--gpus-per-actor: .* not 1.5"),
        ({"gpus_per_actor": -2}, "--gpus-per-actor: .* not -2"),
        ({"autoencoder": {"steps": "many"}}, "^autoencoder.steps: expected a whole number, not 'many'"),
        ({"colour": "red"}, "unknown field 'colour'; known: actors"),
    ],
)
def test_wrong_value_names_its_option_in_one_line(options: dict[str, Any], text: str) -> None:
    with pytest.raises(UserError, match=text) as caught:
        load_config({"data": "digits:", **options})
    assert "\n" not in str(caught.value)


def test_configuration_cannot_be_changed() -> None:
    made = load_config({"data": "digits:"})
    assert isinstance(made, QuantizeConfig)
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.seed = 1  # type: ignore[misc]
