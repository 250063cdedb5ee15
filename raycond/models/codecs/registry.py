"""The codecs by name: `KIND[:WHERE]` → a codec, opened."""

from __future__ import annotations

import torch

from raycond.core.errors import UserError
from raycond.models.codecs.base import Codec, parse_dtype

KINDS = {
    "kl": "diffusers AutoencoderKL from a hub name or a folder (kl:stabilityai/sd-vae-ft-mse)",
    "tiny": "diffusers AutoencoderTiny from a hub name or a folder (tiny:madebyollin/taesd)",
    "taef2": "TAEF2 from the folder with taef2_encoder.pth and taef2_decoder.pth (taef2:FOLDER)",
    "pixels": "the pixels themselves; optional number of channels (pixels:1)",
    "train": "train the small autoencoder that the preset describes, then use it",
}


def open_codec(spec: str, *, device: str = "cpu", dtype: str = "auto") -> Codec:
    """The codec of `KIND[:WHERE]`. Raises UserError for an unknown kind or missing weights, saying where they go."""
    from raycond.models.codecs import diffusers_vae, pixels, taef2

    kind, _, where = spec.partition(":")
    target, precision = torch.device(device), parse_dtype(dtype, device)
    if kind == "pixels":
        return pixels.Pixels(where, target, precision)
    if kind == "taef2":
        return taef2.Taef2(where, target, precision)
    if kind in ("kl", "tiny"):
        return diffusers_vae.DiffusersVae(kind, where, target, precision)
    if kind == "train":
        raise UserError("codec train: it is trained by the pipeline, from the preset's `autoencoder` section")
    known = "\n".join(f"  {name:7} {text}" for name, text in KINDS.items())
    raise UserError(f"--codec {spec}: unknown kind {kind!r}; known kinds:\n{known}")
