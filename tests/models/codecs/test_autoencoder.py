from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from raycond.core import files
from raycond.core.errors import UserError
from raycond.models.codecs.autoencoder import AutoencoderTraining, save_autoencoder, train_autoencoder
from raycond.models.codecs.options import AutoencoderConfig
from raycond.models.codecs.registry import open_codec

TINY = AutoencoderConfig(channels=1, widths=(8, 8), steps=50, lr=5e-3, batch=8, latent_channels=2)


def digits(count: int = 400) -> torch.Tensor:
    from sklearn.datasets import load_digits

    return torch.from_numpy(load_digits().images[:count] * 15.9375).to(torch.uint8)[:, None]


def training(config: AutoencoderConfig = TINY, seed: int = 0, **options: Any) -> AutoencoderTraining:
    return AutoencoderTraining(config, digits(20), seed=seed, device="cpu", **options)


def train(config: AutoencoderConfig, images: torch.Tensor | None = None, seed: int = 0, **options: Any) -> Any:
    images = digits() if images is None else images
    return train_autoencoder(images, config, seed=seed, device="cpu", threads=1, **options)


def test_it_learns_the_images(tmp_path: Path) -> None:
    losses: list[tuple[int, float]] = []
    threads = torch.get_num_threads()
    config = replace(TINY, widths=(8, 16), steps=100, batch=16, latent_channels=4, lr=1e-2, shift=0.0)
    model = train(config, progress=lambda step, loss: losses.append((step, loss)))
    assert torch.get_num_threads() == threads
    assert [step for step, _ in losses] == [25, 50, 75, 100]
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
    short = replace(TINY, steps=3)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        torch.manual_seed(len(name) + seed)  # the ambient state must not matter
        save_autoencoder(train(short, seed=seed), str(tmp_path / name))
    a, b, c = ((tmp_path / n / "diffusion_pytorch_model.safetensors").read_bytes() for n in "abc")
    assert a == b
    assert a != c
    assert (tmp_path / "a" / "config.json").read_bytes() == (tmp_path / "b" / "config.json").read_bytes()
    assert str(tmp_path) not in (tmp_path / "a" / "config.json").read_text()


def test_an_interrupted_training_goes_on_to_the_same_bytes() -> None:
    run = training()
    states = {step: run.state() for step in run.run()}
    assert list(states) == [25, 50]
    again = training()
    again.load(states[25])
    assert list(again.run()) == [50]
    assert again.state() == states[50]
    assert training(seed=1).state() != training().state()


def test_each_image_is_shifted_by_itself() -> None:
    run = training(replace(TINY, shift=0.25))
    images = torch.zeros(8, 1, 8, 8)
    images[:, :, 4, 4] = 1
    places = {tuple(part.nonzero()[0].tolist()) for parts, _ in run._drawn(images) for part in parts}
    assert len(places) > 2
    assert all(abs(place - 4) <= 2 for _, *yx in places for place in yx)
    still = training(replace(TINY, shift=0.0))
    assert torch.equal(torch.cat([part for part, _ in still._drawn(images)]), images)


def test_the_global_random_state_is_left_alone() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    train(replace(TINY, steps=1))
    assert torch.equal(torch.rand(3), expected)


def test_it_is_opened_from_remote_places(tmp_path: Path) -> None:
    where = f"memory://test-trained{tmp_path}"
    save_autoencoder(train(replace(TINY, steps=1)), where)
    assert open_codec(f"kl:{where}").latent_shape(8) == (2, 4, 4)
    assert files.read_json(f"{where}/config.json")["_class_name"] == "AutoencoderKL"


def test_colour_odd_widths_and_few_images() -> None:
    config = AutoencoderConfig(channels=3, widths=(6, 8, 12), steps=2, batch=64, latent_channels=2)
    images = torch.randint(0, 256, (3, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    model = train(config, images)
    with torch.inference_mode():
        assert model.encode(images / 127.5 - 1).latent_dist.mean.shape == (3, 2, 4, 4)


def test_images_that_are_all_the_same_have_finite_latents() -> None:
    model = train(replace(TINY, steps=1), torch.zeros(4, 1, 8, 8, dtype=torch.uint8))
    assert model.config.scaling_factor <= 1e6


def test_sides_that_do_not_divide() -> None:
    with pytest.raises(UserError, match=r"--size 8: an autoencoder with 5 widths needs a multiple of 16"):
        training(replace(TINY, widths=(8,) * 5))
    with pytest.raises(UserError, match="do not divide among 3 workers"):
        training(world=3)


def test_workers_share_the_batch_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AutoencoderTraining, "_wrapped", lambda self: self.net)  # without a process group
    losses = []
    for world in (1, 2, 4):
        shares = []
        for rank in range(world):
            run = training(rank=rank, world=world)
            run.step = 3
            shares.append(float(run.loss_of(run._rows().view(world, -1)[rank]).detach()))
        losses.append(sum(shares) / world)
    assert losses[1:] == pytest.approx([losses[0]] * 2, rel=1e-5)
