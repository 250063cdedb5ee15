"""Tiny random pipelines of diffusers, built from configuration and saved as users have them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from raycond.core import files
from raycond.data.classes import Classes
from tests.models.codecs.make import kl

ANIMALS = Classes(("n01440764", "n02102040", "n02979186"), ("tench", "English springer", "cassette player"))
SIDE = 8  # of latents; images are twice that, as the tiny VAE has factor 2
_SD = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def vae(latent_channels: int = 4, **options: Any) -> Any:
    return kl(latent_channels=latent_channels, **options)


def tokenizer(folder: Path) -> Any:
    """A CLIP tokenizer that knows single letters."""
    from transformers import CLIPTokenizer

    letters = [chr(ord("a") + k) for k in range(26)] + [","]
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    folder.mkdir(parents=True, exist_ok=True)
    files.write_json(str(folder / "vocab.json"), {token: k for k, token in enumerate(tokens)})
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer.from_pretrained(folder, model_max_length=40)


def text_encoder(*, seed: int = 0, projection: bool = False, width: int = 16) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    torch.manual_seed(seed)
    config = CLIPTextConfig(
        vocab_size=64,
        hidden_size=width,
        intermediate_size=32,
        projection_dim=width,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=40,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(config).eval()


def unet(*, cross: int = 16, seed: int = 0, widths: tuple[int, ...] = (8, 16), **options: Any) -> Any:
    from diffusers import UNet2DConditionModel

    torch.manual_seed(seed)
    depth = len(widths)
    return UNet2DConditionModel(
        block_out_channels=widths,
        down_block_types=("CrossAttnDownBlock2D",) * (depth - 1) + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * (depth - 1),
        cross_attention_dim=cross,
        **({"sample_size": SIDE, "layers_per_block": 1, "norm_num_groups": 4, "attention_head_dim": 4} | options),
    ).eval()


def sd_pipeline(folder: Path, **unet_options: Any) -> Any:
    from diffusers import PNDMScheduler, StableDiffusionImg2ImgPipeline

    return StableDiffusionImg2ImgPipeline(
        vae=vae(),
        text_encoder=text_encoder(),
        tokenizer=tokenizer(folder / "letters"),
        unet=unet(**unet_options),
        scheduler=PNDMScheduler(**_SD, skip_prk_steps=True, set_alpha_to_one=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def sdxl_pipeline(folder: Path) -> Any:
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLImg2ImgPipeline

    tokens = tokenizer(folder / "letters")
    conditions = {"addition_embed_type": "text_time", "addition_time_embed_dim": 8}
    return StableDiffusionXLImg2ImgPipeline(
        vae=vae(scaling_factor=0.13025),
        text_encoder=text_encoder(),
        text_encoder_2=text_encoder(seed=1, projection=True),
        tokenizer=tokens,
        tokenizer_2=tokens,
        unet=unet(cross=32, projection_class_embeddings_input_dim=6 * 8 + 16, **conditions),
        scheduler=EulerDiscreteScheduler(**_SD, steps_offset=1),
        add_watermarker=False,
    )


def sd3_pipeline(folder: Path) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Img2ImgPipeline

    tokens = tokenizer(folder / "letters")
    torch.manual_seed(0)
    transformer = SD3Transformer2DModel(
        sample_size=SIDE,
        patch_size=2,
        in_channels=16,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=32,
        caption_projection_dim=16,
        pooled_projection_dim=32,
        out_channels=16,
        pos_embed_max_size=SIDE,
    )
    return StableDiffusion3Img2ImgPipeline(
        transformer=transformer.eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=vae(16, scaling_factor=1.5305, shift_factor=0.0609),
        text_encoder=text_encoder(projection=True),
        tokenizer=tokens,
        text_encoder_2=text_encoder(seed=1, projection=True),
        tokenizer_2=tokens,
        text_encoder_3=None,
        tokenizer_3=None,
    )


def dit_pipeline(
    classes: int = 3,
    *,
    learned: bool = True,
    width: int = 16,
    heads: int = 2,
    layers: int = 2,
    sample_size: int = SIDE,
    seed: int = 0,
) -> Any:
    from diffusers import DDIMScheduler, DiTPipeline, DiTTransformer2DModel

    torch.manual_seed(seed)
    transformer = DiTTransformer2DModel(
        num_attention_heads=heads,
        attention_head_dim=width // heads,
        in_channels=4,
        out_channels=8 if learned else 4,
        num_layers=layers,
        sample_size=sample_size,
        patch_size=2,
        num_embeds_ada_norm=classes,
        attention_bias=True,
    )
    # a linear schedule from 1e-4 to 0.02, as in facebook/DiT-XL-2-256
    return DiTPipeline(transformer=transformer.eval(), vae=vae(), scheduler=DDIMScheduler(clip_sample=False))


def saved(pipeline: Any, folder: Path, classes: Classes | None = None) -> str:
    """The pipeline as a folder; with classes.json if classes are given."""
    pipeline.save_pretrained(folder, safe_serialization=True)
    if classes is not None:
        files.write_json(str(folder / "classes.json"), list(classes.ids))
    return str(folder)
