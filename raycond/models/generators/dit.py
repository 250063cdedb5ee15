"""DiT: class-conditional latent diffusion from noised centroids (DDOQ-DiT, MGD3, plain samples)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from raycond.core import files
from raycond.core.errors import UserError
from raycond.models.codecs.base import Codec
from raycond.models.generators.base import Context, Description, Wanted
from raycond.models.generators.class_map import class_indices
from raycond.models.generators.diffusers_folder import PipelineFolder
from raycond.models.generators.guidance import classifier_free
from raycond.models.generators.latent_diffusion import LatentDiffusion, require_codec
from raycond.models.generators.options import GeneratorOptions
from raycond.models.generators.respaced import GUIDED_CHANNELS
from raycond.models.generators.sampler import Reverse, by_noise

GUIDANCE = 4.0


class Dit(LatentDiffusion):
    """A DiTPipeline folder's DiTTransformer2DModel (Peebles & Xie 2023); see `GeneratorOptions` for what it does.

    noise 0.5 is DDOQ's DiT variant, whose own noising time is not public: the centroid is noised to about t = 500 of
    1000, where √ᾱ is that of D4M's strength 0.7. noise 1 is plain sampling, and with recipe published and mode_guidance
    0.1 MGD3. The class without a label, for classifier-free guidance, is the one after the last. Where the model also
    predicts a variance (twice the channels), recipe published samples with it; else that half is left out, as
    DiTPipeline does.
    """

    kind = "dit"

    @classmethod
    def describe_folder(cls, folder: PipelineFolder, context: Context) -> Description:
        if folder.family != "DiTPipeline":
            raise UserError(f"{folder}: is a {folder.family}, not a DiTPipeline")
        config, codec, options = folder.config("transformer"), context.codec, context.options
        require_codec(folder, codec, int(config.get("in_channels", 4)))
        _require_side(folder, int(config.get("sample_size", 32)), codec, context.size)
        count = int(config.get("num_embeds_ada_norm", 1000))
        indices = class_indices(folder, count, context.classes, options.class_map)
        by_noise(folder, options)
        used = {name: getattr(options, name) for name in ("steps", "scheduler", "noise", "mode_guidance", "mode_stop")}
        if options.recipe != "pipeline":
            used["recipe"] = options.recipe
        if (guided := guidance_channels(options)) is not None:
            used["guidance_channels"] = guided
        digest = files.digest([folder.digest(), used, guidance(options)])
        return Description(folder.name, digest, tuple(map(str, indices)))

    def _load(self, folder: PipelineFolder) -> None:
        self.guidance = guidance(self.options)
        self._reverse: Reverse = by_noise(folder, self.options)
        model: Any = folder.load("transformer", self.dtype)
        self._model = nn.Module.to(model, device=self.device)
        self._count, self._channels = model.config.num_embeds_ada_norm, model.config.in_channels
        indices = class_indices(folder, self._count, self.context.classes, self.options.class_map)
        self._indices = torch.tensor(indices, dtype=torch.long)

    def _latents(self, wanted: Wanted) -> Tensor:
        given = self._indices[wanted.labels].to(self.device)
        both = torch.cat([torch.full_like(given, self._count), given])

        def predict(state: Tensor, time: Tensor) -> Tensor:
            x = state.to(self.dtype)
            if self.guidance <= 1:
                return self._output(x, time, given).float()
            output = self._output(torch.cat([x, x]), time, both)
            return classifier_free(output, self.guidance, guidance_channels(self.options))

        return self._reverse.run(wanted.latents.to(self.device, torch.float32), wanted.seeds, predict)

    def _output(self, state: Tensor, time: Tensor, labels: Tensor) -> Tensor:
        output = self._model(state, timestep=time.expand(len(state)), class_labels=labels).sample
        return output if self.options.recipe == "published" else output[:, : self._channels]


def guidance(options: GeneratorOptions) -> float:
    return GUIDANCE if options.guidance is None else options.guidance


def guidance_channels(options: GeneratorOptions) -> int | None:
    """How many channels are guided; None for all."""
    return options.guidance_channels or (GUIDED_CHANNELS if options.recipe == "published" else None)


def _require_side(folder: PipelineFolder, side: int, codec: Codec, size: int) -> None:
    shape = codec.latent_shape(size)
    if shape[1:] != (side, side):
        raise UserError(
            f"{folder}: works on latents of {side} × {side}, and images of --size {size} have {shape[1]} × {shape[2]}; "
            f"give --size {side * codec.factor}"
        )
