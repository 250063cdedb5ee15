"""What a matching run made, and how it is told: the text at its end and the report."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from raycond.core import files
from raycond.core.progress import Timed
from raycond.data.overlap import Overlap
from raycond.data.quarantine import BadRecord
from raycond.data.rows import RowSource
from raycond.evaluate import table
from raycond.pipelines.ending import ending, environment
from raycond.pipelines.layout import MatchLayout
from raycond.pipelines.match.config import MatchingConfig
from raycond.pipelines.match.phase import PhaseTrial
from raycond.report import Curve, Picture, Quarantine, Report, Sheet, Size
from raycond.sets.reader import CondensedSet, open_set

GALLERY_CLASSES, GALLERY_IMAGES = 20, 10  # as many as a report shows


@dataclass
class MatchRun(Timed):
    """What a run made. images: real images that were matched. computed: phases that were worked on now. written:
    whether the set was written now. accuracies: (IPC, step) → top-1 of a student trained on the snapshot. failures: one
    text for each thing that was asked for and not made."""

    layout: MatchLayout
    source: RowSource
    val: RowSource | None
    phases: list[PhaseTrial] = field(default_factory=list)
    images: int = 0
    computed: int = 0
    written: bool = False
    manifest: dict[str, Any] = field(default_factory=dict)
    rows: list[table.Row] = field(default_factory=list)
    accuracies: dict[tuple[int, int], float] = field(default_factory=dict)
    bad: list[BadRecord] = field(default_factory=list)
    source_bytes: int = 0  # of the source's images as they are stored
    overlap: Overlap | None = None  # of validation and training images, where there was an evaluation
    failures: list[str] = field(default_factory=list)
    machine: dict[str, Any] = field(default_factory=dict)
    val_digest: str = ""  # of what `val` lists


def summary(run: MatchRun) -> str:
    """What a person wants to read at the end."""
    return ending(
        run,
        places=[
            f"curve     {run.layout.curve}",
            f"          tensorboard --logdir {run.layout.tensorboard}  (pip install tensorboard)",
        ],
    )


def build_report(config: MatchingConfig, run: MatchRun) -> Report:
    """The report of a run whose condensed set is written."""
    storage = run.manifest["storage_bytes"]
    missing = {"accuracy": "no student was trained" if config.evaluate else "evaluation was switched off"}
    settings = config.matching(config.ipc[0])
    opened = {ipc: open_set(run.layout.condensed, ipc) for ipc in sorted(config.ipc)}
    return Report(
        title=f"{config.name}, condensed",
        subtitle=f"{run.manifest['method']}, {settings.network}, {settings.iterations:,} iterations of "
        f"{settings.steps} {'step' if settings.steps == 1 else 'steps'}, factor {settings.factor}",
        classes=run.source.classes,
        config=config.to_dict(),
        galleries={ipc: _gallery(one) for ipc, one in opened.items()},
        accuracy=run.rows,
        curves=[*_losses(run), *_accuracies(config, run)],
        sheets=list(_sheets(run)),
        sizes=[
            Size("images", storage["images"], config.image_format),
            Size("float tensors", storage["tensors"], "float32, as they were optimized"),
            Size("weights", storage["weights"], "float32, all 1"),
            Size("labels", storage["labels"], "hard, int64, zstd"),
        ],
        source_bytes=run.source_bytes or None,
        quarantine=Quarantine(run.bad, len(run.bad) + run.images),
        environment=environment(run, ("torch", "torchvision", "ray")),
        missing={part: reason for part, reason in missing.items() if part != "accuracy" or not run.rows},
    )


def _gallery(opened: CondensedSet) -> dict[str, list[Picture]]:
    gallery: dict[str, list[Picture]] = {}
    for label, data, weight, count in zip(
        opened.labels.tolist(), opened.images, opened.weights.tolist(), opened.counts.tolist(), strict=True
    ):
        class_id = opened.classes.ids[label]
        if label < GALLERY_CLASSES and len(gallery.setdefault(class_id, [])) < GALLERY_IMAGES:
            gallery[class_id].append(Picture(data, weight, count))
    return gallery


def _losses(run: MatchRun) -> Iterator[Curve]:
    lines = {}
    for trial in run.phases:
        facts = trial.facts()
        if facts is not None and len(facts["curve"]) > 1:
            steps = trial.job.config.steps
            lines[trial.slug] = ([row[0] / steps for row in facts["curve"]], [row[1] for row in facts["curve"]])
    if lines:
        yield Curve("Matching loss", "iterations", "loss, mean over classes", lines)


def _accuracies(config: MatchingConfig, run: MatchRun) -> Iterator[Curve]:
    """Accuracy of a student on the snapshots, against iterations and against seconds."""
    by_iteration, by_second = {}, {}
    for ipc in config.ipc:
        known = sorted((step, top1) for (of, step), top1 in run.accuracies.items() if of == ipc)
        trial = next((one for one in run.phases if one.job.config.ipc == ipc), None)
        facts = trial.facts() if trial is not None else None
        if trial is None or facts is None or not known:
            continue
        seconds = {0: 0.0, **{int(step): passed for step, _, passed in facts["curve"]}}
        values = [top1 for _, top1 in known]
        by_iteration[f"ipc{ipc}"] = ([step / trial.job.config.steps for step, _ in known], values)
        by_second[f"ipc{ipc}"] = ([seconds[step] for step, _ in known], values)
    if by_iteration:
        what = "top-1 accuracy, %, one training"
        yield Curve("Accuracy on the way", "iterations", what, by_iteration)
        yield Curve("Accuracy against time", "seconds of optimization", what, by_second)


def _sheets(run: MatchRun) -> Iterator[Sheet]:
    """Pictures of the first and last snapshot of each phase, and of one between them."""
    for trial in run.phases:
        steps = trial.job.snapshots
        for step in dict.fromkeys([steps[0], steps[len(steps) // 2], steps[-1]] if steps else []):
            place = trial.job.picture(step)
            if files.exists(place):
                name = f"{trial.slug}, after {step // trial.job.config.steps:,} iterations"
                yield Sheet(name, files.read_bytes(place))
