"""The labeler `projector:DIR`: a fitted projector that answers for every view, on its device, storing nothing."""

from __future__ import annotations

import re

import torch
from torch import Tensor

from raycond.core import files
from raycond.core.errors import UserError
from raycond.data.classes import Classes
from raycond.labels.base import Kind
from raycond.labels.projector.delta import ABOUT, describe_projector, open_projector, read_projector
from raycond.labels.projector.network import Projector
from raycond.labels.teacher import CHUNK_PIXELS

IN_SET = "labels/projector"  # where a condensed set carries its projector


def identity(where: str, classes: Classes) -> tuple[str, str]:
    """(name, digest) of the projector of `DIR[,clip=CLIP]`, without a device; DIR may be a set that carries one."""
    folder, clip = _parse(where)
    return describe_projector(folder, classes, clip=clip)


def open_logits(where: str, classes: Classes, device: torch.device) -> tuple[tuple[str, str], Logits]:
    """Name, digest and what gives logits. Raises UserError as `describe_projector` does."""
    folder, clip = _parse(where)
    projector = open_projector(folder, device, classes=classes, clip=clip)
    stored = read_projector(folder)
    return (stored.name, stored.digest), Logits(projector)


class Logits:
    """Images (n, c, h, w) in [0, 1] → logits (n, C) float32, in chunks, without gradients and without autocast."""

    def __init__(self, projector: Projector) -> None:
        self.projector = projector.merged()  # so that a label costs what plain CLIP's does

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        device, size = self.projector.device, self.projector.clip.size
        chunk = max(1, CHUNK_PIXELS.get(device.type, CHUNK_PIXELS["cpu"]) // size**2)
        with torch.autocast(device.type, enabled=False):
            return torch.cat([self.projector(part) for part in images.split(chunk)])


def _parse(where: str) -> tuple[str, str | None]:
    folder, *options = re.split(r",(?=[a-z]+=)", where)
    unknown = [option for option in options if not option.startswith("clip=") or option == "clip="]
    if not folder or unknown or len(options) > 1:
        raise UserError(f"projector {where!r}: expected DIR[,clip=CLIP], where CLIP is a folder or MODEL:TAG")
    inside = files.join(files.absolute(folder), IN_SET)
    if files.exists(files.join(inside, ABOUT)):
        folder = inside
    return folder, options[0].removeprefix("clip=") if options else None


PROJECTOR = Kind("online", identity, open_logits)
