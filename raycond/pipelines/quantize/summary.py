"""What a run made, and how it is told: the text at its end and the report."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from raycond.core.progress import Timed
from raycond.data.encoded import unpack
from raycond.data.overlap import Overlap
from raycond.data.quarantine import BadRecord
from raycond.data.rows import RowSource
from raycond.evaluate import table
from raycond.methods.quantize import codebook_file
from raycond.methods.quantize.wasserstein import mean_rows
from raycond.models.generators.base import Description
from raycond.pipelines.ending import ending, environment
from raycond.pipelines.layout import Layout
from raycond.pipelines.quantize.config import QuantizeConfig
from raycond.pipelines.quantize.units import Facts
from raycond.report import Picture, Quarantine, Report, Size

GALLERY_CLASSES = 20  # as many as a report shows


class CodecFacts(NamedTuple):
    """What the driver knows of a codec: `where` is what `open_codec` takes, `name` has no paths of one machine."""

    where: str
    name: str
    digest: str
    channels: int


@dataclass
class QuantizeRun(Timed):
    """What a run made. failures: one text for each thing that was asked for and not made.

    codec: None until it is trained. diffusion: what the generator is, if it is a diffusion model; retried: reason →
    images that it had to make again. generator, medoids, decoded: kinds of images. codebooks: (label, IPC) → facts.
    computed: units of each stage worked on now.
    """

    layout: Layout
    source: RowSource
    val: RowSource | None
    codec: CodecFacts | None = None
    diffusion: Description | None = None
    generator: str = ""
    medoids: str = ""
    decoded: str = ""
    retried: dict[str, int] = field(default_factory=dict)
    manifest: dict[str, Any] = field(default_factory=dict)
    codebooks: dict[tuple[int, int], Facts] = field(default_factory=dict)
    rows: list[table.Row] = field(default_factory=list)
    bad: list[BadRecord] = field(default_factory=list)
    source_bytes: int = 0  # of the source's images as they are stored
    overlap: Overlap | None = None  # of validation and training images, where there was an evaluation
    failures: list[str] = field(default_factory=list)
    computed: dict[str, int] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)
    val_digest: str = ""  # of what `val` lists

    def images(self, ipc: int) -> int:
        """Source images that the codebooks of one IPC stand for."""
        return sum(facts["images"] for (_, k), facts in self.codebooks.items() if k == ipc)


def summary(run: QuantizeRun) -> str:
    """What a person wants to read at the end."""
    retried = f"retried   {_counted(run.retried)}: these images were made again from the next seed"
    return ending(run, notes=[retried] if run.retried else [])


def _counted(retried: dict[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in retried.items())


def build_report(config: QuantizeConfig, run: QuantizeRun) -> Report:
    """The report of a run whose condensed set is written."""
    classes = run.source.classes
    storage = run.manifest["storage_bytes"]
    w2 = w2_tables(run, config.ipc)
    missing = {}
    if not run.rows:
        missing["accuracy"] = "no student was trained" if config.evaluate else "evaluation was switched off"
    if not w2:
        missing["w2"] = "no class was measured (--w2-classes)"
    ipcs, labels = sorted(config.ipc), range(len(classes))
    method = run.manifest["method"]
    return Report(
        title=f"{config.name}, condensed",
        subtitle=f"{method}, {config.quantizer}, images by {run.manifest['generator']}, weights {config.weights}",
        classes=classes,
        config=config.to_dict(),
        galleries={ipc: _gallery(config, run, ipc) for ipc in ipcs},
        distortion={ipc: [run.codebooks[label, ipc]["distortion"] for label in labels] for ipc in ipcs},
        accuracy=run.rows,
        w2=w2,
        sizes=[
            Size("images", storage["images"], config.image_format),
            Size("weights", storage["weights"], "float32"),
            Size("labels", storage["labels"], "hard, int64, zstd"),
            Size("label generator", storage["label_generator"], "none: hard labels"),
            Size("latents", storage["latents"], "float32, for other generators"),
        ],
        source_bytes=run.source_bytes or None,
        trained_codec=config.codec == "train",
        quarantine=Quarantine(run.bad, len(run.bad) + run.images(config.ipc[0])),
        environment=environment(
            run,
            ("torch", "ray", "diffusers", "scikit-learn"),
            {"images made again": _counted(run.retried)} if run.retried else {},
        ),
        missing=missing,
    )


def _gallery(config: QuantizeConfig, run: QuantizeRun, ipc: int) -> dict[str, list[Picture]]:
    gallery = {}
    for label, class_id in enumerate(run.source.classes.ids[:GALLERY_CLASSES]):
        book = codebook_file.read(run.layout.codebook(ipc, label)).codebook
        images = unpack(run.layout.images(run.generator, ipc, label))
        nearest = _beside(run, run.medoids, ipc, label, len(images))
        decoded = _beside(run, run.decoded, ipc, label, len(images))
        weights, counts = book.weights(config.weights).tolist(), book.counts.tolist()
        gallery[class_id] = [Picture(*row) for row in zip(images, weights, counts, nearest, decoded, strict=True)]
    return gallery


def _beside(run: QuantizeRun, kind: str, ipc: int, label: int, count: int) -> list[bytes | None]:
    """Pictures of another kind, where a run of this generator makes them."""
    if kind == run.generator or (kind == run.decoded and not run.diffusion):
        return [None] * count
    return [*unpack(run.layout.images(kind, ipc, label))]


def w2_tables(run: QuantizeRun, ipcs: tuple[int, ...]) -> list[dict[str, Any]]:
    """The W2 study averaged over the measured classes: rows with ipc, classes, centroids, weights, w2, ess."""
    rows = []
    for ipc in sorted(ipcs):
        studies = [f["w2"] for (_, k), f in sorted(run.codebooks.items()) if k == ipc and f.get("w2")]
        if studies:
            rows += [{"ipc": ipc, "classes": len(studies), **row} for row in mean_rows(studies)]
    return rows
