"""The stage over class shards: find what is missing or stale, run only that, account for what went wrong."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from raycond.data.quarantine import BadRecord, Limit
from raycond.data.sources import Source
from raycond.errors import UserError
from raycond.progress import Progress
from raycond.runtime import records
from raycond.runtime.local import Runner
from raycond.runtime.units import Job, WorkerSpec, codebook_fingerprint, images_fingerprint

Facts = dict[tuple[int, int], dict[str, Any]]


@dataclass
class StageOutcome:
    """facts: (label, IPC) → facts of a finished codebook. errors: label → why. computed: classes worked on now."""

    facts: Facts = field(default_factory=dict)
    errors: dict[int, str] = field(default_factory=dict)
    computed: int = 0


def class_fingerprints(source: Source) -> list[str]:
    """What each class's images are, by label; folders are listed by several threads, one class in memory at a time."""
    with (
        Progress("list", len(source.classes), "classes") as progress,
        ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool,
    ):
        found = []
        for one in pool.map(source.fingerprint, range(len(source.classes))):
            found.append(one)
            progress.step()
    return found


def condense_classes(
    runner: Runner, spec: WorkerSpec, fingerprints: Sequence[str], generators: Sequence[str], limit: Limit
) -> StageOutcome:
    """Codebooks of every class at every IPC and images of every generator, where no valid record says they exist.

    fingerprints: of each class's image references. Raises UserError as soon as more bad images than an absolute
    `limit` were met.
    """
    outcome, jobs = StageOutcome(), []
    for label, images in enumerate(fingerprints):
        job = _missing(spec, label, images, generators, outcome.facts)
        if job.quantize or job.generate:
            jobs.append(job)
    with Progress("condense", len(fingerprints), "classes") as progress:
        if len(jobs) < len(fingerprints):
            progress.step(len(fingerprints) - len(jobs), "resumed")
        for result in runner.classes(spec, jobs) if jobs else ():
            if result.error:
                outcome.errors[result.label] = result.error
                progress.say(f"class {spec.source.classes.ids[result.label]} failed: {result.error.splitlines()[-1]}")
            for ipc, facts in result.facts.items():
                outcome.facts[result.label, ipc] = facts
            outcome.computed += 1
            progress.step(1, f"{spec.source.classes.names[result.label]} {result.seconds:.1f} s")
            if limit.share is None:
                check_limit(bad_images(outcome.facts), 0, limit)
    return outcome


def _missing(spec: WorkerSpec, label: int, images: str, generators: Sequence[str], facts: Facts) -> Job:
    """What of a class is missing or stale; the facts of what is there go into `facts`."""
    quantize, generate = {}, {}
    for ipc in spec.config.ipc:
        expected = codebook_fingerprint(spec, label, ipc, images)
        found = records.find(spec.layout.codebook(ipc, label), expected)
        if found is None:
            quantize[ipc] = expected
        else:
            facts[label, ipc] = found
    for kind in generators:
        ipcs = [ipc for ipc in spec.config.ipc if ipc in quantize or not _has_images(spec, kind, ipc, label)]
        if ipcs:
            generate[kind] = ipcs
    return Job(label, quantize, generate)


def _has_images(spec: WorkerSpec, kind: str, ipc: int, label: int) -> bool:
    return records.find(spec.layout.images(kind, ipc, label), images_fingerprint(spec, kind, ipc, label)) is not None


def bad_images(facts: Facts) -> list[BadRecord]:
    """The images that quantizing left out, once each, whatever the number of IPCs."""
    return sorted({BadRecord(*row) for found in facts.values() for row in found.get("bad", ())})


def check_limit(bad: Sequence[BadRecord], good: int, limit: Limit) -> None:
    """Raise UserError if there are more bad images than the user allows."""
    if limit.exceeded(len(bad), len(bad) + good):
        shown = "\n".join(f"  {b.uri}: {b.reason}" for b in bad[:5])
        raise UserError(
            f"{len(bad)} bad images, more than --max-bad {limit.text} allows; they are listed in quarantine.parquet. "
            f"The first:\n{shown}\nRaise --max-bad to go on without them."
        )
