"""Stable Diffusion image-to-image from centroids (D4M, and DDOQ with the UNet)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from raycond.core import files
from raycond.core.errors import UserError
from raycond.data.classes import Classes
from raycond.models.codecs.base import Codec
from raycond.models.generators.base import Context, Description, Wanted
from raycond.models.generators.diffusers_folder import PipelineFolder
from raycond.models.generators.guidance import classifier_free
from raycond.models.generators.latent_diffusion import LatentDiffusion, require_codec
from raycond.models.generators.options import GeneratorOptions
from raycond.models.generators.sampler import Reverse, by_strength
from raycond.models.imagenet_names import synsets
from raycond.models.texts import as_read, require_distinct

GUIDANCE = 8.0
_FAMILIES = {
    "StableDiffusion": "StableDiffusionPipeline",
    "StableDiffusionXL": "StableDiffusionXLPipeline",
    "StableDiffusion3": "StableDiffusion3Pipeline",
}
_SURELY_READ = 32  # characters: each may be a token or two, and CLIP reads 75
_KEPT = 64  # classes whose text embeddings are kept: a worker has all images of a class before the next class
Text = tuple[Tensor, Tensor | None]  # embeddings (1, tokens, d) and, but for 1.x and 2.x, pooled (1, d)


class StableDiffusion(LatentDiffusion):
    """A folder of Stable Diffusion 1.x, 2.x, SDXL or 3, for text to image or image to image.

    D4M (arXiv 2407.15138): the centroid is noised to the strength's time and denoised under the class's prompt, with
    the pipeline's own parts and sampler, but starting from the latent instead of encoding an image, with one seed an
    image, and in float32 between the calls of the model.

    The safety checker is never loaded. What it flags, false alarms included, it returns as a black image, which would
    enter the set as an image of its class: D4M leaves it on. Here images come from class names and from means of the
    user's own images.
    """

    kind = "sd"

    @classmethod
    def describe_folder(cls, folder: PipelineFolder, context: Context) -> Description:
        options, classes = context.options, context.classes
        _require_fit(folder, context.codec, context.size)
        by_strength(folder, options)
        prompts = _prompts(options.prompt, classes)
        _require_distinct(folder, classes, prompts)
        used = {
            name: getattr(options, name)
            for name in ("steps", "scheduler", "strength", "negative_prompt", "mode_guidance", "mode_stop")
        }
        used["zeros"] = bool(folder.index.get("force_zeros_for_empty_prompt", True))
        return Description(folder.name, files.digest([folder.digest(), used, guidance(options)]), prompts)

    def _load(self, folder: PipelineFolder) -> None:
        self.guidance = guidance(self.options)
        self._reverse: Reverse = by_strength(folder, self.options)
        self._family = family(folder)
        self._pipeline = _assembled(folder, self._family, self.device, self.dtype)
        self._texts: dict[int, Text] = {}
        self._against: Text | None = None

    def _latents(self, wanted: Wanted) -> Tensor:
        model = self._conditioned(wanted.labels.tolist())

        def predict(state: Tensor, time: Tensor) -> Tensor:
            x = state.to(self.dtype)
            if self.guidance <= 1:
                return model(x, time).float()
            return classifier_free(model(torch.cat([x, x]), time), self.guidance)

        return self._reverse.run(wanted.latents.to(self.device, torch.float32), wanted.seeds, predict)

    def _conditioned(self, labels: list[int]) -> Callable[[Tensor, Tensor], Tensor]:
        """The model under the prompts of these labels, behind as many negative ones if there is guidance."""
        texts = [self._text(label) for label in labels]
        if self.guidance > 1:
            texts = [self._negative()] * len(texts) + texts
        embeds = torch.cat([text for text, _ in texts]).to(self.device)
        pooled = torch.cat([p for _, p in texts if p is not None]).to(self.device) if texts[0][1] is not None else None
        if self._family == "StableDiffusion3":
            transformer = self._pipeline.transformer

            def flow(state: Tensor, time: Tensor) -> Tensor:
                output: Tensor = transformer(
                    state,
                    encoder_hidden_states=embeds,
                    pooled_projections=pooled,
                    timestep=time.expand(len(state)),
                    return_dict=False,
                )[0]
                return output

            return flow
        side = self.latent_shape[1] * self.codec.factor
        # original size, top left corner of the crop and target size, as for an uncropped image (SDXL section 2.2)
        sizes = torch.tensor([[side, side, 0, 0, side, side]], device=self.device, dtype=self.dtype)
        added = None if pooled is None else {"text_embeds": pooled, "time_ids": sizes.expand(len(texts), -1)}
        unet = self._pipeline.unet

        def noise(state: Tensor, time: Tensor) -> Tensor:
            output: Tensor = unet(state, time, embeds, added_cond_kwargs=added, return_dict=False)[0]
            return output

        return noise

    def _text(self, label: int) -> Text:
        """Of one class's prompt, alone, so that it is the same in every batch."""
        if label not in self._texts:
            if len(self._texts) >= _KEPT:
                self._texts.pop(next(iter(self._texts)))
            found = self._encoded(self.description.conditions[label], guided=False)
            self._texts[label] = (found[0], found[2])
        return self._texts[label]

    def _negative(self) -> Text:
        if self._against is None:
            found = self._encoded("", guided=True)
            assert found[1] is not None
            self._against = (found[1], found[3])
        return self._against

    def _encoded(self, prompt: str, *, guided: bool) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
        """Embeddings of the prompt and of the negative prompt, then pooled ones of both, on the CPU."""
        options: dict[str, Any] = {
            "prompt": prompt,
            "device": self.device,
            "num_images_per_prompt": 1,
            "do_classifier_free_guidance": guided,
            # an empty one is none: SDXL then wants zeros, not the embedding of no words
            "negative_prompt": self.options.negative_prompt or None,
        }
        if self._family == "StableDiffusion3":
            options |= {"prompt_2": None, "prompt_3": None}
        found = self._pipeline.encode_prompt(**options)
        first, second, *pooled = [t if t is None else t.to("cpu", self.dtype) for t in found]
        return (first, second, *(pooled or (None, None)))


