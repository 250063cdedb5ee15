"""The stage that encodes a source's images once, one file of latents per class."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from raycond.core import files, records
from raycond.core.device import require_device
from raycond.core.errors import BadImage, RaycondError
from raycond.data.class_arrays import to_bytes
from raycond.data.images import load_many
from raycond.data.quarantine import BadRecord
from raycond.data.sources import Source
from raycond.methods.quantize.registry import require_finite
from raycond.models.codecs.base import Codec
from raycond.models.codecs.registry import open_codec
from raycond.pipelines.layout import GeneratorLayout
from raycond.pipelines.train_generator.config import GeneratorTrainingConfig


@dataclass(frozen=True)
class EncodeSpec:
    """All that encoding a class on any node needs; small and picklable."""

    config: GeneratorTrainingConfig
    source: Source
    codec: str
    codec_digest: str
    channels: int
    layout: GeneratorLayout

    stage = "encode"

    def place(self, label: int) -> str:
        return self.layout.latents(label)

    def expected(self, label: int, images: str) -> str:
        c = self.config
        return records.fingerprint(
            stage="latents",
            images=images,
            class_id=self.source.classes.ids[label],
            codec=self.codec_digest,
            channels=self.channels,
            size=c.size,
            resize=c.resize,
            flip=c.flip,
            posterior=c.posterior,
            seed=c.seed if c.posterior == "sample" else None,
            dtype=c.dtype,
            batch=c.batch_encode,
            max_pixels=c.max_pixels,
        )

    @property
    def work(self) -> Callable[[Any], dict[str, Any]]:
        return encode_class


def encode_class(item: tuple[EncodeSpec, int, str, str]) -> dict[str, Any]:
    """Encode one class (spec, label, fingerprint of its references, device) and record it; its facts.

    Raises RaycondError if not one of its images can be read.
    """
    spec, label, images, device = item
    require_device(device)
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # a task has one processor, and sums must not depend on how many a machine has
    try:
        codec = _codec(spec.codec, device, spec.config.dtype)
        bad: list[BadRecord] = []
        digests: list[tuple[str, str]] = []
        parts = [part for batch in _batches(spec, label, bad, digests) for part in _encode(spec, codec, *batch)]
    finally:
        torch.set_num_threads(before)
    class_id = spec.source.classes.ids[label]
    if not parts:
        raise RaycondError(f"class {class_id}: not one of its {len(bad)} images can be read")
    latents = torch.cat([*parts[0::2], *parts[1::2]] if spec.config.flip else parts)
    require_finite(class_id, latents.half())
    return records.finish(
        spec.place(label),
        spec.expected(label, images),
        to_bytes(latents),
        rows=len(latents),
        shape=list(latents.shape[1:]),
        images=len(digests),
        content=files.digest(sorted(digests)),
        bad=[list(b) for b in bad],
    )


@lru_cache(maxsize=1)  # a worker process encodes many classes, one after another
def _codec(where: str, device: str, dtype: str) -> Codec:
    return open_codec(where, device=device, dtype=dtype)


def _encode(spec: EncodeSpec, codec: Codec, images: Tensor, ids: Sequence[str]) -> Iterator[Tensor]:
    """Latents of a batch, and of its mirror images where those are wanted."""
    seeds = None
    if spec.config.posterior == "sample":
        seeds = [int(files.digest([spec.config.seed, f"image {i}"])[:15], 16) for i in ids]
    yield codec.encode(images, seeds).cpu()
    if spec.config.flip:
        yield codec.encode(images.flip(3), seeds).cpu()


def _batches(
    spec: EncodeSpec, label: int, bad: list[BadRecord], digests: list[tuple[str, str]]
) -> Iterator[tuple[Tensor, list[str]]]:
    """Batches of good images (n, C, H, W) uint8 with their ids; threads decode ahead."""
    c, kept = spec.config, list[tuple[str, np.ndarray]]()

    def stacked() -> tuple[Tensor, list[str]]:
        pixels = torch.from_numpy(np.stack([image for _, image in kept])).permute(0, 3, 1, 2)
        return pixels, [i for i, _ in kept]

    for ref, image, sha in load_many(
        spec.source.refs(label),
        size=c.size,
        resize=c.resize,
        channels=spec.channels,  # type: ignore[arg-type]
        max_pixels=c.max_pixels,
        threads=c.decode_threads or c.cpus_per_worker + 1,
        prefetch=2 * c.batch_encode,
    ):
        if isinstance(image, BadImage):
            bad.append(BadRecord.of(ref, spec.source.classes.ids[label], image.reason))
            continue
        digests.append((ref.id, sha))
        kept.append((ref.id, image))
        if len(kept) == c.batch_encode:
            yield stacked()
            kept.clear()
    if kept:
        yield stacked()
