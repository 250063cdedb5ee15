"""The stage of the phases: which there are, which are missing, and how far they are."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, TextIO

from raycond.core import files, records
from raycond.core.progress import Progress
from raycond.data.class_arrays import ArrayFiles
from raycond.methods.match.config import MatchConfig
from raycond.pipelines.layout import MatchLayout
from raycond.pipelines.match.config import MatchingConfig
from raycond.pipelines.match.phase import PhaseJob, PhaseTrial
from raycond.runtime.runner import Runner
from raycond.runtime.trials import Request

log = logging.getLogger(__name__)


def label_groups(classes: int, parts: int) -> list[tuple[int, ...]]:
    """The labels in `parts` runs of nearly the same length, none empty."""
    parts = min(parts, classes)
    ends = [round(classes * k / parts) for k in range(parts + 1)]
    return [tuple(range(a, b)) for a, b in pairwise(ends)]


def snapshot_steps(config: MatchConfig, count: int) -> tuple[int, ...]:
    """Steps after which images are kept: 0, and `count` evenly spread ones, each the last step of a network."""
    if not count:
        return ()
    iterations = sorted({round(config.iterations * k / count) for k in range(count + 1)})
    return tuple(config.steps * k for k in iterations)


def phases(
    config: MatchingConfig,
    layout: MatchLayout,
    pixels: ArrayFiles,
    *,
    digest: str,
    constants: tuple[tuple[float, ...], tuple[float, ...]],
    device: str,
) -> list[PhaseTrial]:
    """Every phase, IPC by IPC and then part by part. digest: of the decoded images. constants: mean and deviation."""
    found = []
    groups = label_groups(len(pixels.uris), config.parts)
    for ipc in config.ipc:
        for part, labels in enumerate(groups):
            name = f"ipc{ipc}" if len(groups) == 1 else f"ipc{ipc}-part{part}"
            found.append(_phase(config, layout, pixels, digest, constants, device, ipc, labels, name))
    return found


def _phase(
    config: MatchingConfig,
    layout: MatchLayout,
    pixels: ArrayFiles,
    digest: str,
    constants: tuple[tuple[float, ...], tuple[float, ...]],
    device: str,
    ipc: int,
    labels: tuple[int, ...],
    name: str,
) -> PhaseTrial:
    settings = config.matching(ipc)
    steps = snapshot_steps(settings, config.snapshots)
    threads = config.cpus_per_worker
    fingerprint = records.fingerprint(
        stage="match",
        settings=settings.to_dict(),
        pixels=digest,
        constants=[list(values) for values in constants],
        labels=list(labels),
        seed=config.seed,
        snapshots=list(steps),
        device=device,
        **({"threads": threads} if threads > 1 else {}),
    )
    job = PhaseJob(
        folder=layout.phase(fingerprint),
        config=settings,
        pixels=pixels,
        mean=constants[0],
        std=constants[1],
        labels=labels,
        seed=config.seed,
        snapshots=steps,
        pictures=files.join(layout.pictures, name),
        threads=threads,
        checkpoint_every=config.checkpoint_every,
    )
    gpus = 0.0 if device == "cpu" else (1.0 if config.gpus_per_worker < 0 else config.gpus_per_worker)
    return PhaseTrial(f"{config.row} {name}", name, job, fingerprint, device, Request(threads, gpus))


def carry_out(
    trials: Sequence[PhaseTrial], missing: Sequence[PhaseTrial], runner: Runner, *, folder: str, at_once: int
) -> list[str]:
    """Work on the phases of `trials` that are missing; one text for each that failed. folder: for what the runner
    itself leaves. at_once: 0 for as many as fit."""
    with PhaseProgress(trials, missing) as watcher:
        runner.trials(missing, watcher, folder=folder, at_once=at_once)
    return watcher.failures


class PhaseProgress:
    """A watcher that shows the steps of all phases together, with the loss of the one that told last.

    Use as a context manager; `failures` grow as phases fail.
    """

    def __init__(
        self, trials: Sequence[PhaseTrial], missing: Sequence[PhaseTrial], stream: TextIO | None = None
    ) -> None:
        total = sum(trial.job.total for trial in trials)
        done = total - sum(trial.job.total for trial in missing)
        self.failures: list[str] = []
        self._steps: dict[str, int] = {}
        self._several = len(trials) > 1
        self._progress = Progress("match", total, "steps", done=done, stream=stream or sys.stderr)

    def __enter__(self) -> PhaseProgress:
        self._progress.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.__exit__(*error)

    def started(self, trial: PhaseTrial) -> None:
        pass

    def checked(self, trial: PhaseTrial, values: dict[str, float]) -> None:
        step = int(values["step"])
        known = self._steps.get(trial.place)
        if known is None:  # what was done before this run does not count as work
            self._progress.before += step
        self._show(trial, step - (known or 0), values["loss"])
        self._steps[trial.place] = step

    def done(self, trial: PhaseTrial, result: dict[str, Any]) -> None:
        self._show(trial, int(result["step"]) - self._steps.get(trial.place, 0), float(result["loss"]))
        self._steps[trial.place] = int(result["step"])

    def failed(self, trial: PhaseTrial, why: str, details: str = "") -> None:
        log.error("%s failed: %s\n%s", trial.name, why, details)
        self.failures.append(f"{trial.name}: {why}")
        self._progress.say(f"{trial.name} failed: {why}")

    def _show(self, trial: PhaseTrial, more: int, loss: float) -> None:
        name = f"{trial.slug} " if self._several else ""
        note = "" if loss != loss else f"{name}loss {loss:.4g}"  # no loss is known before the first step
        self._progress.step(more, note)
