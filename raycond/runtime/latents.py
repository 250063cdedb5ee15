"""The stage that encodes a source's images once, one file of latents per class."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from raycond import files
from raycond.data.images import load_many
from raycond.data.quarantine import BadRecord
from raycond.data.sources import Source
from raycond.device import require_device
from raycond.errors import BadImage, RaycondError, UserError
from raycond.generate.latents import LatentFiles, to_bytes
from raycond.generator_config import GeneratorTrainingConfig
from raycond.latents.codec import Codec, open_codec
from raycond.progress import Progress
from raycond.quantize.quantizer import require_finite
from raycond.runtime import records
from raycond.runtime.generator_layout import GeneratorLayout


class Tasks(Protocol):
    """The part of a runner that this stage needs."""

    device: str

    def tasks(self, function: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[tuple[int, Any]]: ...


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
        return _expected(self, label, images)

    @property
    def work(self) -> Callable[[Any], dict[str, Any]]:
        return encode_class


class ClassSpec(Protocol):
    """A stage that makes one file of each class: all that doing it on any node needs; small and picklable.

    expected: fingerprint of the file of a class, of whose references `images` is the fingerprint. work: takes (spec,
    label, images, device), gives the facts of the file.
    """

    @property
    def source(self) -> Source: ...

    @property
    def stage(self) -> str: ...

    def place(self, label: int) -> str: ...

    def expected(self, label: int, images: str) -> str: ...

    @property
    def work(self) -> Callable[[Any], dict[str, Any]]: ...


@dataclass
class Encoded:
    """The latents of every class, what each file was made of, the images left out, and how many classes ran now."""

    found: LatentFiles
    facts: list[dict[str, Any]]
    bad: set[BadRecord] = field(default_factory=set)
    computed: int = 0

    @property
    def images(self) -> int:
        return sum(int(facts["images"]) for facts in self.facts)

    @property
    def digest(self) -> str:
        return files.digest([facts["sha256"] for facts in self.facts])


def finished(spec: ClassSpec, fingerprints: Sequence[str]) -> list[dict[str, Any] | None]:
    """The facts of every class's latents, None where they are missing or stale. fingerprints: of the classes."""

    def one(label: int) -> dict[str, Any] | None:
        return records.find(spec.place(label), spec.expected(label, fingerprints[label]))

    with ThreadPoolExecutor(records.IO_THREADS) as pool:
        return list(pool.map(one, range(len(fingerprints))))


def encode_classes(make_runner: Callable[[], Tasks], spec: ClassSpec, fingerprints: Sequence[str]) -> Encoded:
    """The file of every class, computed where no valid record says they exist; the runner is made only if one is.

    Raises RaycondError, with every class that failed, when the others are done.
    """
    facts = finished(spec, fingerprints)
    missing = [label for label, known in enumerate(facts) if known is None]
    failures = []
    if missing:
        runner = make_runner()
        items = [(spec, label, fingerprints[label], runner.device) for label in missing]
        with Progress(spec.stage, len(facts), "classes", done=len(facts) - len(missing)) as progress:
            for position, result in runner.tasks(spec.work, items):
                label = missing[position]
                if isinstance(result, Exception):
                    failures.append(_failure(spec, label, result))
                else:
                    facts[label] = result
                progress.step(1, spec.source.classes.names[label])
    if failures:
        raise RaycondError("\n".join(sorted(failures)))
    whole = [known for known in facts if known is not None]
    uris = tuple(spec.place(label) for label in range(len(whole)))
    if missing and not files.exists(uris[missing[0]]):
        raise UserError(
            f"--out: a worker wrote {uris[missing[0]]} and it is not to be seen from here; "
            "give a folder or address that every node reaches"
        )
    found = LatentFiles(uris, tuple(known["rows"] for known in whole), tuple(whole[0]["shape"]))
    bad = {BadRecord(*row) for known in whole for row in known["bad"]} | set(spec.source.bad)
    return Encoded(found, whole, bad, len(missing))


def _failure(spec: ClassSpec, label: int, error: Exception) -> str:
    text = str(error) if isinstance(error, RaycondError) else f"{type(error).__name__}: {error}"
    name = f"class {spec.source.classes.ids[label]}"
    return text if text.startswith(name) else f"{name}: {text}"


def _expected(spec: EncodeSpec, label: int, images: str) -> str:
    c = spec.config
    return records.fingerprint(
        stage="latents",
        images=images,
        class_id=spec.source.classes.ids[label],
        codec=spec.codec_digest,
        channels=spec.channels,
        size=c.size,
        resize=c.resize,
        flip=c.flip,
        posterior=c.posterior,
        seed=c.seed if c.posterior == "sample" else None,
        dtype=c.dtype,
        batch=c.batch_encode,
        max_pixels=c.max_pixels,
    )


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
        spec.layout.latents(label),
        _expected(spec, label, images),
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
