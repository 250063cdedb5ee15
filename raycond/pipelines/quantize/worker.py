"""The class worker: decode → encode → quantize, and generate, one class at a time. Knows nothing of Ray."""

from __future__ import annotations

import tempfile
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from raycond.core import records
from raycond.core.device import require_device
from raycond.core.errors import RaycondError, UserError, is_full
from raycond.core.seeds import seed_of
from raycond.data.encoded import encode_image, pack
from raycond.data.refs import ImageRef
from raycond.methods.quantize import codebook_file
from raycond.methods.quantize.base import Stream
from raycond.methods.quantize.codebook import Codebook
from raycond.methods.quantize.quantization import StreamQuantizer, quantize_classes, require_enough, require_finite
from raycond.methods.quantize.registry import open_quantizer
from raycond.methods.quantize.wasserstein import w2_study
from raycond.models.codecs.registry import open_codec
from raycond.models.generators.base import Generator, Wanted
from raycond.models.generators.checked import make_images
from raycond.models.generators.images import resized, to_uint8
from raycond.models.generators.medoid import real_images
from raycond.models.generators.registry import open_generator
from raycond.pipelines.quantize.units import ClassJob, Facts, Result, WorkerSpec, images_fingerprint
from raycond.pipelines.stages.class_images import ClassImages


@dataclass
class _Encoded:
    """A class after encoding: the images used and their latents (n, *latent) on the device, None when streamed."""

    kept: list[ImageRef] = field(default_factory=list)
    latents: Tensor | None = None
    content: str = ""


_Work = tuple[ClassJob, Result]


