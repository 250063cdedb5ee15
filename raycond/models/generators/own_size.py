"""The side of the images that a diffusion model was made for, from the small files of its folder."""

from __future__ import annotations

from typing import Any

from raycond.core import files, hub
from raycond.core.errors import UserError
from raycond.models.generators.diffusers_folder import INDEX

_MODELS = ("unet", "transformer")
_FACTORS = "block_out_channels"  # of the VAE: one number for each resolution


def own_size(where: str) -> int | None:
    """Pixels on each side: the model's `sample_size` times its autoencoder's factor, 512 for Stable Diffusion 1.5.

    where: a folder, a remote address, or `owner/name[@revision]` on the hub. None where the folder does not say so or
    cannot be read: whoever opens it says why. No weights are read.
    """
    try:
        index = _read(where, INDEX)
        model = next(name for name in _MODELS if name in index)
        cells, widths = (
            _read(where, f"{model}/config.json").get("sample_size"),
            _read(where, "vae/config.json")[_FACTORS],
        )
        return int(cells) * 2 ** (len(widths) - 1) if cells else None
    except (OSError, ValueError, KeyError, TypeError, StopIteration, UserError):
        return None


def _read(where: str, name: str) -> Any:
    if not files.is_local(where) or files.is_dir(where):
        return files.read_json(files.join(where, name))
    from huggingface_hub import hf_hub_download

    repository, _, revision = where.partition("@")
    with hub.reached():
        return files.read_json(hf_hub_download(repository, name, revision=revision or None))
