"""AutoencoderKL and AutoencoderTiny of diffusers, from a hub name or a local folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from raycond.errors import UserError
from raycond.latents.codec import Codec, weights_digest


class DiffusersVae(Codec):
    """Latents are (posterior − shift) · scale, with the factors of the model's own configuration.

    where: `FOLDER`, `owner/name` or `owner/name@revision`, each with an optional `//subfolder` (`//vae` inside a whole
    pipeline is found by itself). Safetensors only: nothing is unpickled.
    """

    def __init__(self, kind: str, where: str, device: torch.device, dtype: torch.dtype) -> None:
        self.kind, self.where, self.device, self.dtype = kind, where, device, dtype
        model = self._load()
        config = model.config
        self.channels = config.in_channels
        self.latent_channels = config.latent_channels
        if kind == "kl":
            self.factor = 2 ** (len(config.block_out_channels) - 1)
        else:
            self.factor = 2 ** (len(config.encoder_block_out_channels) - 1)
        self.scale = float(getattr(config, "scaling_factor", None) or 1.0)
        self.shift = float(getattr(config, "shift_factor", None) or 0.0)
        self.digest = weights_digest(model)
        # nn.Module.to, because diffusers' own `to` warns about a float32 list that these models leave empty
        model = nn.Module.to(model, device=device, dtype=dtype)
        self._model = nn.Module.to(model, memory_format=torch.channels_last)

    def _load(self) -> Any:
        import diffusers

        place, _, subfolder = self.where.partition("//")
        place, _, revision = place.partition("@")
        place = os.path.expanduser(place)
        kind = {"kl": diffusers.AutoencoderKL, "tiny": diffusers.AutoencoderTiny}[self.kind]
        if not subfolder and os.path.isfile(os.path.join(place, "vae", "config.json")):
            subfolder = "vae"
        options: dict[str, Any] = {"use_safetensors": True, "torch_dtype": torch.float32}
        if subfolder:
            options["subfolder"] = subfolder
        if revision:
            options["revision"] = revision
        try:
            return kind.from_pretrained(place, **options).eval().requires_grad_(False)
        except (OSError, ValueError, KeyError) as error:
            raise UserError(
                f"--codec {self.name}: cannot load {kind.__name__} from {place or 'nowhere'!r}. Without a network, "
                f"download the model elsewhere, copy its folder (config.json and *.safetensors) here and give "
                f"{self.kind}:FOLDER. Cause: {error}"
            ) from error

    def _encode(self, images: Tensor, noise: Sequence[int] | None) -> Tensor:
        found = self._model.encode(images * 2 - 1)
        if self.kind == "tiny":
            if noise is not None:
                raise UserError("--posterior sample: AutoencoderTiny has no posterior to sample; use mean")
            latents = found.latents
        elif noise is None:
            latents = found.latent_dist.mode()
        else:
            mean, std = found.latent_dist.mean, found.latent_dist.std
            latents = mean + std * _noise(noise, mean)
        return (latents - self.shift) * self.scale

    def _decode(self, latents: Tensor) -> Tensor:
        return self._model.decode(latents / self.scale + self.shift).sample / 2 + 0.5


def _noise(seeds: Sequence[int], like: Tensor) -> Tensor:
    # one CPU stream per image: the draw depends neither on the batch nor on the device
    draws = [torch.randn(like.shape[1:], generator=torch.Generator().manual_seed(s)) for s in seeds]
    return torch.stack(draws).to(like)
