"""The units of work of a class and what each depends on; the driver and the workers agree on these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from raycond import files
from raycond.config import QuantizeConfig
from raycond.data.sources import Source
from raycond.runtime import records
from raycond.runtime.layout import Layout


@dataclass(frozen=True)
class WorkerSpec:
    """All that a worker on any node needs; small and picklable. codec: what `open_codec` takes."""

    config: QuantizeConfig
    source: Source
    codec: str
    codec_digest: str
    channels: int
    layout: Layout


class Job(NamedTuple):
    """One class: codebooks to make (IPC → fingerprint), then images to make (generator → IPCs)."""

    label: int
    quantize: dict[int, str]
    generate: dict[str, list[int]]


class Result(NamedTuple):
    """What became of a job: IPC → facts of the codebooks made. `error` is "" when all went well."""

    label: int
    facts: dict[int, dict[str, Any]]
    images: int
    seconds: float
    error: str = ""


def codebook_fingerprint(spec: WorkerSpec, label: int, ipc: int, images: str) -> str:
    """Of the codebook of one class at one IPC; `images` is the fingerprint of the class's image references."""
    c = spec.config
    return records.fingerprint(
        stage="quantize",
        images=images,
        class_id=spec.source.classes.ids[label],
        label=label,
        ipc=ipc,
        codec=spec.codec_digest,
        w2=label < c.w2_classes,
        size=c.size,
        resize=c.resize,
        posterior=c.posterior,
        dtype=c.dtype,
        quantizer=c.quantizer,
        restarts=c.restarts,
        seed=c.seed,
        batch=c.batch,
        max_pixels=c.max_pixels,
        threads=c.cpus_per_actor,
    )


def images_fingerprint(spec: WorkerSpec, generator: str, ipc: int, label: int) -> str:
    """Of the images made from a finished codebook. Raises OSError if the codebook has no record."""
    codebook = files.read_json(records.record_of(spec.layout.codebook(ipc, label)))
    return records.fingerprint(
        stage="generate",
        generator=generator,
        # medoids are read from the source again, so what the images were counts too
        codebook=[codebook["sha256"], codebook["facts"]["content"]],
        codec=spec.codec_digest if generator == "vae" else "",
        format=spec.config.image_format,
        dtype=spec.config.dtype,
        batch=spec.config.batch,
    )
