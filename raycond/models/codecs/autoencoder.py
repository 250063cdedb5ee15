"""A small autoencoder trained on the source itself, for data that no public VAE fits (the digits' 1×8×8)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import torch
from safetensors import torch as safetensors
from torch import Tensor, nn
from torch.nn import functional as F

from raycond.core import files
from raycond.core.device import torch_threads
from raycond.core.errors import UserError
from raycond.core.seeds import seed_of, seeded
from raycond.models.codecs.options import AutoencoderConfig
from raycond.training.augment.augmentation import Augmentation
from raycond.training.resumable import Resumable, entries_of

RECIPE = 2
"""The version of the training below. It belongs into the fingerprint of every trained codec: a change of the recipe
changes the weights."""

_ENCODED_AT_ONCE = 512


class _Settings:
    """What `Resumable` asks of a configuration and `AutoencoderConfig` leaves open.

    float32, because everything else is computed from the latents and few CPUs are faster in bfloat16.
    """

    optimizer, weight_decay, schedule, clip, precision, log_every = "adamw", 0.0, "cosine", 0.0, "float32", 25

    def __init__(self, config: AutoencoderConfig) -> None:
        self.batch, self.lr, self.warmup = config.batch, config.lr, config.steps // 10


class _Reconstruction(nn.Module):
    """Images in [-1, 1] and noise of the latents' shape → what is decoded, and the posterior's mean and log-variance.

    One forward pass of the whole, which is what adds up the gradients of several workers.
    """

    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        posterior = self.vae.encode(images).latent_dist
        decoded = self.vae.decode(posterior.mean + posterior.std * noise).sample
        return decoded, posterior.mean, posterior.logvar


class AutoencoderTraining(Resumable):
    """One worker's part of the training of an AutoencoderKL: L1 + kl · KL on images that are shifted a little.

    What a step draws depends neither on where the training was interrupted nor on how many workers share it.
    """

    what = "codec"

    def __init__(
        self,
        config: AutoencoderConfig,
        images: Tensor,
        *,
        seed: int,
        device: str | torch.device,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        """images: (N, C, H, W) uint8, all of them in every worker. Raises UserError if the batch does not divide among
        the workers, or the images do not fit the widths."""
        vae = build_autoencoder(config, channels=images.shape[1], size=images.shape[-1], seed=seed).train()
        settings = _Settings(config)
        super().__init__(
            settings, _Reconstruction(vae), total=config.steps, seed=seed, device=device, rank=rank, world=world
        )
        self.config, self.images = config, images.to(self.device)
        factor = factor_of(config)
        self.latent = (config.latent_channels, images.shape[2] // factor, images.shape[3] // factor)
        self.augmentation = Augmentation(shift=config.shift)

    @property
    def count(self) -> int:
        return len(self.images)

    def loss_of(self, rows: Tensor) -> Tensor:
        parts = list(self._drawn(self.images[rows.to(self.device)].float() / 127.5 - 1))
        images, noise = torch.cat([part for part, _ in parts]), torch.cat([part for _, part in parts])
        decoded, mean, logvar = self.wrapped(images, noise)
        divergence = (mean.square() + logvar.exp() - 1 - logvar).mean() / 2
        return F.l1_loss(decoded, images) + self.config.kl * divergence

    def _drawn(self, images: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        for part, random in self.parts(images):
            shifted = self.augmentation(part, random)
            yield shifted, torch.randn((len(part), *self.latent), generator=random, device=self.device)


def build_autoencoder(config: AutoencoderConfig, *, channels: int, size: int, seed: int) -> Any:
    """An AutoencoderKL with random weights for images of this side; same seed, same weights.

    Raises UserError if the side is no multiple of the factor.
    """
    from diffusers import AutoencoderKL

    depth, factor = len(config.widths), factor_of(config)
    if size % factor:
        raise UserError(f"--size {size}: an autoencoder with {depth} widths needs a multiple of {factor}")
    with seeded(seed_of(seed, "codec")):  # diffusers offers no generator for its initialization
        return AutoencoderKL(
            in_channels=channels,
            out_channels=channels,
            down_block_types=("DownEncoderBlock2D",) * depth,
            up_block_types=("UpDecoderBlock2D",) * depth,
            block_out_channels=config.widths,
            layers_per_block=config.layers,
            latent_channels=config.latent_channels,
            norm_num_groups=math.gcd(8, *config.widths),
            sample_size=size,
            mid_block_add_attention=False,
        )


def train_autoencoder(
    images: Tensor,
    config: AutoencoderConfig,
    *,
    seed: int,
    device: str,
    threads: int,
    progress: Callable[[int, float], None] | None = None,
) -> Any:
    """The AutoencoderKL of a training in this process, from beginning to end; see `finished`.

    images: (N, C, H, W) uint8. progress is called with (step, loss). Same seed and threads, same bytes.
    """
    training = AutoencoderTraining(config, images, seed=seed, device=device)
    with torch_threads(threads):
        for step in training.run():
            if progress is not None:
                progress(step, training.loss)
        return finished(training.state(), config, images, device=device)


def factor_of(config: AutoencoderConfig) -> int:
    """Pixels per latent cell, along each side."""
    return 2 ** (len(config.widths) - 1)


def finished(data: bytes, config: AutoencoderConfig, images: Tensor, *, device: str | torch.device) -> Any:
    """The trained AutoencoderKL of a training's `state`, whose scaled latents of `images` have unit variance.

    images: those of the training. The model is in eval mode on the device.
    """
    model = build_autoencoder(config, channels=images.shape[1], size=images.shape[-1], seed=0)
    weights = entries_of(safetensors.load(data), "tensor")
    model.load_state_dict({name.removeprefix("vae."): tensor for name, tensor in weights.items()})
    model = model.to(device).eval()
    with torch.inference_mode():
        batches = images.to(device).split(_ENCODED_AT_ONCE)
        latents = torch.cat([model.encode(batch.float() / 127.5 - 1).latent_dist.mode() for batch in batches])
    model.register_to_config(scaling_factor=float(1 / latents.std().clamp(min=1e-6)))
    return model


def save_autoencoder(model: Any, folder: str) -> None:
    """Write config.json and safetensors so that `kl:FOLDER` opens it; config last, so that a part is never taken."""
    state = {name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}
    files.write_bytes(files.join(folder, "diffusion_pytorch_model.safetensors"), safetensors.save(state))
    config = {k: v for k, v in model.config.items() if not k.startswith("_") or k == "_class_name"}
    files.write_json(files.join(folder, "config.json"), {**config, "_class_name": "AutoencoderKL"})


def untrained(*_: object) -> NoReturn:
    """What `--codec train` opens before it is trained. Raises UserError: a pipeline must train it first."""
    raise UserError("--codec train: the pipeline trains this codec first and then opens it as kl:FOLDER")
