"""The evaluation stage: every method × IPC × student × seed is a unit with a record, run by the runner's tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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
from raycond.evaluate.cell import Cell, ImageOptions, pixels_to_bytes, run_cell
from raycond.evaluate.protocol import Protocol
from raycond.progress import Progress
from raycond.runtime import records
from raycond.runtime.layout import Layout
from raycond.runtime.local import Runner

MAX_SPLIT_BYTES = 16 * 2**30  # of one decoded split: what a node can be expected to hold beside its work


@dataclass
class Evaluation:
    """Inputs of the stage. identity: (generator, IPC) → digest of the codebooks and images that it is made of."""

    config: QuantizeConfig
    layout: Layout
    source: Source
    val: Source
    channels: int
    protocol: Protocol
    device: str
    source_digest: str
    val_digest: str
    identity: Callable[[str, int], str]

    def run(self, runner: Runner) -> tuple[list[table.Row], list[str], list[BadRecord]]:
        """Rows of all finished cells, one line per failed cell, and the bad images of the decoded splits."""
        bad = self._decode("val", self.val, self.val_digest)
        if "full" in self.config.methods:
            bad += self._decode("train", self.source, self.source_digest)
        cells = list(self._cells())
        rows, missing = [], []
        for cell in cells:
            facts = records.find(self._place(cell), self._fingerprint(cell))
            if facts is None:
                missing.append(cell)
            else:
                rows.append(facts["row"])
        failures = []
        with Progress("evaluate", len(cells), "trainings") as progress:
            if rows:
                progress.step(len(rows), "resumed")
            for position, result in runner.tasks(run_cell, missing):
                cell = missing[position]
                if isinstance(result, Exception):
                    reason = str(result) if isinstance(result, RaycondError) else repr(result)
                    failures.append(f"{_name(cell)}: {reason}")
                    progress.say(f"{_name(cell)} failed: {reason}")
                else:
                    records.finish(self._place(cell), self._fingerprint(cell), None, row=result)
                    rows.append(result)
                    progress.step(1, f"{_name(cell)} {result['top1']:.1f} %")
        return [table.Row(**{k: row[k] for k in table.COLUMNS}) for row in rows], failures, bad

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
            data = self.identity(self._generator(cell.method), cell.ipc)
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

    def _place(self, cell: Cell) -> str:
        return self.layout.cell(_name(cell).replace(" ", "-"))

    def _decode(self, split: str, source: Source, digest: str) -> list[BadRecord]:
        """Decode a whole split once into work/pixels, for every training to share."""
        output = self.layout.pixels(split)
        side = self.config.size
        expected = records.fingerprint(
            stage="pixels", data=digest, size=side, resize=self.config.resize, channels=self.channels
        )
        facts = records.find(output, expected)
        if facts is None:
            refs = [ref for label in range(len(source.classes)) for ref in source.refs(label)]
            if len(refs) * side * side * self.channels > MAX_SPLIT_BYTES:
                raise UserError(
                    f"{source.uri}: {len(refs)} images of {side} pixels are more than {MAX_SPLIT_BYTES // 2**30} GiB "
                    "decoded; leave the full-data row out (--methods random medoid d4m ddoq) or use --no-evaluate"
                )
            images, labels, bad = [], [], []
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
                        images.append(image)
                        labels.append(ref.label)
                    progress.step()
            if not images:
                raise UserError(f"{source.uri}: not one image of the {split} split can be read")
            data = pixels_to_bytes(np.stack(images), np.array(labels))
            facts = records.finish(output, expected, data, images=len(images), bad=[list(b) for b in bad])
        return [BadRecord(*row) for row in facts["bad"]]


def _name(cell: Cell) -> str:
    ipc = f" ipc{cell.ipc}" if cell.ipc is not None else ""
    return f"{cell.method}{ipc} {cell.student} seed{cell.seed}"


def source_digest(fingerprints: Sequence[str]) -> str:
    return files.digest(list(fingerprints))
