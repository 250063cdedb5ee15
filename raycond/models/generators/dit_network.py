"""The class-conditional latent transformer that we train: diffusers' DiT, with DiT's own initialisation."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from raycond.core.errors import UserError
from raycond.models.generators.options import DitConfig

# DiTPipeline of diffusers asks for "no class" with 1000, whatever the model: with a shorter table it could not guide.
TABLE = 1000
TRAIN_TIMES = 1000


def build_dit(config: DitConfig, *, latent: tuple[int, int, int], classes: int, seed: int) -> Any:
    """A DiTTransformer2DModel for latents (C, h, h), with random weights; same seed, same weights.

    Its label for "no class" is `num_embeds_ada_norm` (at least 1000) and it predicts the noise alone (no variance).
    Raises UserError if latents are not square or no multiple of the patch.
    """
    from diffusers import DiTTransformer2DModel

    channels, height, width = latent
    patch = config.patch or (1 if height <= 4 or height % 2 else 2)
    if height != width or height % patch:
        raise UserError(f"dit: latents of {height}×{width} cells do not divide into patches of {patch}")
    with torch.random.fork_rng(devices=[]):  # diffusers offers no generator for its initialisation
        torch.random.default_generator.manual_seed(seed)
        model: Any = DiTTransformer2DModel(
            num_attention_heads=config.heads,
            attention_head_dim=config.width // config.heads,
            in_channels=channels,
            out_channels=channels,
            num_layers=config.layers,
            sample_size=height,
            patch_size=patch,
            num_embeds_ada_norm=max(classes, TABLE),
        )
        _initialise(model)
    for block in model.transformer_blocks:
        # every block has a class embedding of its own and would drop the class at other images than the block before
        block.norm1.emb.class_embedder.dropout_prob = 0.0
    return model


def _initialise(model: Any) -> None:
    """Section 3.2 of the paper (adaLN-Zero): every block starts as the identity. diffusers leaves it to checkpoints."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            if "timestep_embedder" in name:
                nn.init.normal_(module.weight, std=0.02)
            else:
                nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
    patches = model.pos_embed.proj
    nn.init.xavier_uniform_(patches.weight.view(patches.out_channels, -1))
    nn.init.zeros_(patches.bias)
    for block in model.transformer_blocks:
        nn.init.zeros_(block.norm1.linear.weight)
    for module in (model.proj_out_1, model.proj_out_2):
        nn.init.zeros_(module.weight)


def noise_scheduler() -> Any:
    """DDPM as DiT trains with: 1000 times, β linear from 1e-4 to 0.02, the noise predicted, no clipping of latents."""
    from diffusers import DDPMScheduler

    return DDPMScheduler(
        num_train_timesteps=TRAIN_TIMES, beta_start=1e-4, beta_end=0.02, beta_schedule="linear", clip_sample=False
    )
