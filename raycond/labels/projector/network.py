"""HeLlO's projector from image to label: CLIP's image tower and a linear head, with small deltas (arXiv 2408.08201)."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raycond.core.errors import UserError
from raycond.data.classes import Classes
from raycond.labels.projector import lora
from raycond.labels.projector.prompts import TEMPLATES, text_head
from raycond.models.clip import Clip, check_tokenizer, open_clip_model

Head = Literal["text", "full", "scratch"]
_RAW = re.compile(r"parametrizations\.(\w+)\.0\.")  # torch's names of a delta


@dataclass(frozen=True)
class ProjectorOptions:
    """What is learned beside the frozen CLIP; the defaults are the paper's, where its numbers tell them.

    conv_rank: of the tower's deltas; 0 for none. layout: which convolutions, see `lora.LAYOUTS`; towers without them
    have deltas on attention's and MLP's matrices. head: text (the texts' embeddings, frozen, and a delta of head_rank),
    full (starts at the embeddings, all of it learned) or scratch (starts at zero, all of it learned, no texts).
    head_rank: None for 64 up to 100 classes, else 128; never more than the head has rows or columns. templates: texts,
    with {} for the class's name. seed: of the deltas' A.
    """

    conv_rank: int = 8
    head_rank: int | None = None
    head: Head = "text"
    layout: lora.Layout = "3x3"
    templates: tuple[str, ...] = TEMPLATES["photo"]
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "templates", tuple(self.templates))
        if self.head not in get_args(Head):
            raise UserError(f"head {self.head!r}: expected {', '.join(get_args(Head))}")
        if self.layout not in lora.LAYOUTS:
            raise UserError(f"layout {self.layout!r}: expected {', '.join(lora.LAYOUTS)}")
        for name, rank in (("conv_rank", self.conv_rank), ("head_rank", self.head_rank)):
            if rank is not None and rank < 0:
                raise UserError(f"{name} {rank}: expected a rank of 0 or more")

    def rank_of_head(self, classes: int, width: int) -> int:
        rank = self.head_rank if self.head_rank is not None else (64 if classes <= 100 else 128)
        return min(rank, classes, width)

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "templates": list(self.templates)}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> ProjectorOptions:
        return cls(**value)


def check_clip(spec: str, layout: str | None, *, texts: bool) -> None:
    """Find out now what would end a fit later: open the CLIP, see what `layout` adapts (None: nothing), and look for
    the tokenizer if there are to be texts. Raises UserError."""
    clip = open_clip_model(spec, device="cpu")
    if layout is not None:
        lora.targets(clip.tower, layout)
    if texts:
        check_tokenizer(spec)


class Projector(nn.Module):
    """Images (n, 1 or 3, h, w) in [0, 1], or uint8 → logits (n, C) float32 on the projector's device.

    Images are resized to CLIP's size as CLIP resizes (bicubic; antialiased when they shrink), a grey channel is
    repeated, CLIP's mean and deviation are applied. Logits are exp(logit scale) · normalised features · head, so that
    with head=text they are CLIP's zero-shot logits at the start. Only the delta is trainable. Always in eval mode, so
    that the running statistics of the BatchNorms stay those of the public weights.

    head: (C, d) to start from in place of the texts' embeddings. The tower of `clip` is copied, not changed. Raises
    UserError for classes without names, and for options that do not fit the tower.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        clip: Clip,
        classes: Classes,
        options: ProjectorOptions | None = None,
        device: str | torch.device = "cpu",
        *,
        head: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.clip, self.classes, self.options = clip, classes, options or ProjectorOptions()
        self.device = torch.device(device)
        generator = torch.Generator().manual_seed(self.options.seed)
        self.tower = copy.deepcopy(clip.tower).to(self.device).requires_grad_(False)
        lora.adapt(self.tower, self.options.layout, self.options.conv_rank, generator)
        self.head = self._head(head, generator)
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(getattr(clip, name)).view(1, -1, 1, 1).to(self.device))
        self.eval()

    def _head(self, start: Tensor | None, generator: torch.Generator) -> nn.Linear:
        kind, count, width = self.options.head, len(self.classes), self.clip.width
        if start is None and kind != "scratch":
            start = text_head(self.clip, self.classes, self.options.templates)
        if start is None:
            start = torch.zeros(count, width)
        head = nn.Linear(width, count, bias=False, device="meta")
        head.weight = nn.Parameter(start.to(self.device, torch.float32).clone(), requires_grad=kind != "text")
        rank = self.options.rank_of_head(count, width)
        if kind == "text" and rank:
            lora.add(lora.Target(head, "weight", count, width), rank, generator)
        return head

    def train(self, mode: bool = True) -> Projector:
        return super().train(False)

    def forward(self, images: Tensor) -> Tensor:
        features = self.features(images)
        with torch.autocast(self.device.type, enabled=False):
            logits: Tensor = self.head(self.clip.logit_scale * F.normalize(features.float(), dim=-1))
        return logits

    def features(self, images: Tensor) -> Tensor:
        """Images as in `forward` → features (n, d) of the adapted tower, not normalised; gradients reach the images."""
        features: Tensor = self.tower(self.seen(images))
        return features

    def seen(self, images: Tensor) -> Tensor:
        """Images as in `forward` → what the tower takes, (n, 3, size, size) float32."""
        x = images.to(self.device, non_blocking=True)
        x = x.float() / 255 if x.dtype == torch.uint8 else x.float()
        if x.shape[1] not in (1, 3):
            raise UserError(f"projector on {self.clip.name}: takes 1 or 3 channels, and the images have {x.shape[1]}")
        size = self.clip.size
        if x.shape[2:] != (size, size):
            shrinks = size < max(x.shape[2:])
            x = F.interpolate(x, (size, size), mode=self.clip.interpolation, antialias=shrinks, align_corners=False)
            x = x.clamp(0, 1)  # bicubic overshoots
        return (x.expand(-1, 3, -1, -1) - self.mean) / self.std

    def delta(self) -> dict[str, Tensor]:
        """All that is learned, by name: `….A` and `….B` of a low-rank delta, or the head's whole weight."""
        return {_RAW.sub(r"\1.", name): p for name, p in self.named_parameters() if p.requires_grad}

    def load_delta(self, delta: Mapping[str, Tensor]) -> None:
        """Take the values of another projector's `delta()`. Raises UserError, naming what does not fit."""
        own = self.delta()
        if wrong := sorted(own.keys() ^ delta.keys()):
            side = "is missing" if wrong[0] in own else "is unknown"
            raise UserError(f"delta: {wrong[0]} {side} ({len(wrong)} names differ): it is of another projector")
        for name, parameter in own.items():
            if parameter.shape != delta[name].shape:
                shapes = f"{tuple(delta[name].shape)}, expected {tuple(parameter.shape)}"
                raise UserError(f"delta: {name} is {shapes}: it is of another projector")
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(delta[name])

    def merged(self) -> Projector:
        """This projector with its delta added into the weights, for labels only: nothing is trainable any more."""
        lora.merge(self)
        self.tower.to(memory_format=torch.channels_last)
        return self

    @property
    def count(self) -> int:
        """Numbers in the delta."""
        return sum(p.numel() for p in self.delta().values())
