"""Models with random weights of the true sizes, saved as raycond opens them: times do not depend on the weights."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.gpu.context import Context

# of Stable Diffusion 1.x: 83.7 million numbers
SD_VAE: dict[str, Any] = {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "norm_num_groups": 32}
TINY_VAE: dict[str, Any] = {"block_out_channels": (8, 8), "layers_per_block": 1, "norm_num_groups": 4}


def quiet() -> None:
    """No progress bars, and no remarks on what is saved and loaded."""
    from diffusers.utils import logging
    from transformers.utils import logging as theirs

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    theirs.disable_progress_bar()


def autoencoder_kl(context: Context) -> str:
    """The folder of an AutoencoderKL of Stable Diffusion's size, made when it is first asked for."""
    from diffusers import AutoencoderKL

    folder = context.scratch / "vae"
    if not folder.exists():
        quiet()
        options = TINY_VAE if context.tiny else SD_VAE
        depth = len(options["block_out_channels"])
        with torch.device(context.device):
            torch.manual_seed(0)
            model: Any = AutoencoderKL(
                down_block_types=("DownEncoderBlock2D",) * depth,
                up_block_types=("UpDecoderBlock2D",) * depth,
                latent_channels=4,
                **options,
            )
        model.save_pretrained(folder, safe_serialization=True)
    return str(folder)


def autoencoder_tiny(context: Context) -> str:
    """The folder of an AutoencoderTiny of TAESD's size: 2.4 million numbers."""
    from diffusers import AutoencoderTiny

    folder = context.scratch / "taesd"
    if not folder.exists():
        quiet()
        torch.manual_seed(0)
        options: dict[str, Any] = {}
        if context.tiny:
            options = {"encoder_block_out_channels": (8,) * 4, "decoder_block_out_channels": (8,) * 4}
        model: Any = AutoencoderTiny(**options)
        model.save_pretrained(folder, safe_serialization=True)
    return str(folder)
