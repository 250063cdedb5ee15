"""The codecs by name: `KIND[:WHERE]` → a codec, opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raycond.core.registry import Entry, Registry

if TYPE_CHECKING:
    from raycond.models.codecs.base import Codec

_HERE = "raycond.models.codecs"

# each target is called with WHERE, the torch.device and the torch.dtype, and gives a Codec
CODECS = Registry(
    "--codec",
    [
        Entry(
            "kl",
            "AutoencoderKL of diffusers, from the hub or a folder (kl:stabilityai/sd-vae-ft-mse)",
            f"{_HERE}.diffusers_vae:Kl",
            "NAME|FOLDER",
        ),
        Entry(
            "tiny",
            "AutoencoderTiny of diffusers, from the hub or a folder (tiny:madebyollin/taesd)",
            f"{_HERE}.diffusers_vae:Tiny",
            "NAME|FOLDER",
        ),
        Entry(
            "taef2",
            "TAEF2, from a folder with taef2_encoder.pth and taef2_decoder.pth",
            f"{_HERE}.taef2:Taef2",
            "FOLDER",
        ),
        Entry(
            "pixels", "the pixels themselves, of 3 channels or of 1 (pixels:1)", f"{_HERE}.pixels:Pixels", "[CHANNELS]"
        ),
        Entry("train", "a small autoencoder, trained on the source first", f"{_HERE}.autoencoder:untrained"),
    ],
)


def open_codec(spec: str, *, device: str = "cpu", dtype: str = "auto") -> Codec:
    """The codec of `KIND[:WHERE]`. Raises UserError for an unknown kind or missing weights, saying where they go."""
    import torch

    from raycond.models.codecs.base import parse_dtype

    entry, where = CODECS.parse(spec)
    codec: Codec = entry.load()(where, torch.device(device), parse_dtype(dtype, device))
    return codec
