"""What a matching run would do, with the memory and the time that it would take (`--dry-run`)."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence

import torch

from raycond.core import files
from raycond.core.device import torch_threads
from raycond.core.errors import UserError
from raycond.core.progress import clock
from raycond.methods.match.memory import plan as memory_plan
from raycond.methods.match.timing import measure
from raycond.pipelines.layout import MatchLayout
from raycond.pipelines.match.config import MatchingConfig
from raycond.pipelines.match.phases import label_groups
from raycond.pipelines.match.run import prepare
from raycond.pipelines.stages.listing import listings, require_enough_images


def plan(config: MatchingConfig) -> str:
    """What a run would do, having opened and checked everything; writes nothing. Raises UserError.

    The time of the phases is measured here on a few steps; a cluster may have other machines.
    """
    with tempfile.TemporaryDirectory(prefix="raycond-") as folder:
        # an index that is there is worth using; a new one would stay in the run folder
        run = prepare(config, None if files.exists(MatchLayout(config.out).index) else folder)
        listed = listings(run.source)
    counts = [one.images for one in listed]
    lines = [
        f"source    {run.source.description}",
        f"images    {len(counts)} classes, {sum(counts)} images, {min(counts)} to {max(counts)} a class",
        f"decode    {config.side} px, {config.depth} channels, {config.resize}, normalized by "
        f"{config.normalization} constants",
    ]
    try:
        require_enough_images(run.source, listed, config.ipc)
    except UserError as error:
        raise UserError("\n".join([*lines, str(error)])) from error
    for ipc in config.ipc:
        lines += _phases(config, ipc, counts)
    if config.evaluate:
        sets = 2 * len(config.ipc) + len({"random", "medoid"} & set(config.baselines)) * len(config.ipc)
        trainings = (sets + ("full" in config.baselines)) * len(config.student_names) * len(config.seeds)
        lines.append(
            f"evaluate  {trainings} trainings: {config.row}, {config.row} (8-bit), {' '.join(config.baselines)}, "
            f"students {' '.join(config.student_names)}, seeds {' '.join(map(str, config.seeds))}, "
            f"{config.protocol_name}" + (f"; {config.snapshots + 1} snapshots of each IPC" if config.curve else "")
        )
    return "\n".join([*lines, f"out       {config.out}"])


def _phases(config: MatchingConfig, ipc: int, counts: Sequence[int]) -> Iterator[str]:
    """The phases of one IPC: settings, memory and time."""
    settings, groups = config.matching(ipc), label_groups(len(counts), config.parts)
    classes = max(map(len, groups))
    device = "cuda" if config.gpus_per_worker != 0 and torch.cuda.is_available() else "cpu"
    made = f"{settings.factor}×{settings.factor} tiles, " if settings.factor > 1 else ""
    sampling = f"dream, {settings.sampling.clusters} clusters every {settings.sampling.recluster} steps"
    yield (
        f"match     ipc{ipc}: {config.method}, {settings.network}, {settings.iterations} iterations of "
        f"{settings.steps} steps, {made}start {settings.init}, "
        f"{sampling if config.sampling == 'dream' else 'random sampling'}"
    )
    memory = memory_plan(settings, shape=config.shape, counts=counts, classes=classes, device=device)
    yield f"memory    ipc{ipc}: {'; '.join(memory.lines())}; {len(groups)} {'part' if len(groups) == 1 else 'parts'}"
    with torch_threads(config.cpus_per_worker):
        seconds = measure(settings, shape=config.shape, counts=counts, classes=classes, device=device)
    step = seconds.total(settings, classes) / settings.total
    yield (
        f"time      ipc{ipc}: {clock(seconds.total(settings, classes))} a part on this {device} with "
        f"{config.cpus_per_worker} threads ({step:.3g} s a step, measured on a few), without the evaluation"
    )
