"""The evaluation at the end of a quantization: its own methods beside random images, medoids and the full data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from raycond.data.images import Decoding
from raycond.data.sources import Source
from raycond.evaluate.cell import Cell, decoded_side
from raycond.evaluate.protocol import EvaluationProtocol, Recipe
from raycond.evaluate.table import Row
from raycond.evaluate.training_sets import ClassParts, RandomImages, SplitImages, TrainingImages
from raycond.pipelines.evaluate.units import Trial, run_units
from raycond.pipelines.layout import Layout
from raycond.pipelines.quantize.config import QuantizeConfig
from raycond.pipelines.stages.splits import Split, decode_split
from raycond.runtime.runner import Runner


@dataclass
class Evaluation:
    """Inputs of the stage. made_of: (kind of images, IPC) → digest of the codebooks and images of all classes.

    generator, medoids: the kinds of the set's own images and of the nearest real ones.
    """

    config: QuantizeConfig
    layout: Layout
    source: Source
    val: Source
    channels: int
    recipe: Recipe
    device: str
    source_digest: str
    val_digest: str
    made_of: Mapping[tuple[str, int], str]
    generator: str
    medoids: str

    @property
    def options(self) -> Decoding:
        return Decoding(self.config.image_size, self.config.resize, self.channels, self.config.max_pixels)

    def decode(self) -> Split:
        """Decode the splits that trainings share, where that is not done; says what the validation split has."""
        if "full" in self.config.methods:
            remedy = "leave the full-data row out (--methods random medoid d4m ddoq), or use --no-evaluate"
            decode_split(
                "train", self.source, self.source_digest, self.options, self.layout.pixels("train"), remedy=remedy
            )
        side = decoded_side(self.config.image_size, self._protocol(None, ""))
        return decode_split(
            "val",
            self.val,
            self.val_digest,
            replace(self.options, size=side),
            self.layout.pixels("val"),
            remedy="use --no-evaluate",
        )

    def run(self, runner: Runner) -> tuple[list[Row], list[str]]:
        """Rows of all finished cells and one line per failed cell. Needs `decode` before."""
        return run_units(list(self._units()), runner)

    def _units(self) -> Iterator[Trial]:
        for student in self.config.students:
            for seed in self.config.seeds:
                for method in self.config.methods:
                    for ipc in self.config.ipc if method != "full" else (None,):
                        yield self._unit(method, ipc, student, seed)

    def _unit(self, method: str, ipc: int | None, student: str, seed: int) -> Trial:
        images, data, weights = self._images(method, ipc, seed)
        cell = Cell(
            method,
            ipc,
            student,
            seed,
            self._protocol(ipc, student),
            self.source.classes,
            self.options,
            images,
            self.layout.pixels("val"),
            self.device,
            weights=weights,
        )
        return Trial.of(cell, self.layout.cell(cell.slug), data, self.val_digest)

    def _images(self, method: str, ipc: int | None, seed: int) -> tuple[TrainingImages, str, str]:
        """What the method trains on, the digest of it, and its weights mode."""
        if ipc is None:
            return SplitImages(self.layout.pixels("train")), self.source_digest, ""
        if method == "random":
            return RandomImages(self.source, ipc, seed), self.source_digest, ""
        generator = self.medoids if method == "medoid" else self.generator
        weights = self.config.weights if method == "ddoq" else "uniform"
        labels = range(len(self.source.classes))
        parts = ClassParts(
            tuple(self.layout.images(generator, ipc, label) for label in labels),
            tuple(self.layout.codebook(ipc, label) for label in labels),
            weights,
        )
        return parts, self.made_of[generator, ipc], weights

    def _protocol(self, ipc: int | None, student: str) -> EvaluationProtocol:
        return self.recipe.resolve(ipc=ipc, classes=len(self.source.classes), student=student)