def _assembled(folder: PipelineFolder, name: str, device: torch.device, dtype: torch.dtype) -> Any:
    """The pipeline without VAE, safety checker and watermark; only its parts and `encode_prompt` are used."""
    import diffusers

    parts = {part: folder.load(part, dtype) for part in folder.parts}
    for part in parts.values():
        if isinstance(part, nn.Module):
            nn.Module.to(part, device=device)
    if "unet" in parts:
        nn.Module.to(parts["unet"], memory_format=torch.channels_last)
    options: dict[str, Any] = {"vae": None}
    if name == "StableDiffusion":
        options |= {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    elif name == "StableDiffusionXL":
        # the pipeline's own setting, which is not a part
        zeros = bool(folder.index.get("force_zeros_for_empty_prompt", True))
        options |= {"add_watermarker": False, "force_zeros_for_empty_prompt": zeros}
    else:
        options |= {part: None for part in ("text_encoder_3", "tokenizer_3") if part not in parts}
    return getattr(diffusers, _FAMILIES[name])(**parts, **options)


def guidance(options: GeneratorOptions) -> float:
    return GUIDANCE if options.guidance is None else options.guidance


def family(folder: PipelineFolder) -> str:
    """Which Stable Diffusion the folder holds. Raises UserError for any other pipeline."""
    name = folder.family.removesuffix("Pipeline").removesuffix("Img2Img")
    if name in _FAMILIES:
        return name
    reason = ""
    if name.startswith("Flux"):
        reason = ": Flux packs its latents and is distilled to work without a negative prompt"
    raise UserError(f"{folder}: {folder.family} is not supported{reason}; supported are {', '.join(_FAMILIES)}")


def _require_distinct(folder: PipelineFolder, classes: Classes, prompts: Sequence[str]) -> None:
    """Raise UserError for two classes of the same prompt, also where the tokenizer cuts off what tells them apart."""
    remedy = (
        'give the classes different names in a classes.json ({"ID": "NAME", …}) beside the class folders, or take '
        "the id into the prompt, as in --prompt '{name} ({id})'"
    )
    require_distinct(classes, [as_read(prompt) for prompt in prompts], "the prompt", remedy)
    if max(map(len, prompts)) > _SURELY_READ and "tokenizer_3" not in folder.parts:
        tokens = folder.load("tokenizer")(list(prompts), truncation=True)["input_ids"]
        require_distinct(classes, [tuple(row) for row in tokens], "what the model reads of the prompt", remedy)


def _require_fit(folder: PipelineFolder, codec: Codec, size: int) -> None:
    """Raise UserError unless the pipeline is a known one that takes the codec's latents of images of this side."""
    name = family(folder)
    shape = codec.latent_shape(size)
    if name == "StableDiffusion3":
        config = folder.config("transformer")
        require_codec(folder, codec, config.get("in_channels", 16))
        multiple = int(config.get("patch_size", 2))
        if shape[1] > int(config.get("pos_embed_max_size", 96)) * multiple:
            raise UserError(f"{folder}: cannot make images as large as --size {size}")
    else:
        config = folder.config("unet")
        multiple = _unet_checked(folder, name, config, codec)
    if shape[1] % multiple:
        raise UserError(f"{folder}: --size {size}: expected a multiple of {multiple * codec.factor}")


def _unet_checked(folder: PipelineFolder, name: str, config: dict[str, Any], codec: Codec) -> int:
    """What the sides of the latents must be a multiple of. Raises UserError for a UNet that is made for another use."""
    channels = config.get("in_channels", 4)
    if channels != config.get("out_channels", 4):
        raise UserError(f"{folder}: its UNet takes {channels} channels: it edits or fills images and cannot make them")
    if config.get("time_cond_proj_dim") is not None:
        raise UserError(f"{folder}: is a consistency model, distilled for a few steps without guidance: not supported")
    require_codec(folder, codec, channels)
    refiner = folder.index.get("requires_aesthetics_score") or "text_encoder" not in folder.parts
    if name == "StableDiffusionXL" and refiner:
        raise UserError(f"{folder}: is SDXL's refiner; give the base model")
    return 2 ** (len(config.get("block_out_channels", ())) - 1)


def _prompts(template: str, classes: Classes) -> tuple[str, ...]:
    """The prompt of each class. Raises UserError for a template with other places than name, synset and id."""
    lines = synsets(classes) if "synset" in template else classes.names
    try:
        return tuple(
            template.format(name=name, synset=line, id=class_id)
            for class_id, name, line in zip(classes.ids, classes.names, lines, strict=True)
        )
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        known = "{name}, {synset} or {id}"
        raise UserError(f"generator: prompt {template!r}: expected text with {known} in it") from error
