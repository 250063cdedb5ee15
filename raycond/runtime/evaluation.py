"""The evaluation stage: every method × IPC × student × seed is a unit with a record, run by the runner's tasks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from raycond import files
from raycond.config import QuantizeConfig
from raycond.data.images import load_many
from raycond.data.quarantine import BadRecord
from raycond.data.sources import Source
from raycond.errors import BadImage, RaycondError, UserError
from raycond.evaluate import table
from raycond.evaluate.cell import Cell, ImageOptions, run_cell, write_pixels
from raycond.evaluate.protocol import Protocol
from raycond.progress import Progress
from raycond.runtime import records
from raycond.runtime.layout import Layout
from raycond.runtime.local import Runner

MAX_SPLIT_BYTES = 16 * 2**30  # of one decoded split: what a node can be expected to hold beside its work


@dataclass(frozen=True)
class Split:
    """What a decoded split has: good images, and the bad ones that were left out."""

    images: int
    bad: list[BadRecord]


@dataclass
class Evaluation:
    """Inputs of the stage. made_of: (generator, IPC) → digest of the codebooks and images of all classes."""

    config: QuantizeConfig
    layout: Layout
    source: Source
    val: Source
    channels: int
    protocol: Protocol
    device: str
    source_digest: str
    val_digest: str
    made_of: Mapping[tuple[str, int], str]

    def decode(self) -> Split:
        """Decode the splits that trainings share, where that is not done; says what the validation split has."""
        if "full" in self.config.methods:
            self._decode("train", self.source, self.source_digest)
        return self._decode("val", self.val, self.val_digest)

    def run(self, runner: Runner) -> tuple[list[table.Row], list[str]]:
        """Rows of all finished cells and one line per failed cell. Needs `decode` before."""
        places: list[tuple[str, str]] = []
        rows, missing, failures = [], [], []
        cells = list(self._cells())
        for cell in cells:
            place, expected = self.layout.cell(_name(cell).replace(" ", "-")), self._fingerprint(cell)
            facts = records.find(place, expected)
            if facts is None:
                missing.append(cell)
                places.append((place, expected))
            else:
                rows.append(facts["row"])
        with Progress("evaluate", len(cells), "trainings", done=len(rows)) as progress:
            for position, result in runner.tasks(run_cell, missing):
                name = _name(missing[position])
                if isinstance(result, Exception):
                    reason = str(result) if isinstance(result, RaycondError) else repr(result)
                    failures.append(f"{name}: {reason}")
                    progress.say(f"{name} failed: {reason}")
                else:
                    records.finish(*places[position], None, row=result)
                    rows.append(result)
                    progress.step(1, f"{name} {result['top1']:.1f} %")
        return [table.Row(**{k: row[k] for k in table.COLUMNS}) for row in rows], failures

    def _cells(self) -> Iterator[Cell]:
        for student in self.config.students:
            for seed in self.config.seeds:
                for method in self.config.methods:
                    for ipc in self.config.ipc if method != "full" else (None,):
                        yield self._cell(method, ipc, student, seed)

    def _cell(self, method: str, ipc: int | None, student: str, seed: int) -> Cell:
        more: dict[str, Any] = {}
        labels = range(len(self.source.classes))
        if method == "random":
            more = {"source": self.source}
        elif method == "full":
            more = {"train_pixels": self.layout.pixels("train")}
        elif ipc is not None:
            generator = self._generator(method)
            more = {
                "images": tuple(self.layout.images(generator, ipc, label) for label in labels),
                "codebooks": tuple(self.layout.codebook(ipc, label) for label in labels),
                "weights": self.config.weights if method == "ddoq" else "uniform",
            }
        options = ImageOptions(self.config.size, self.config.resize, self.channels, self.config.max_pixels)
        return Cell(
            method,
            ipc,
            student,
            seed,
            self.protocol,
            len(labels),
            options,
            self.layout.pixels("val"),
            self.device,
            **more,
        )

    def _generator(self, method: str) -> str:
        return "medoid" if method == "medoid" else self.config.generator

    def _fingerprint(self, cell: Cell) -> str:
        data = self.source_digest
        if cell.images and cell.ipc is not None:
            data = self.made_of[self._generator(cell.method), cell.ipc]
        return records.fingerprint(
            stage="evaluate",
            method=cell.method,
            ipc=cell.ipc,
            student=cell.student,
            seed=cell.seed,
            protocol=asdict(cell.protocol),
            options=asdict(cell.options),
            weights=cell.weights,
            data=data,
            test=self.val_digest,
            device=cell.device,
        )

    def _decode(self, split: str, source: Source, digest: str) -> Split:
        """Decode a whole split once into work/pixels, for every training to share."""
        output = self.layout.pixels(split)
        expected = records.fingerprint(
            stage="pixels",
            data=digest,
            size=self.config.size,
            resize=self.config.resize,
            channels=self.channels,
            max_pixels=self.config.max_pixels,
        )
        facts = records.find(output, expected)
        if facts is None:
            images, labels, bad = self._read(split, source)
            write_pixels(output, images, labels)
            about = {"images": len(images), "bad": [list(record) for record in bad]}
            facts = records.finish(output, expected, None, **records.measured(output), **about)
        return Split(facts["images"], [BadRecord(*row) for row in facts["bad"]])

    def _read(self, split: str, source: Source) -> tuple[np.ndarray, np.ndarray, list[BadRecord]]:
        """Images (N, H, W, C) uint8 and labels (N,) of all good images, and the bad ones."""
        side = self.config.size
        refs = [ref for label in range(len(source.classes)) for ref in source.refs(label)]
        shape = (len(refs), side, side, self.channels)
        if np.prod(shape, dtype=float) > MAX_SPLIT_BYTES:
            remedy = "leave the full-data row out (--methods random medoid d4m ddoq) or " if split == "train" else ""
            raise UserError(
                f"{source.uri}: the {len(refs)} images of the {split} split are more than {MAX_SPLIT_BYTES // 2**30} "
                f"GiB when decoded at {side} pixels; {remedy}use --no-evaluate"
            )
        images = np.empty(shape, np.uint8)
        labels: list[int] = []
        bad: list[BadRecord] = []
        with Progress(f"decode {split}", len(refs), "images") as progress:
            for ref, image, _ in load_many(
                refs,
                size=side,
                resize=self.config.resize,
                channels=self.channels,  # type: ignore[arg-type]
                max_pixels=self.config.max_pixels,
                threads=4,
                prefetch=256,
            ):
                if isinstance(image, BadImage):
                    bad.append(BadRecord.of(ref, source.classes.ids[ref.label], image.reason))
                else:
                    images[len(labels)] = image
                    labels.append(ref.label)
                progress.step()
        if not labels:
            raise UserError(f"{source.uri}: not one image of the {split} split can be read")
        return images[: len(labels)], np.array(labels), bad


def _name(cell: Cell) -> str:
    ipc = f" ipc{cell.ipc}" if cell.ipc is not None else ""
    return f"{cell.method}{ipc} {cell.student} seed{cell.seed}"


def source_digest(fingerprints: Sequence[str]) -> str:
    return files.digest(list(fingerprints))
