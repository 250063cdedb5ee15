"""What the presets stand for stays as it was: saved configurations load again, and finished work is found again."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from raycond.core import records
from raycond.data.classes import Classes
from raycond.pipelines.evaluate.config import load_grid_config
from raycond.pipelines.fit_projector.config import load_projector_config
from raycond.pipelines.kernel.config import load_kernel_config
from raycond.pipelines.layout import Layout
from raycond.pipelines.loading import presets
from raycond.pipelines.match.config import load_matching_config
from raycond.pipelines.quantize.config import load_config
from raycond.pipelines.quantize.units import WorkerSpec, codebook_fingerprint, images_fingerprint
from raycond.pipelines.train_generator.config import load_generator_config

SAVED: dict[str, dict[str, Any]] = json.loads((Path(__file__).parent / "presets.json").read_text())
LOAD = {
    "": load_config,
    "generators": load_generator_config,
    "projectors": load_projector_config,
    "kernel": load_kernel_config,
    "match": load_matching_config,
}


def loaded(name: str) -> dict[str, Any]:
    """A preset (`projectors/digits`), or the defaults of a grid, as plain values."""
    if name == "grid":
        return load_grid_config({"sets": ["/runs/x/set"]}).to_dict()
    folder, _, preset = name.rpartition("/")
    data = {} if preset == "digits" else {"data": "s3://bucket/images"}
    return LOAD[folder]({"out": "/runs/x", **data}, preset=preset).to_dict()


def test_every_preset_is_saved() -> None:
    known = {f"{folder}/{name}".lstrip("/") for folder in LOAD for name in presets(folder)}
    assert set(SAVED) == known | {"grid"}


@pytest.mark.parametrize("name", SAVED)
def test_fields_and_values_of_presets(name: str) -> None:
    """New fields may come; those of the first release, inside sections too, keep their names and values."""
    found = loaded(name)
    for field, value in SAVED[name].items():
        assert (found[field] | value if isinstance(value, dict) else value) == found[field], field


def test_fingerprints_of_the_digits() -> None:
    ids = tuple(map(str, range(10)))
    source: Any = SimpleNamespace(classes=Classes(ids, ids))
    config = load_config({"out": "/runs/x"}, preset="digits")
    spec = WorkerSpec(config, source, "kl:x", "codec", 1, Layout("/runs/x"))
    facts = {"sha256": "a", "content": "b"}
    assert codebook_fingerprint(spec, 3, 10, "images").startswith("0248e4a78e8a7982")
    assert images_fingerprint(spec, "vae", 3, facts).startswith("b786f5002167bca9")
    assert images_fingerprint(spec, "medoid", 3, facts).startswith("0b0577c5ba059a4c")


@pytest.mark.parametrize(
    ("preset", "section"),
    [
        ("digits", "autoencoder"),
        ("generators/digits", "dit"),
        ("projectors/digits", "fit"),
        ("projectors/digits", "teacher"),
        ("projectors/digits", "clip_training"),
    ],
)
def test_settings_of_trainings(preset: str, section: str) -> None:
    """All of them go into the fingerprint of the training: a new one makes every finished training stale."""
    assert records.fingerprint(settings=loaded(preset)[section]) == records.fingerprint(settings=SAVED[preset][section])
