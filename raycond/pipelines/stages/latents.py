"""The stage that encodes a source's images once, one file of latents per class."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from raycond.core import files, records
from raycond.core.device import require_device, torch_threads
from raycond.core.errors import RaycondError
from raycond.core.seeds import seed_of
from raycond.data.class_arrays import to_bytes
from raycond.data.images import Decoding
from raycond.data.sources import Source
from raycond.methods.quantize.quantization import require_finite
from raycond.models.codecs.base import Codec
from raycond.models.codecs.registry import open_codec
from raycond.pipelines.stages.class_images import ClassImages
from raycond.runtime.resources import Resources


@dataclass(frozen=True)
class EncodeSpec:
    """All that encoding a class on any node needs; small and picklable."""

    source: Source
    folder: str
    """Where the files of the classes lie."""

    codec: str
    """What `open_codec` takes."""

    codec_digest: str
    decoding: Decoding
    dtype: str
    """Of the codec."""

    batch: int
    """Images encoded at once."""

    posterior: str
    seed: int
    flip: bool
    """Whether mirrored images are encoded too."""

    threads: int
    """Threads that decode."""

    resources: Resources

    stage = "encode"

    def place(self, label: int) -> str:
        return files.join(self.folder, f"{label:05d}.npy")

    def expected(self, label: int, images: str) -> str:
        options = self.decoding
        return records.fingerprint(
            stage="latents",
            images=images,
            class_id=self.source.classes.ids[label],
            codec=self.codec_digest,
            **options.identity,
            flip=self.flip,
            posterior=self.posterior,
            seed=self.seed if self.posterior == "sample" else None,
            dtype=self.dtype,
            batch=self.batch,
            **({"threads": self.resources.cpus} if self.resources.cpus > 1 else {}),
        )

    @property
    def work(self) -> Callable[[Any], dict[str, Any]]:
        return encode_class


def encode_class(item: tuple[EncodeSpec, int, str, str]) -> dict[str, Any]:
    """Encode one class (spec, label, fingerprint of its references, device), write its file, return its facts.

    Raises RaycondError if not one of its images can be read.
    """
    spec, label, fingerprint, device = item
    require_device(device)
    class_id = spec.source.classes.ids[label]
    images = ClassImages(spec.source.refs(label), class_id, spec.decoding, spec.threads, prefetch=2 * spec.batch)
    with torch_threads(spec.resources.cpus):
        codec = _codec(spec.codec, device, spec.dtype)
        parts = [
            part
            for batch, refs in images.batches(spec.batch)
            for part in _encode(spec, codec, batch, [ref.id for ref in refs])
        ]
    if not parts:
        raise RaycondError(f"class {class_id}: not one of its {len(images.bad)} images can be read")
    latents = torch.cat([*parts[0::2], *parts[1::2]] if spec.flip else parts)
    require_finite(class_id, latents.half())
    return records.finish(
        spec.place(label),
        spec.expected(label, fingerprint),
        to_bytes(latents),
        rows=len(latents),
        shape=list(latents.shape[1:]),
        images=len(images.kept),
        content=images.content,
        bad=[list(record) for record in images.bad],
    )


@lru_cache(maxsize=1)  # a worker process encodes many classes, one after another
def _codec(where: str, device: str, dtype: str) -> Codec:
    return open_codec(where, device=device, dtype=dtype)


def _encode(spec: EncodeSpec, codec: Codec, images: Tensor, ids: Sequence[str]) -> Iterator[Tensor]:
    """Latents of a batch, and of its mirror images where those are wanted."""
    seeds = [seed_of(spec.seed, f"image {i}") for i in ids] if spec.posterior == "sample" else None
    yield codec.encode(images, seeds).cpu()
    if spec.flip:
        yield codec.encode(images.flip(3), seeds).cpu()
