"""The units of work of a class and what each depends on; the driver and the workers agree on these."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from raycond.core import files, records
from raycond.data.images import Decoding
from raycond.data.quarantine import BadRecord
from raycond.data.sources import Source
from raycond.models.generators.base import Description
from raycond.pipelines.layout import Layout
from raycond.pipelines.prepare import decoding
from raycond.pipelines.quantize.config import QuantizeConfig

Facts = dict[str, Any]  # of one finished codebook: its sha256, content, images, distortion, bad, w2


@dataclass(frozen=True)
class WorkerSpec:
    """All that a worker on any node needs; small and picklable. codec: what `open_codec` takes.

    diffusion: what the generator is, if it has weights of its own.
    """

    config: QuantizeConfig
    source: Source
    codec: str
    codec_digest: str
    channels: int
    layout: Layout
    diffusion: Description | None = None

    @property
    def decoding(self) -> Decoding:
        """How the images that are encoded are decoded."""
        return decoding(self.config, self.channels, self.config.interpolation)

    @property
    def generator(self) -> str:
        """The kind of images that the set is made of, as `Layout.images` knows it."""
        if self.diffusion is None:
            return self._sized(self.config.generator.partition(":")[0])
        c = self.config
        told = [self.diffusion.digest, self.diffusion.conditions, c.seed, c.image_size, c.image_format, c.dtype]
        return f"diffusion-{files.digest(told)[:12]}"

    @property
    def decoded(self) -> str:
        """The kind of decoded centroids."""
        return self._sized("vae")

    @property
    def medoids(self) -> str:
        """The kind of real images nearest to the centroids."""
        return self._sized("medoid")

    def _sized(self, kind: str) -> str:
        """Runs that share their work keep images of several sizes apart."""
        return kind if self.config.image_size == self.config.size else f"{kind}-{self.config.image_size}"

    @property
    def kinds(self) -> dict[str, str]:
        """All kinds of images to make, each with the generator that makes it: medoids are a row of the evaluation, and
        beside a diffusion model's images the report shows them and the decoded centroids."""
        others = {self.medoids: "medoid"} | ({self.decoded: "vae"} if self.diffusion else {})
        return {self.generator: self.config.generator} | others


@dataclass
class ClassJob:
    """One class. quantize: codebooks to make (IPC → fingerprint). generate: images to make (generator → IPCs).

    made: facts of the codebooks that are there (IPC → facts).
    """

    label: int
    quantize: dict[int, str] = field(default_factory=dict)
    generate: dict[str, list[int]] = field(default_factory=dict)
    made: dict[int, Facts] = field(default_factory=dict)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ClassJob:
        job = cls(**json.loads(text))
        job.quantize, job.made = _by_ipc(job.quantize), _by_ipc(job.made)
        return job


@dataclass
class Result:
    """What became of a job: facts of the codebooks made now, by IPC, the class's bad images, and "" or what failed.

    retried: reason → images that a diffusion model had to make again. full: the place on a full disk that the worker
    could not write to; every other class would fail like this one.
    """

    label: int
    facts: dict[int, Facts] = field(default_factory=dict)
    bad: list[BadRecord] = field(default_factory=list)
    seconds: float = 0.0
    error: str = ""
    retried: dict[str, int] = field(default_factory=dict)
    full: str = ""

    @property
    def images(self) -> int:
        """Images encoded for the codebooks made now."""
        return max((facts["images"] for facts in self.facts.values()), default=0)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Result:
        result = cls(**json.loads(text))
        result.facts, result.bad = _by_ipc(result.facts), [BadRecord(*row) for row in result.bad]
        return result


def _by_ipc(value: dict[Any, Any]) -> dict[int, Any]:
    """JSON has made text of the numbers."""
    return {int(ipc): v for ipc, v in value.items()}


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
        channels=spec.channels,
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
        **({} if c.max_value is None else {"max_value": c.max_value}),
        **({} if c.interpolation == "bicubic" else {"interpolation": c.interpolation}),
        **({"km_expand": c.km_expand} if c.quantizer == "minibatch" else {}),
    )


def images_fingerprint(spec: WorkerSpec, kind: str, label: int, codebook: Facts) -> str:
    """Of a class's images made from a finished codebook, given its facts."""
    diffusion = spec.diffusion if kind == spec.generator else None
    return records.fingerprint(
        stage="generate",
        generator=kind if diffusion is None else diffusion.of_class(label),
        size=spec.config.image_size,
        # medoids are read from the source again, so what the images were counts too
        codebook=[codebook["sha256"], codebook["content"]],
        codec=spec.codec_digest if kind != spec.medoids else "",
        format=spec.config.image_format,
        dtype=spec.config.dtype,
        batch=spec.config.batch if diffusion is None else 0,
        seed=0 if diffusion is None else spec.config.seed,
    )
