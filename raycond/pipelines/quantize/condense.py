"""The stage over class shards: find what is missing or stale, run only that, account for what went wrong."""

from __future__ import annotations

import errno
import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from raycond.core import files, records
from raycond.core.errors import RaycondError, UserError
from raycond.core.progress import Progress
from raycond.data.quarantine import BadRecord, Limit
from raycond.pipelines.quantize.units import (
    ClassJob,
    Facts,
    Result,
    WorkerSpec,
    codebook_fingerprint,
    images_fingerprint,
)
from raycond.pipelines.quantize.worker import ClassWorker
from raycond.runtime.runner import Runner

log = logging.getLogger(__name__)


@dataclass
class StageOutcome:
    """facts: (label, IPC) → facts of a finished codebook. errors: label → class and why.

    bad: the images left out, once each, whatever the number of IPCs. retried: reason → images that the generator had to
    make again. computed: how many classes were worked on now.
    """

    facts: dict[tuple[int, int], Facts] = field(default_factory=dict)
    errors: dict[int, str] = field(default_factory=dict)
    bad: set[BadRecord] = field(default_factory=set)
    retried: Counter[str] = field(default_factory=Counter)
    computed: int = 0

    def add(self, label: int, facts: dict[int, Facts], bad: Sequence[BadRecord] = ()) -> None:
        for ipc, found in facts.items():
            self.facts[label, ipc] = found
            self.bad.update(BadRecord(*row) for row in found["bad"])
        self.bad.update(bad)


def condense_classes(runner: Runner, spec: WorkerSpec, fingerprints: Sequence[str], limit: Limit) -> StageOutcome:
    """Codebooks of every class at every IPC and images of every kind, where no valid record says they exist.

    fingerprints: of each class's image references. Stops early, with what there is, when more bad images than an
    absolute `limit` were met. Raises UserError if a worker's files are not to be seen from here,
    OSError if a disk is full.
    """
    classes = spec.source.classes
    outcome = StageOutcome(bad=set(spec.source.bad))
    jobs = []
    with ThreadPoolExecutor(records.IO_THREADS) as pool:
        missing = partial(_missing, spec)
        for job, retried in pool.map(missing, range(len(classes)), fingerprints):
            outcome.add(job.label, job.made)
            outcome.retried.update(retried)
            if job.quantize or job.generate:
                jobs.append(job)
    with Progress("condense", len(classes), "classes", done=len(classes) - len(jobs)) as progress:
        for result in _results(runner, spec, jobs):
            if result.full:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), result.full)
            _require_visible(spec, result)
            outcome.add(result.label, result.facts, result.bad)
            outcome.retried.update(result.retried)
            outcome.computed += 1
            if result.error:
                outcome.errors[result.label] = _of_class(classes.ids[result.label], result.error)
                log.error("%s", outcome.errors[result.label])
                progress.say(outcome.errors[result.label].splitlines()[-1])
            progress.step(1, f"{classes.names[result.label]} {result.seconds:.1f} s")
            if limit.share is None and limit.exceeded(len(outcome.bad), len(outcome.bad)):
                break
    return outcome


def _results(runner: Runner, spec: WorkerSpec, jobs: Sequence[ClassJob]) -> Iterator[Result]:
    if not jobs:
        return
    config = spec.config
    for position, result in runner.pool(
        partial(ClassWorker, spec),
        [job.to_json() for job in jobs],
        config.resources,
        workers=config.actors,
        batch=config.classes_at_once,
    ):
        if isinstance(result, RaycondError):
            yield Result(jobs[position].label, error=str(result))
        else:
            yield Result.from_json(result)


def _missing(spec: WorkerSpec, label: int, images: str) -> tuple[ClassJob, Counter[str]]:
    """What of a class is missing or stale, with the facts of the codebooks that are there; images made again then."""
    job, retried = ClassJob(label), Counter[str]()
    for ipc in spec.config.ipc:
        expected = codebook_fingerprint(spec, label, ipc, images)
        found = records.find(spec.layout.codebook(ipc, label), expected)
        if found is None:
            job.quantize[ipc] = expected
        else:
            job.made[ipc] = found
    for kind in spec.kinds:
        for ipc in spec.config.ipc:
            images_there = _images_record(spec, kind, ipc, job) if ipc in job.made else None
            if images_there is None:
                job.generate.setdefault(kind, []).append(ipc)
            else:
                retried.update(images_there.get("retried", {}))
    return job, retried


def _images_record(spec: WorkerSpec, kind: str, ipc: int, job: ClassJob) -> dict[str, Any] | None:
    expected = images_fingerprint(spec, kind, job.label, job.made[ipc])
    return records.find(spec.layout.images(kind, ipc, job.label), expected)


def _of_class(class_id: str, error: str) -> str:
    name = f"class {class_id}: "
    return error if error.startswith(name) else name + error


def _require_visible(spec: WorkerSpec, result: Result) -> None:
    for ipc in result.facts:
        if not files.exists(records.record_of(spec.layout.codebook(ipc, result.label))):
            raise UserError(
                f"--out {spec.layout.out}: a worker has written class {spec.source.classes.ids[result.label]} there, "
                "and this machine does not see it; on several machines --out must be object storage or a shared folder"
            )
