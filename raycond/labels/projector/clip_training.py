"""Train a small CLIP of open_clip's own classes from scratch on a source, with captions made of its class names.

A public CLIP is better wherever one knows the images; this one is for sources that none knows (8×8 digits), for places
without a network, and for tests. The loss is CLIP's (arXiv 2103.00020), except that the images of a batch that share a
class share its caption, so that several of them are right answers to it (as in UniCL, arXiv 2204.03610).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import torch as safetensors
from torch import Tensor

from raycond.core.errors import UserError
from raycond.core.seeds import seed_of, seeded
from raycond.data.class_arrays import Pixels
from raycond.labels.projector.options import ClipTrainingConfig
from raycond.models.clip import build
from raycond.models.clip_tokenizer import tokenizer
from raycond.training.augment.augmentation import Augmentation
from raycond.training.resumable import Resumable, entries_of, steps_of

MAX_SCALE = math.log(100)  # of the logits, as in CLIP


def model_config(config: ClipTrainingConfig) -> dict[str, Any]:
    """What open_clip calls `model_cfg`."""
    vision: dict[str, Any] = {"image_size": config.image_size, "width": config.width}
    if config.tower == "resnet":
        vision |= {"layers": [config.layers] * 4, "patch_size": None, "head_width": max(4, min(64, config.width))}
    else:
        vision |= {"layers": config.layers, "patch_size": config.patch, "head_width": config.head_width}
    text = {
        "context_length": config.context,
        "vocab_size": 49408,  # of open_clip's SimpleTokenizer
        "width": config.text_width,
        "heads": config.text_heads,
        "layers": config.text_layers,
    }
    return {"embed_dim": config.embed, "vision_cfg": vision, "text_cfg": text}


class ClipTraining(Resumable):
    """texts: (classes × templates) captions, those of a class together. rows: the images to learn from.

    Raises UserError if a caption is longer than `config.context`.
    """

    what = "clip"

    def __init__(
        self,
        config: ClipTrainingConfig,
        pixels: Pixels,
        rows: Tensor,
        texts: Sequence[Sequence[str]],
        *,
        seed: int,
        device: str | torch.device,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.config, self.pixels, self.rows = config, pixels, rows
        with seeded(seed_of(seed, "clip")):
            net: torch.nn.Module = build(model_config(config)).to(memory_format=torch.channels_last)
        total = steps_of(config.epochs, len(rows), config.batch)
        super().__init__(config, net.train(), total=total, seed=seed, device=device, rank=rank, world=world)
        self.texts = tokens(texts, model_config(config)).to(self.device)
        self.mean, self.std = pixels.statistics(rows)
        self._mean, self._std = (
            torch.tensor(value, device=self.device).view(1, -1, 1, 1) for value in (self.mean, self.std)
        )
        self.augmentation = Augmentation(config.scale, config.shift, config.flip)

    @property
    def count(self) -> int:
        return len(self.rows)

    def loss_of(self, rows: Tensor) -> Tensor:
        images, labels = self._images(rows)
        host = torch.Generator().manual_seed(seed_of(self.seed, "captions", self.step))
        chosen = torch.randint(self.texts.shape[1], (len(self.texts),), generator=host)
        captions = self.texts[torch.arange(len(self.texts)), chosen]  # one template for each class
        with torch.no_grad():
            self.net.logit_scale.clamp_(max=MAX_SCALE)  # type: ignore[operator]
        with self.precision():
            seen, said, scale = self.wrapped(images, captions)
        seen, labels = gathered(seen.float(), labels, self.world)
        logits = scale.float() * seen @ said.float().T
        right = F.one_hot(labels, len(self.texts)).float().T
        present = right.sum(1) > 0
        to_images = -(right * logits.T.log_softmax(1)).sum(1) / right.sum(1).clamp(min=1)
        return 0.5 * (F.cross_entropy(logits, labels) + to_images[present].mean())

    def _images(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        images, labels = self.pixels.take(self.rows[rows])
        views = torch.cat([self.augmentation(part, random) for part, random in self.parts(images)])
        side = self.config.image_size
        if views.shape[2:] != (side, side):
            shrinks = side < max(views.shape[2:])  # as the projector does it
            views = F.interpolate(views, (side, side), mode="bicubic", antialias=shrinks, align_corners=False)
            views = views.clamp(0, 1)
        return ((views - self._mean) / self._std).expand(-1, 3, -1, -1), labels


def tokens(texts: Sequence[Sequence[str]], config: dict[str, Any]) -> Tensor:
    """(classes, templates, context) int64. Raises UserError if a text is longer, or is the same in two classes."""
    context = config["text_cfg"]["context_length"]
    longer = tokenizer({"text_cfg": {**config["text_cfg"], "context_length": context + 1}})
    found = torch.stack([longer(list(of_class)) for of_class in texts])
    if bool((long := found[:, :, -1] != 0).any()):
        label, template = long.nonzero()[0].tolist()
        raise UserError(f"clip_training, context: {texts[label][template]!r} has more than {context} tokens")
    words = [tuple(of_class[0].tolist()) for of_class in found]
    if len(set(words)) < len(words):
        first, second = next((a, b) for b, word in enumerate(words) for a in range(b) if words[a] == word)
        raise UserError(
            f"clip_training: {texts[first][0]!r} and {texts[second][0]!r}, of two classes, are the same to CLIP's "
            "tokenizer: give the classes other names in a classes.json"
        )
    return found[:, :, :-1]


def gathered(features: Tensor, labels: Tensor, world: int) -> tuple[Tensor, Tensor]:
    """Those of all workers, in their order; gradients flow back to each worker's own."""
    if world == 1:
        return features, labels
    from torch.distributed.nn.functional import all_gather

    every = [torch.empty_like(labels) for _ in range(world)]
    torch.distributed.all_gather(every, labels)
    return torch.cat(all_gather(features)), torch.cat(every)


def weights(data: bytes) -> dict[str, Tensor]:
    """The state dict of the model, from the `state` of a training."""
    return entries_of(safetensors.load(data), "tensor")
