"""What a run with kernels made, and how it is told: the text at its end and the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from raycond.core.progress import Timed
from raycond.data.overlap import Overlap
from raycond.data.quarantine import BadRecord
from raycond.data.rows import RowSource
from raycond.evaluate import table
from raycond.pipelines.ending import ending, environment
from raycond.pipelines.kernel.condensed import IMAGE_FORMAT, encoded, has_learned_labels, shown
from raycond.pipelines.kernel.config import KernelConfig
from raycond.pipelines.kernel.scores import ScoredSnapshot
from raycond.pipelines.kernel.supports import Support
from raycond.pipelines.kernel.training_images import Pool
from raycond.pipelines.layout import KernelLayout
from raycond.report import Curve, LearnedSupport, Picture, Quarantine, Report, Size

GALLERY_CLASSES = 20  # as many as a report shows


@dataclass
class KernelRun(Timed):
    """What a run made. failures: one text for each training that failed.

    plan: what the run took, in lines, as it was reckoned before. scores: images per class → every snapshot, tested.
    computed: units of each stage worked on now.
    """

    layout: KernelLayout
    source: RowSource
    val: RowSource | None
    plan: list[str] = field(default_factory=list)
    pool: Pool | None = None
    supports: Sequence[Support] = ()
    scores: dict[int, list[ScoredSnapshot]] = field(default_factory=dict)
    manifest: dict[str, Any] = field(default_factory=dict)
    rows: list[table.Row] = field(default_factory=list)
    bad: list[BadRecord] = field(default_factory=list)
    train_bad: list[BadRecord] = field(default_factory=list)
    source_bytes: int = 0  # of the source's images as they are stored
    overlap: Overlap | None = None
    failures: list[str] = field(default_factory=list)
    computed: dict[str, int] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)
    val_digest: str = ""  # of what `val` lists


def summary(run: KernelRun) -> str:
    """What a person wants to read at the end."""
    return ending(run)


def build_report(config: KernelConfig, run: KernelRun) -> Report:
    """The report of a run whose condensed set is written."""
    assert run.pool is not None
    pool, storage = run.pool, run.manifest["storage_bytes"]
    supports = [_learned(config, pool, support) for support in run.supports]
    missing = {} if run.rows else {"accuracy": "there were no validation images"}
    names = {"kip": "Kernel Inducing Points", "ls": "Label Solve"}
    return Report(
        title=f"{config.name}, condensed",
        subtitle=f"{names[config.method]}, kernel {config.network.name}, preprocessing {config.preprocess}",
        classes=run.source.classes,
        config=config.to_dict(),
        galleries={one.ipc: _gallery(run, one) for one in supports},
        accuracy=run.rows,
        curves=_curves(config, run),
        sizes=[
            Size("images", storage["images"], IMAGE_FORMAT),
            Size("weights", storage["weights"], "float32, all 1"),
            Size("labels", storage["labels"], "hard, int64, zstd"),
            Size("float tensors", storage["tensors"], _tensors(config)),
        ],
        source_bytes=run.source_bytes or None,
        supports=supports,
        quarantine=Quarantine(run.bad, len(run.bad) + len(pool.split)),
        environment=environment(
            run,
            ("torch", "ray"),
            {f"reckoned: {line[:10].strip()}": line[10:] for line in run.plan},
        ),
        missing=missing,
    )


def _tensors(config: KernelConfig) -> str:
    what = "images and learned labels" if has_learned_labels(config) else "images"
    return f"{what}, float32, in the space of the kernels"


def _learned(config: KernelConfig, pool: Pool, support: Support) -> LearnedSupport:
    _, labels = support.snapshots[-1].read()
    return LearnedSupport(
        support.ipc,
        encoded(pool.split.images[support.rows]),
        shown(config, pool, support),
        labels.tolist() if has_learned_labels(config) else (),
    )


def _curves(config: KernelConfig, run: KernelRun) -> list[Curve]:
    """Of KIP; Label Solve has no way between its two ends."""
    if config.method == "ls" or not run.scores:
        return []
    lines = {
        f"IPC {ipc}": ([float(one.step) for one in scored], [one.top1 for one in scored])
        for ipc, scored in run.scores.items()
    }
    return [Curve("Kernel regression on test images", "step", "top-1 accuracy, %", lines)]


def _gallery(run: KernelRun, support: LearnedSupport) -> dict[str, list[Picture]]:
    """Every image counts the same, and stands for an equal share of its class."""
    assert run.pool is not None
    counts = run.pool.split.labels.bincount(minlength=len(run.source.classes)).tolist()
    gallery = {}
    for label, class_id in enumerate(run.source.classes.ids[:GALLERY_CLASSES]):
        images = support.after[label * support.ipc : (label + 1) * support.ipc]
        gallery[class_id] = [Picture(image, 1.0, max(1, counts[label] // support.ipc)) for image in images]
    return gallery
