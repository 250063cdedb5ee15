"""The curves of a run as files: loss and accuracy against iterations and seconds, as CSV and for TensorBoard."""

from __future__ import annotations

import csv
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from raycond.core import files
from raycond.pipelines.match.summary import MatchRun

COLUMNS = ("ipc", "part", "step", "iteration", "seconds", "loss", "top1")


class Point(NamedTuple):
    """An entry of the curve of a phase. top1: of a student trained on the images there, where one was."""

    ipc: int
    part: str
    step: int
    iteration: float
    seconds: float
    loss: float | None
    top1: float | None


def points(run: MatchRun) -> Iterator[Point]:
    """All entries, phase by phase, in order; the first has no loss where a snapshot was taken before the first step."""
    for trial in run.phases:
        facts = trial.facts()
        if facts is None:
            continue
        config = trial.job.config
        entries = [(int(step), loss, seconds) for step, loss, seconds in facts["curve"]]
        if 0 in trial.job.snapshots:
            entries.insert(0, (0, None, 0.0))
        for step, loss, seconds in entries:
            top1 = run.accuracies.get((config.ipc, step))
            yield Point(config.ipc, trial.slug, step, step / config.steps, seconds, loss, top1)


def write(run: MatchRun) -> None:
    """curve.csv and TensorBoard's files, from the records of the phases and the accuracies of the snapshots."""
    found = list(points(run))
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for point in found:
        table.writerow([f"{value:.10g}" if isinstance(value, float) else value for value in point])  # None is empty
    files.write_bytes(run.layout.curve, text.getvalue().encode())
    _tensorboard(run, found)


def _tensorboard(run: MatchRun, found: list[Point]) -> None:
    """One folder of events for each phase, written anew."""
    from tensorboardX import SummaryWriter

    for name in dict.fromkeys(point.part for point in found):
        place = files.join(run.layout.tensorboard, name)
        with tempfile.TemporaryDirectory(prefix="raycond-") as folder:
            writer = SummaryWriter(folder, write_to_disk=True)
            for point in (one for one in found if one.part == name):
                for what, value in (("loss", point.loss), ("top1", point.top1)):
                    if value is not None:
                        writer.add_scalar(what, value, point.step, point.seconds)
            writer.close()
            for entry in files.listdir(place) if files.exists(place) else ():
                files.delete(entry.uri)
            for path in sorted(Path(folder).iterdir()):
                files.write_bytes(files.join(place, path.name), path.read_bytes())
