"""The class worker: decode → encode → quantize, and generate, one class at a time. Knows nothing of Ray."""

from __future__ import annotations

import tempfile
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from raycond import files
from raycond.data.images import load_many
from raycond.data.quarantine import BadRecord
from raycond.data.refs import ImageRef
from raycond.errors import BadImage, RaycondError
from raycond.generate import images as generate
from raycond.latents.codec import Codec, open_codec
from raycond.quantize import store
from raycond.quantize.codebook import Codebook
from raycond.quantize.quantizer import StreamQuantizer, quantize_classes, require_enough
from raycond.quantize.study import w2_study
from raycond.runtime import records
from raycond.runtime.units import Job, Result, WorkerSpec, images_fingerprint


@dataclass
class _Encoded:
    """A class after encoding: latents (n, *latent) on the device, None when streamed; what was found on the way."""

    kept: list[ImageRef] = field(default_factory=list)
    bad: list[BadRecord] = field(default_factory=list)
    latents: Tensor | None = None
    content: str = ""


class ClassWorker:
    """Holds one codec on one device and turns jobs into files and records."""

    def __init__(self, spec: WorkerSpec, device: str) -> None:
        self.spec = spec
        self.config = spec.config
        self.device = device
        torch.set_num_threads(self.config.cpus_per_actor)

    @cached_property
    def codec(self) -> Codec:
        return open_codec(self.spec.codec, device=self.device, dtype=self.config.dtype)

    def run(self, jobs: Sequence[Job]) -> list[Result]:
        """Work off jobs. A class that fails is reported in its result and does not stop the others."""
        results = {job.label: Result(job.label, {}, 0, 0.0) for job in jobs}
        self._quantize([job for job in jobs if job.quantize], results)
        for job in jobs:
            if not results[job.label].error:
                self._guard(results, job, self._generate)
        return list(results.values())

    def _guard(self, results: dict[int, Result], job: Job, action: Callable[[Job], Any]) -> Any:
        """The value of `action(job)`; an exception becomes the job's error. Its seconds are added to the job's."""
        started = time.perf_counter()
        value = None
        try:
            value = action(job)
        except RaycondError as error:
            results[job.label] = results[job.label]._replace(error=str(error))
        except Exception as error:
            text = "".join(traceback.format_exception(error)).strip()
            results[job.label] = results[job.label]._replace(error=text)
        passed = results[job.label].seconds + time.perf_counter() - started
        results[job.label] = results[job.label]._replace(seconds=passed)
        return value

    # ---- quantize

    def _quantize(self, jobs: Sequence[Job], results: dict[int, Result]) -> None:
        if self.config.quantizer == "clvq":
            for job in jobs:
                self._guard(results, job, partial(self._quantize_stream, results))
            return
        groups: dict[tuple[int, tuple[int, ...]], list[tuple[Job, _Encoded]]] = defaultdict(list)
        for job in jobs:
            encoded = self._guard(results, job, self._encode)
            if encoded is not None:
                groups[len(encoded.kept), tuple(job.quantize)].append((job, encoded))
        for (_, counts), group in groups.items():
            books = self._guard(results, group[0][0], partial(self._books, group, counts))
            for position, (job, encoded) in enumerate(group):
                if books is None:  # the group shares its failure
                    results[job.label] = results[job.label]._replace(error=results[group[0][0].label].error)
                else:
                    self._guard(results, job, partial(self._save, results, encoded, books[position]))

    def _books(self, group: list[tuple[Job, _Encoded]], counts: tuple[int, ...], _: Job) -> list[list[Codebook]]:
        """Codebooks of classes of equal size, together, which is what fills a GPU."""
        return quantize_classes(
            torch.stack([encoded.latents for _, encoded in group if encoded.latents is not None]),
            counts,
            kind=self.config.quantizer,
            seeds=[self._seed(job.label) for job, _ in group],
            restarts=self.config.restarts,
        )

    def _quantize_stream(self, results: dict[int, Result], job: Job) -> None:
        with tempfile.TemporaryDirectory(prefix="raycond-") as folder:
            stream = StreamQuantizer(tuple(job.quantize), self._seed(job.label), f"{folder}/latents")
            encoded = self._encode(job, stream)
            self._save(results, encoded, stream.codebooks(), job)

    def _encode(self, job: Job, stream: StreamQuantizer | None = None) -> _Encoded:
        refs = self.spec.source.refs(job.label)
        class_id = self.spec.source.classes.ids[job.label]
        if stream is not None:  # a stream needs its images in random order, the same at every run
            order = np.random.default_rng(self._seed(job.label)).permutation(len(refs))
            refs = [refs[i] for i in order]
        found = _Encoded()
        digests: list[tuple[str, str]] = []
        parts: list[Tensor] = []
        for batch in self._batches(refs, class_id, found, digests):
            images = torch.from_numpy(np.stack([image for _, image in batch])).permute(0, 3, 1, 2)
            seeds = [self._seed(ref.id) for ref, _ in batch] if self.config.posterior == "sample" else None
            latents = self.codec.encode(images, seeds)
            found.kept += [ref for ref, _ in batch]
            if stream is None:
                parts.append(latents)
            else:
                stream.add(latents)
        require_enough(class_id, len(found.kept), tuple(job.quantize))
        if parts:
            found.latents = torch.cat(parts)
        found.content = files.digest(sorted(digests))
        return found

    def _batches(
        self, refs: list[ImageRef], class_id: str, found: _Encoded, digests: list[tuple[str, str]]
    ) -> Iterator[list[tuple[ImageRef, np.ndarray]]]:
        """Batches of good images; threads decode ahead while the caller encodes."""
        batch: list[tuple[ImageRef, np.ndarray]] = []
        threads = self.config.decode_threads or self.config.cpus_per_actor + 1
        for ref, image, sha in load_many(
            refs,
            size=self.config.size,
            resize=self.config.resize,
            channels=self.spec.channels,  # type: ignore[arg-type]
            max_pixels=self.config.max_pixels,
            threads=threads,
            prefetch=2 * self.config.batch,
        ):
            if isinstance(image, BadImage):
                found.bad.append(BadRecord.of(ref, class_id, image.reason))
                continue
            digests.append((ref.id, sha))
            batch.append((ref, image))
            if len(batch) == self.config.batch:
                yield batch
                batch = []
        if batch:
            yield batch

    def _save(self, results: dict[int, Result], encoded: _Encoded, books: Sequence[Codebook], job: Job) -> None:
        facts = {}
        for (ipc, expected), book in zip(job.quantize.items(), books, strict=True):
            medoids = tuple(encoded.kept[i].id for i in book.medoids.tolist())
            stored = store.StoredCodebook(book, self.spec.source.classes.ids[job.label], job.label, medoids)
            study = None
            if job.label < self.config.w2_classes and encoded.latents is not None:
                study = w2_study(encoded.latents.flatten(1), book.centroids.flatten(1).to(encoded.latents))
            facts[ipc] = records.finish(
                self.spec.layout.codebook(ipc, job.label),
                expected,
                store.to_bytes(stored),
                images=len(encoded.kept),
                distortion=book.distortion,
                content=encoded.content,
                bad=[list(b) for b in encoded.bad],
                w2=study,
            )
        results[job.label] = results[job.label]._replace(facts=facts, images=len(encoded.kept))

    def _seed(self, unit: int | str) -> int:
        """A stream of its own for every class (by id, not position) and image."""
        name = self.spec.source.classes.ids[unit] if isinstance(unit, int) else f"image {unit}"
        return int(files.digest([self.config.seed, name])[:15], 16)

    # ---- generate

    def _generate(self, job: Job) -> None:
        for generator, ipcs in job.generate.items():
            for ipc in ipcs:
                expected = images_fingerprint(self.spec, generator, ipc, job.label)
                stored = store.read(self.spec.layout.codebook(ipc, job.label))
                images = self._medoids(stored) if generator == "medoid" else self._decoded(stored)
                encoded = [generate.encode_image(image, self.config.image_format) for image in images]
                output = self.spec.layout.images(generator, ipc, job.label)
                records.finish(output, expected, generate.pack(encoded), images=len(encoded))

    def _decoded(self, stored: store.StoredCodebook) -> np.ndarray:
        return generate.decode_centroids(stored, self.codec, batch=self.config.batch)

    def _medoids(self, stored: store.StoredCodebook) -> np.ndarray:
        refs = {ref.id: ref for ref in self.spec.source.refs(stored.label)}
        return generate.medoid_images(
            stored,
            refs,
            size=self.config.size,
            resize=self.config.resize,
            channels=self.spec.channels,
            max_pixels=self.config.max_pixels,
        )
