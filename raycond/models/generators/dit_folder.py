"""A trained generator on disk: a DiTPipeline folder of diffusers, with its classes and what it was trained on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from safetensors.torch import save
from torch import Tensor

from raycond.core import files
from raycond.data.classes import Classes
from raycond.models.codecs.autoencoder import save_autoencoder
from raycond.models.generators.dit_network import build_dit, noise_scheduler
from raycond.models.generators.options import DitConfig

ABOUT = "raycond.json"
INDEX = "model_index.json"


def save_generator(
    folder: str,
    *,
    config: DitConfig,
    latent: tuple[int, int, int],
    weights: Mapping[str, Tensor],
    vae: Any,
    classes: Classes,
    about: Mapping[str, Any],
) -> tuple[str, ...]:
    """Write the folder that `DiTPipeline.from_pretrained` opens; the names of its files.

    weights: the network's, by name. vae: the AutoencoderKL whose scaled latents it was trained on. about: becomes
    raycond.json. model_index.json, which makes it a pipeline, comes last: a part of a folder is never taken for one.
    """
    network = build_dit(config, latent=latent, classes=len(classes), seed=0)
    network.load_state_dict(dict(weights))
    state = {name: tensor.detach().contiguous() for name, tensor in network.state_dict().items()}
    for name in (INDEX, ABOUT):
        files.delete(files.join(folder, name))
    files.write_bytes(files.join(folder, "transformer", "diffusion_pytorch_model.safetensors"), save(state, _FORMAT))
    files.write_json(files.join(folder, "transformer", "config.json"), _plain(network))
    files.write_json(files.join(folder, "scheduler", "scheduler_config.json"), _plain(noise_scheduler()))
    save_autoencoder(vae, files.join(folder, "vae"))
    files.write_json(files.join(folder, "classes.json"), classes.to_dict())
    files.write_json(files.join(folder, ABOUT), {**about, "null_label": network.config.num_embeds_ada_norm})
    files.write_json(files.join(folder, INDEX), _index(classes))
    return (
        *("transformer/diffusion_pytorch_model.safetensors", "transformer/config.json"),
        "scheduler/scheduler_config.json",
        *("vae/diffusion_pytorch_model.safetensors", "vae/config.json"),
        *("classes.json", ABOUT, INDEX),
    )


_FORMAT = {"format": "pt"}


def _plain(part: Any) -> dict[str, Any]:
    """A part's configuration without the version of diffusers, which does not change what it is."""
    plain: dict[str, Any] = json.loads(part.to_json_string())
    return {k: v for k, v in plain.items() if not k.startswith("_") or k == "_class_name"}


def _index(classes: Classes) -> dict[str, Any]:
    return {
        "_class_name": "DiTPipeline",
        "id2label": {str(label): name for label, name in enumerate(classes.names)},
        "scheduler": ["diffusers", "DDPMScheduler"],
        "transformer": ["diffusers", "DiTTransformer2DModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
