"""AutoencoderKL and AutoencoderTiny of diffusers, from a hub name or a folder."""

from __future__ import annotations

import os
import tempfile
from abc import abstractmethod
from collections.abc import Sequence
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from raycond.core import files, hub
from raycond.core.errors import UserError
from raycond.models.codecs.base import Codec, weights_digest


class DiffusersVae(Codec):
    """An autoencoder of diffusers.

    Latents are (posterior − shift) · scale, with the factors of the model's own configuration.

    where: `FOLDER` (local, or remote such as s3://…), `owner/name` or `owner/name@revision`, each with an optional
    `//subfolder` (`//vae` inside a whole pipeline is found by itself). Nothing is unpickled: weights are safetensors,
    or where there are none torch files read with weights_only, as facebook/DiT-XL-2-256 still has them.
    """

    _model_class: str  # of diffusers
    _widths: str  # the field of its configuration with one number for each resolution

    def __init__(self, where: str, device: torch.device, dtype: torch.dtype) -> None:
        self.where, self.device, self.dtype = where, device, dtype
        model = self._load()
        config = model.config
        self.channels = config.in_channels
        self.latent_channels = config.latent_channels
        self.factor = 2 ** (len(config[self._widths]) - 1)
        self.scale = float(getattr(config, "scaling_factor", None) or 1.0)
        self.shift = float(getattr(config, "shift_factor", None) or 0.0)
        self.digest = files.digest([weights_digest(model), self.scale, self.shift])
        # nn.Module.to, because diffusers' own `to` warns about a float32 list that these models leave empty
        model = nn.Module.to(model, device=device, dtype=dtype)
        self._model = nn.Module.to(model, memory_format=torch.channels_last)

    def _load(self) -> Any:
        import diffusers

        kind = getattr(diffusers, self._model_class)
        place, subfolder, revision = _parse(self.where)
        options = {"torch_dtype": torch.float32, "output_loading_info": True}
        try:
            with tempfile.TemporaryDirectory(prefix="raycond-") as folder, hub.reached():
                root = place
                if not files.is_local(place):
                    _fetch(files.join(place, subfolder) if subfolder else place, folder)
                    root, subfolder = folder, None
                model, found = kind.from_pretrained(root, subfolder=subfolder, revision=revision, **options)
                if found["missing_keys"]:
                    raise ValueError(f"its weights are not those of an {kind.__name__}: no {found['missing_keys'][0]}")
        except (OSError, ValueError, KeyError, UnpicklingError) as error:
            why = hub.problem(place, kind.__name__, "config.json and *.safetensors", self.kind, error)
            raise UserError(f"--codec {self.name}: {why}") from error
        return model.eval().requires_grad_(False)

    @abstractmethod
    def _encoded(self, images: Tensor, noise: Sequence[int] | None) -> Tensor:
        """Images in [-1, 1] → latents as the model gives them."""

    def _encode(self, images: Tensor, noise: Sequence[int] | None) -> Tensor:
        return (self._encoded(images * 2 - 1, noise) - self.shift) * self.scale

    def _decode(self, latents: Tensor) -> Tensor:
        return self._model.decode(latents / self.scale + self.shift).sample / 2 + 0.5


class Kl(DiffusersVae):
    """AutoencoderKL, whose posterior can be sampled."""

    kind = "kl"
    _model_class, _widths = "AutoencoderKL", "block_out_channels"

    def _encoded(self, images: Tensor, noise: Sequence[int] | None) -> Tensor:
        posterior = self._model.encode(images).latent_dist
        if noise is None:
            return posterior.mode()
        return posterior.mean + posterior.std * _noise(noise, posterior.mean)


class Tiny(DiffusersVae):
    """AutoencoderTiny, which has no posterior."""

    kind = "tiny"
    _model_class, _widths = "AutoencoderTiny", "encoder_block_out_channels"

    def _encoded(self, images: Tensor, noise: Sequence[int] | None) -> Tensor:
        if noise is not None:
            raise UserError("--posterior sample: AutoencoderTiny has no posterior to sample; use mean")
        return self._model.encode(images).latents


def _parse(where: str) -> tuple[str, str | None, str | None]:
    """Place, subfolder and revision; the subfolder is `vae` if that is what the place holds."""
    scheme, mark, rest = where.rpartition("://")
    rest, _, subfolder = rest.partition("//")
    place, revision = os.path.expanduser(f"{scheme}{mark}{rest}"), ""
    if not mark and not os.path.isdir(place):  # folders may have an @ in their names
        place, _, revision = place.partition("@")
    if not subfolder and files.exists(files.join(place, "vae", "config.json")):
        subfolder = "vae"
    return place, subfolder or None, revision or None


def _fetch(uri: str, folder: str) -> None:
    for entry in files.listdir(uri):
        if entry.name.endswith((".json", ".safetensors", ".bin")):
            files.write_bytes(files.join(folder, entry.name), files.read_bytes(entry.uri))


def _noise(seeds: Sequence[int], like: Tensor) -> Tensor:
    # one CPU stream per image: the draw depends neither on the batch nor on the device
    draws = [torch.randn(like.shape[1:], generator=torch.Generator().manual_seed(s)) for s in seeds]
    return torch.stack(draws).to(like)
