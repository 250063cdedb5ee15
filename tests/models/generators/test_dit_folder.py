from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raycond.data.class_arrays import Latents
from raycond.data.classes import Classes
from raycond.models.codecs.registry import open_codec
from raycond.models.generators.dit_folder import save_generator
from raycond.models.generators.dit_training import DitTraining, finished
from raycond.models.generators.options import DitConfig
from tests.models.codecs.make import SMALL, train

CONFIG = DitConfig(width=16, layers=1, heads=2, steps=2, batch=4, log_every=1)
CLASSES = Classes(("n1", "n2", "n3"), ("ant, emmet", "bee", "cat"))


@pytest.fixture(scope="module")
def vae() -> Any:
    from dataclasses import replace

    return train(replace(SMALL, steps=2))


def save(folder: Path, vae: Any) -> dict[str, torch.Tensor]:
    latents = Latents([np.ones((4, 4, 4, 4), np.float16)] * 3, "cpu")
    training = DitTraining(CONFIG, latents, classes=3, seed=0, device="cpu")
    list(training.run())
    weights, curve = finished(training.state())
    names = save_generator(
        str(folder), config=CONFIG, latent=(4, 4, 4), weights=weights, vae=vae, classes=CLASSES, about={"loss": curve}
    )
    assert sorted(names) == sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    return weights


def test_diffusers_opens_it_and_samples(tmp_path: Path, vae: Any) -> None:
    from diffusers import DiTPipeline

    weights = save(tmp_path / "dit", vae)
    pipeline = DiTPipeline.from_pretrained(tmp_path / "dit")
    pipeline.set_progress_bar_config(disable=True)
    for name, value in pipeline.transformer.state_dict().items():
        assert torch.equal(value, weights[name])
    assert pipeline.get_label_ids(["bee", "emmet"]) == [1, 0]
    assert pipeline.scheduler.config.clip_sample is False
    for guidance in (1.0, 4.0):  # with guidance it asks for class 1000 too
        random = torch.Generator().manual_seed(0)
        images = pipeline([2, 0], guidance, random, num_inference_steps=3, output_type="np").images
        assert images.shape == (2, 8, 8, 1)
        assert np.isfinite(images).all()


def test_its_vae_is_the_codec(tmp_path: Path, vae: Any) -> None:
    save(tmp_path / "dit", vae)
    codec = open_codec(f"kl:{tmp_path / 'dit'}")
    assert codec.latent_shape(8) == (4, 4, 4)
    for (_, a), b in zip(codec._model.state_dict().items(), vae.state_dict().values(), strict=True):  # type: ignore[attr-defined]
        assert torch.equal(a, b)


def test_same_bytes_and_no_paths(tmp_path: Path, vae: Any) -> None:
    for name in ("a", "b"):
        save(tmp_path / name, vae)
    for path in (tmp_path / "a").rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert data == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()
            assert str(tmp_path).encode() not in data
    about = json.loads((tmp_path / "a" / "raycond.json").read_text())
    assert about["null_label"] == 1000
    assert len(about["loss"]) == 2
    assert json.loads((tmp_path / "a" / "classes.json").read_text()) == CLASSES.to_dict()
