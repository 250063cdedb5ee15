"""What a grid gave, and how it is told: the text at its end and the report."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from raycond.core.progress import Timed
from raycond.data.classes import Classes
from raycond.data.images import Decoding
from raycond.data.overlap import Overlap
from raycond.data.quarantine import BadRecord
from raycond.data.rows import RowSource
from raycond.evaluate import ddranking, protocol, table
from raycond.evaluate.table import Row
from raycond.labels.agreement import Agreement
from raycond.pipelines.ending import MAX_FAILURES, environment, overlap_text
from raycond.pipelines.evaluate.config import GridConfig
from raycond.pipelines.evaluate.contenders import OpenedSet
from raycond.pipelines.layout import GridLayout
from raycond.report import GridReport, Size
from raycond.sets.normalization import Normalization


@dataclass
class GridRun(Timed):
    """A grid, opened and checked, and what it gave. failures: one text for each training that failed."""

    config: GridConfig
    layout: GridLayout
    sets: list[OpenedSet]
    ipcs: tuple[int, ...]
    recipe: protocol.Recipe
    options: Decoding
    baselines: tuple[str, ...]
    source: RowSource | None
    val: RowSource
    labels_digest: str
    listing: str = ""  # digest of what `origin` lists, where it is known
    val_listing: str = ""  # and of what `val` lists
    origin: RowSource | None = None  # what the first set was made from, where it is there; with baselines the source
    agreement: Agreement | None = None  # of the labeler with hard labels, where it has labels of its own
    overlap: Overlap | None = None  # of validation and training images, where both are known
    normalization: Normalization | None = None  # by the constants of the real images, where the protocol asks for them
    rows: list[Row] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    bad: list[BadRecord] = field(default_factory=list)  # validation images that were left out, whatever their size
    trained: int = 0  # how many trainings ran now; the others were finished before
    machine: dict[str, Any] = field(default_factory=dict)

    @property
    def classes(self) -> Classes:
        return self.sets[0].manifest.classes

    @property
    def scores(self) -> list[ddranking.Score]:
        return ddranking.scores(self.rows, self.config.full_accuracy) if self.config.scores else []


def summary(run: GridRun) -> str:
    """What a person wants to read at the end."""
    lines = [""]
    if run.rows:
        lines += [table.text(run.rows), ""]
    if run.scores:
        lines += [ddranking.text(run.scores), ""]
    if run.agreement is not None:
        lines.append(f"labeler    {run.config.labeler} {run.agreement}")
        if run.agreement.warning:
            lines.append(f"WARNING    {run.agreement.warning}")
    if overlap := overlap_text(run.overlap):
        lines.append(f"overlap    {overlap}")
    before = len(run.rows) + len(run.failures) - run.trained
    lines.append(f"trainings  {run.trained} now, {before} before")
    lines.append(f"time       {run.times}")
    if run.failures:
        lines += [f"FAILED     {len(run.failures)} trainings", *(f"  {text}" for text in run.failures[:MAX_FAILURES])]
    lines.append(f"results    {run.layout.results}.csv, .parquet")
    if run.machine.get("runner") == "ray":
        lines.append(f"curves     tensorboard --logdir {run.layout.tune}  (pip install tensorboard)")
    if run.rows:
        lines.append(f"report     {run.layout.report}")
    return "\n".join(lines) + "\n"


def build_report(run: GridRun) -> GridReport:
    """The report's parts from what the grid left."""
    resolved = run.recipe.resolve(ipc=max(run.ipcs), classes=len(run.classes), student=run.config.students[0])
    # rows come as they end, and for scores some have hard labels
    labels = next((f", labels {row.labeler}" for row in run.rows if row.labeler != "hard"), "")
    return GridReport(
        title=f"{', '.join(opened.label for opened in run.sets)}: evaluation",
        subtitle=f"protocol {run.recipe.name}{labels}, {len(run.config.seeds)} seeds, real test images",
        rows=run.rows,
        distortion=_distortion(run),
        scores=[score.to_dict() for score in run.scores],
        failures=run.failures,
        protocol={**resolved.to_dict(), "rules": list(run.recipe.rules)},
        changed=sorted(run.config.changes),
        sizes={opened.label: _sizes(opened) for opened in run.sets},
        environment=environment(
            run,
            ("torch", "torchvision", "ray"),
            {} if run.agreement is None else {"labeler": f"{run.agreement} {run.agreement.warning}".strip()},
        ),
        config=run.config.to_dict(),
        incremental=resolved.tasks > 1,
    )


def _distortion(run: GridRun) -> dict[str, dict[int, float]]:
    """Mean over classes of what each condensed set says, by method and IPC."""
    by_label = {opened.label: opened.manifest.content["cells"] for opened in run.sets}
    found: dict[str, dict[int, float]] = {}
    for row in run.rows:
        cells = by_label.get(row.set)
        if cells and row.ipc is not None and (values := cells[f"ipc{row.ipc}"].get("distortion")):
            found.setdefault(row.method, {})[row.ipc] = sum(values) / len(values)
    return found


def _sizes(opened: OpenedSet) -> list[Size]:
    stored = opened.manifest.content["storage_bytes"]
    return [
        Size("images", stored["images"], opened.manifest.content["image_format"]),
        Size("weights", stored["weights"], "float32"),
        Size("labels", stored["labels"], "hard, int64, zstd"),
        Size("label generator", stored["label_generator"], "bytes in the set; a teacher is not part of it"),
        Size("label generator base", stored.get("label_generator_base", 0), "CLIP, where the set carries it"),
    ]