class ClassWorker:
    """Holds one codec on one device and turns jobs into files and records.

    Raises RaycondError if there is no such device or codec here: a fault of the machine, not of a class.
    """

    def __init__(self, spec: WorkerSpec, device: str) -> None:
        self.spec = spec
        self.config, self.device = spec.config, device
        require_device(device)
        torch.set_num_threads(self.config.cpus_per_actor)
        self.codec = open_codec(spec.codec, device=device, dtype=self.config.dtype)
        self._generators: dict[str, Generator] = {}

    def run(self, jobs: Sequence[str]) -> list[str]:
        """Process jobs, given and answered as JSON, one class each.

        A class that fails is reported in its result and does not stop the others.
        """
        return [result.to_json() for result in self.process([ClassJob.from_json(text) for text in jobs])]

    def process(self, jobs: Sequence[ClassJob]) -> list[Result]:
        work = [(job, Result(job.label)) for job in jobs]
        self._quantize([(job, result) for job, result in work if job.quantize])
        for job, result in work:
            if not result.error:
                with _reported(result):
                    self._generate(job, result)
        return [result for _, result in work]

    # ---- quantize

    def _quantize(self, work: Sequence[_Work]) -> None:
        start = open_quantizer(self.config.quantizer).stream
        groups: dict[tuple[int, tuple[int, ...]], list[tuple[ClassJob, Result, _Encoded]]] = defaultdict(list)
        for job, result in work:
            with _reported(result):
                if start is not None:
                    self._quantize_stream(job, result, start)
                else:
                    encoded = self._encode(job, result)
                    groups[len(encoded.kept), tuple(job.quantize)].append((job, result, encoded))
        for (_, counts), group in groups.items():
            books: list[list[Codebook]] = []
            with _reported(*(result for _, result, _ in group)):
                books = self._books(group, counts)
            for (job, result, encoded), found in zip(group, books, strict=False):  # none if that failed
                with _reported(result):
                    self._save(job, result, encoded, found)

    def _books(
        self, group: Sequence[tuple[ClassJob, Result, _Encoded]], counts: tuple[int, ...]
    ) -> list[list[Codebook]]:
        """Codebooks of classes of equal size, together, which is what fills a GPU."""
        return quantize_classes(
            torch.stack([encoded.latents for _, _, encoded in group if encoded.latents is not None]),
            counts,
            kind=self.config.quantizer,
            seeds=[self._seed(job.label) for job, _, _ in group],
            restarts=self.config.restarts,
            expand=self.config.km_expand,
        )

    def _quantize_stream(self, job: ClassJob, result: Result, start: Callable[[int, int], Stream]) -> None:
        with (
            tempfile.TemporaryDirectory(prefix="raycond-") as folder,
            StreamQuantizer(start, tuple(job.quantize), self._seed(job.label), f"{folder}/latents") as stream,
        ):
            encoded = self._encode(job, result, stream)
            self._save(job, result, encoded, stream.codebooks())

    def _encode(self, job: ClassJob, result: Result, stream: StreamQuantizer | None = None) -> _Encoded:
        refs = self.spec.source.refs(job.label)
        class_id = self.spec.source.classes.ids[job.label]
        if stream is not None:  # a stream needs its images in random order, the same at every run
            order = np.random.default_rng(self._seed(job.label)).permutation(len(refs))
            refs = [refs[i] for i in order]
        images = ClassImages(
            refs,
            class_id,
            self.spec.decoding,
            self.config.decode_threads or self.config.cpus_per_actor + 1,
            prefetch=2 * self.config.batch,
            bad=result.bad,
        )
        parts: list[Tensor] = []
        for batch, batch_refs in images.batches(self.config.batch):
            seeds = [self._seed(ref.id) for ref in batch_refs] if self.config.posterior == "sample" else None
            latents = self.codec.encode(batch, seeds)
            require_finite(class_id, latents)
            if stream is None:
                parts.append(latents)
            else:
                stream.add(latents)
        require_enough(class_id, len(images.kept), tuple(job.quantize))
        return _Encoded(images.kept, torch.cat(parts) if parts else None, images.content)

    def _save(self, job: ClassJob, result: Result, encoded: _Encoded, books: Sequence[Codebook]) -> None:
        for (ipc, expected), book in zip(job.quantize.items(), books, strict=True):
            medoids = tuple(encoded.kept[i].id for i in book.medoids.tolist())
            stored = codebook_file.StoredCodebook(book, self.spec.source.classes.ids[job.label], job.label, medoids)
            study = None
            if job.label < self.config.w2_classes and encoded.latents is not None:
                study = w2_study(encoded.latents.flatten(1), book.centroids.flatten(1).to(encoded.latents))
            result.facts[ipc] = records.finish(
                self.spec.layout.codebook(ipc, job.label),
                expected,
                codebook_file.to_bytes(stored),
                images=len(encoded.kept),
                distortion=book.distortion,
                content=encoded.content,
                bad=[list(b) for b in result.bad],
                w2=study,
            )

    def _seed(self, unit: int | str) -> int:
        """A stream of its own for every class (by id, not position) and image."""
        name = self.spec.source.classes.ids[unit] if isinstance(unit, int) else f"image {unit}"
        return seed_of(self.config.seed, name)

    # ---- generate

    def _generate(self, job: ClassJob, result: Result) -> None:
        made: dict[int, Facts] = job.made | result.facts
        for kind, ipcs in job.generate.items():
            for ipc in ipcs:
                expected = images_fingerprint(self.spec, kind, job.label, made[ipc])
                stored = self._stored(ipc, job.label, made[ipc])
                images, retried = self._made(kind, ipc, stored)
                result.retried = dict(Counter(result.retried) + Counter(retried))
                encoded = [encode_image(image, self.config.image_format) for image in images]
                place = self.spec.layout.images(kind, ipc, job.label)
                records.finish(place, expected, pack(encoded), retried=retried)

    def _stored(self, ipc: int, label: int, facts: Facts) -> codebook_file.StoredCodebook:
        """Raises RaycondError if it is not the codebook of these facts: another run may write to a shared `work`."""
        place = self.spec.layout.codebook(ipc, label)
        if not records.whole(place, facts):
            raise RaycondError(f"IPC {ipc}: {place} has changed since; is another run at work on it?")
        return codebook_file.read(place)

    def _made(self, kind: str, ipc: int, stored: codebook_file.StoredCodebook) -> tuple[np.ndarray, dict[str, int]]:
        """Images (K, H, W, C) uint8 of one kind, and how many had to be made again, by reason."""
        centroids = stored.codebook.centroids
        wanted = Wanted(
            centroids,
            torch.full((len(centroids),), stored.label),
            # of the image alone, so that neither batches nor workers change it
            tuple(self._seed(f"{stored.class_id} ipc{ipc} {k}") for k in range(len(centroids))),
            stored.medoid_ids,
        )
        found = make_images(self._generator(kind), wanted, self.spec.source.classes)
        return to_uint8(resized(found.images, self.config.image_size)), found.failures

    def _generator(self, kind: str) -> Generator:
        """Loaded when it is first needed: a rerun may need medoids alone."""
        if kind not in self._generators:
            generator = open_generator(
                self.spec.kinds[kind],
                options=self.config.diffusion,
                classes=self.spec.source.classes,
                codec=self.codec,
                size=self.config.size,
                device=self.device,
                dtype=self.config.dtype,
                batch=self.config.batch,
                read=self._read,
            )
            if kind == self.spec.generator and generator.description != self.spec.diffusion:
                raise UserError(f"--generator {self.config.generator}: this node has other weights than the driver")
            self._generators[kind] = generator
        return self._generators[kind]

    def _read(self, label: int, ids: Sequence[str]) -> np.ndarray:
        """Real images of a class, of the side of the condensed ones."""
        return real_images(
            {ref.id: ref for ref in self.spec.source.refs(label)},
            ids,
            self.spec.source.classes.ids[label],
            **replace(self.spec.decoding, size=self.config.image_size).arguments,
        )


@contextmanager
def _reported(*results: Result) -> Iterator[None]:
    """An exception becomes the error of the results; the time is added to theirs, shared out."""
    started, error, full = time.perf_counter(), "", ""
    try:
        yield
    except RaycondError as known:
        error = str(known)
    except Exception as unknown:
        error = "".join(traceback.format_exception(unknown)).strip()
        if is_full(unknown):
            full = str(getattr(unknown, "filename", None) or "a worker's disk")
    for result in results:
        result.error, result.full = result.error or error, result.full or full
        result.seconds += (time.perf_counter() - started) / len(results)
