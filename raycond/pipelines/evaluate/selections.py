"""The real images of baselines, decoded once before the trainings that share them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from raycond.evaluate.shared_images import SelectionTask, SharedImages
from raycond.evaluate.training_sets import Medoids, RandomImages
from raycond.pipelines.evaluate.summary import GridRun
from raycond.pipelines.evaluate.trial import Trial
from raycond.runtime.resources import Resources
from raycond.runtime.runner import Runner

FEW = 5_000  # images that the driver decodes itself: starting a worker takes longer
THREADS = 4


def with_shared_images(trials: Sequence[Trial], run: GridRun, runner: Runner) -> list[Trial]:
    """The trials with the file of decoded images in place of each random selection and each set of medoids.

    A selection that cannot be decoded stays as it is, so that its trainings fail with their names and its reason.
    """
    tasks = {trial.place: task for trial in trials if (task := _task(trial, run)) is not None}
    pending = {task.output: task for task in tasks.values() if task.finished() is None}
    images = sum(task.images.count(task.classes) or FEW for task in pending.values())
    if images <= FEW:
        results = [_decode(task) for task in pending.values()]
    else:
        resources = Resources(cpus=1)
        results = [result for _, result in runner.tasks(_decode, list(pending.values()), resources)]
    ready = {result.uri for result in results if isinstance(result, SharedImages)}
    ready |= {task.output for task in tasks.values()} - set(pending)
    return [
        replace(trial, cell=replace(trial.cell, train=SharedImages(task.output)))
        if (task := tasks.get(trial.place)) is not None and task.output in ready
        else trial
        for trial in trials
    ]


def _task(trial: Trial, run: GridRun) -> SelectionTask | None:
    images = trial.cell.train
    if not isinstance(images, RandomImages | Medoids):
        return None
    return SelectionTask(images, len(run.classes), trial.cell.options, trial.data, run.layout.selections)


def _decode(task: SelectionTask) -> SharedImages | Exception:
    """Returned and not raised, so that it is the same in this process and in a task's."""
    try:
        return task.carry_out(THREADS)
    except Exception as error:
        return error
