from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from raycond.core import files
from raycond.models.codecs.autoencoder import AutoencoderConfig, save_autoencoder
from raycond.models.codecs.registry import open_codec
from tests.models.codecs.make import SMALL, digits, train


def test_it_learns_the_images(tmp_path: Path) -> None:
    losses: list[tuple[int, float]] = []
    threads = torch.get_num_threads()
    model = train(SMALL, progress=lambda step, loss: losses.append((step, loss)))
    assert torch.get_num_threads() == threads
    assert [step for step, _ in losses] == [50, 100, 150]
    assert losses[-1][1] < losses[0][1]
    save_autoencoder(model, str(tmp_path / "vae"))
    codec = open_codec(f"kl:{tmp_path / 'vae'}")
    assert (codec.channels, codec.factor, codec.latent_shape(8)) == (1, 2, (4, 4, 4))
    images = digits()
    latents = codec.encode(images)
    assert float(latents.std()) == pytest.approx(1, rel=0.01)
    real = images / 255
    error = float((codec.decode(latents) - real).abs().mean())
    assert error < 0.8 * float((real.mean(0) - real).abs().mean())


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    short = replace(SMALL, steps=5)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        torch.manual_seed(len(name) + seed)  # the ambient state must not matter
        save_autoencoder(train(short, seed=seed), str(tmp_path / name))
    a, b, c = ((tmp_path / n / "diffusion_pytorch_model.safetensors").read_bytes() for n in "abc")
    assert a == b
    assert a != c
    assert (tmp_path / "a" / "config.json").read_bytes() == (tmp_path / "b" / "config.json").read_bytes()
    assert str(tmp_path) not in (tmp_path / "a" / "config.json").read_text()


def test_the_global_random_state_is_left_alone() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    train(replace(SMALL, steps=1))
    assert torch.equal(torch.rand(3), expected)


def test_it_is_opened_from_remote_places(tmp_path: Path) -> None:
    where = f"memory://test-trained{tmp_path}"
    save_autoencoder(train(replace(SMALL, steps=1)), where)
    assert open_codec(f"kl:{where}").latent_shape(8) == (4, 4, 4)
    assert files.read_json(f"{where}/config.json")["_class_name"] == "AutoencoderKL"


def test_colour_odd_widths_and_few_images() -> None:
    config = AutoencoderConfig(channels=3, widths=(6, 8, 12), steps=2, batch=64, latent_channels=2)
    images = torch.randint(0, 256, (3, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    model = train(config, images)
    with torch.inference_mode():
        assert model.encode(images / 127.5 - 1).latent_dist.mean.shape == (3, 2, 4, 4)
