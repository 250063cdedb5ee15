"""A small autoencoder trained on the source itself, for data that no public VAE fits (the digits' 1×8×8)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.nn import functional as F

from raycond.core import files
from raycond.core.errors import UserError
from raycond.models.codecs.options import AutoencoderConfig


def train_autoencoder(
    images: Tensor,
    config: AutoencoderConfig,
    *,
    seed: int,
    device: str,
    threads: int,
    progress: Callable[[int, float], None] | None = None,
) -> Any:
    """An AutoencoderKL fitted to uint8 images (N, C, H, W), latents scaled to unit variance. Same seed, same bytes.

    progress is called with (step, loss).
    """
    from diffusers import AutoencoderKL

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        depth = len(config.widths)
        with torch.random.fork_rng(devices=[]):  # diffusers offers no generator for its initialisation
            torch.random.default_generator.manual_seed(seed)
            model: Any = AutoencoderKL(
                in_channels=images.shape[1],
                out_channels=images.shape[1],
                down_block_types=("DownEncoderBlock2D",) * depth,
                up_block_types=("UpDecoderBlock2D",) * depth,
                block_out_channels=config.widths,
                layers_per_block=config.layers,
                latent_channels=config.latent_channels,
                norm_num_groups=math.gcd(8, *config.widths),
                sample_size=images.shape[-1],
                mid_block_add_attention=False,
            )
        model.to(device)
        _fit(model, images.to(device), config, seed, progress)
        model.eval()
        with torch.inference_mode():
            sample = torch.cat([model.encode(b.float() / 127.5 - 1).latent_dist.mode() for b in images.split(512)])
        model.register_to_config(scaling_factor=float(1 / sample.std()))
        return model
    finally:
        torch.set_num_threads(before)


def _fit(model: Any, images: Tensor, config: AutoencoderConfig, seed: int, progress: Any) -> None:
    random = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.lr, total_steps=config.steps, pct_start=0.1)
    reach = round(config.shift * images.shape[-1])
    model.train()
    for step in range(config.steps):
        rows = torch.randint(len(images), (min(config.batch, len(images)),), generator=random)
        dy, dx = (torch.randint(-reach, reach + 1, (2,), generator=random)).tolist()
        x = images[rows.to(images.device)].roll((dy, dx), (2, 3)).float() / 127.5 - 1
        posterior = model.encode(x).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=random).to(x)
        output = model.decode(posterior.mean + posterior.std * noise).sample
        kl = (posterior.mean.square() + posterior.var - 1 - posterior.logvar).mean() / 2
        loss = F.l1_loss(output, x) + config.kl * kl
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        if progress is not None and (step + 1) % 50 == 0:
            progress(step + 1, float(loss.detach()))


def untrained(*_: object) -> NoReturn:
    """What `--codec train` opens before it is trained. Raises UserError: a pipeline must train it first."""
    raise UserError("--codec train: the pipeline trains this codec first and then opens it as kl:FOLDER")


def save_autoencoder(model: Any, folder: str) -> None:
    """Write config.json and safetensors so that `kl:FOLDER` opens it; config last, so that a part is never taken."""
    from safetensors.torch import save

    state = {name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}
    files.write_bytes(files.join(folder, "diffusion_pytorch_model.safetensors"), save(state))
    config = {k: v for k, v in model.config.items() if not k.startswith("_") or k == "_class_name"}
    files.write_json(files.join(folder, "config.json"), {**config, "_class_name": "AutoencoderKL"})
