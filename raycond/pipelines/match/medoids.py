"""Real images that stand for a class: those nearest to the centers of clusters of its pixels, a baseline of the set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from raycond.core import files, records
from raycond.core.errors import RaycondError, UserError
from raycond.core.progress import Progress
from raycond.core.seeds import seed_of
from raycond.data.class_arrays import ArrayFiles, Pixels
from raycond.data.sources import Source
from raycond.methods.quantize.quantization import quantize
from raycond.pipelines.stages.class_files import ClassFiles
from raycond.runtime.resources import Resources
from raycond.runtime.runner import Runner

SIDE = 32  # pixels; larger images are averaged down, as clusters of thumbnails are as good and cost a fraction


@dataclass(frozen=True)
class _Task:
    pixels: ArrayFiles  # of one class
    ipcs: tuple[int, ...]
    seed: int


def medoids(
    runner: Runner, source: Source, decoded: ClassFiles, ipcs: Sequence[int], *, seed: int, folder: str
) -> dict[int, list[tuple[str, ...]]]:
    """IPC → for each class the ids of as many real images: those nearest to the centers of k-means clusters of its
    pixels, largest cluster first. They are computed once; folder: where their records lie. Raises RaycondError, naming
    the class, where they cannot be, and UserError where the source has other images than were decoded."""
    expected = {
        ipc: records.fingerprint(stage="medoids", pixels=decoded.digest, ipc=ipc, seed=seed) for ipc in sorted(ipcs)
    }
    places = {ipc: files.join(folder, f"ipc{ipc}") for ipc in expected}
    facts = {ipc: records.find(places[ipc], expected[ipc]) for ipc in expected}
    missing = tuple(ipc for ipc, known in facts.items() if known is None)
    for ipc, rows in _rows(runner, source, decoded.found, missing, seed).items() if missing else ():
        facts[ipc] = records.finish(places[ipc], expected[ipc], None, rows=rows)
    kept = [_kept(source, decoded, label) for label in range(len(source.classes))]
    return {
        ipc: [tuple(ids[row] for row in rows) for ids, rows in zip(kept, known["rows"], strict=True)]
        for ipc, known in facts.items()
        if known is not None
    }


def _rows(
    runner: Runner, source: Source, pixels: ArrayFiles, ipcs: tuple[int, ...], seed: int
) -> dict[int, list[list[int]]]:
    ids = source.classes.ids
    tasks = [
        _Task(ArrayFiles((uri,), (count,), pixels.shape), ipcs, seed_of(seed, "medoids", class_id))
        for uri, count, class_id in zip(pixels.uris, pixels.counts, ids, strict=True)
    ]
    found: dict[int, list[list[int]]] = {ipc: [[]] * len(tasks) for ipc in ipcs}
    with Progress("medoids", len(tasks), "classes") as progress:
        for label, result in runner.tasks(of_class, tasks, Resources(cpus=1)):
            if isinstance(result, Exception):
                raise RaycondError(f"class {ids[label]}: {result}") from result
            for ipc, rows in result.items():
                found[ipc][label] = rows
            progress.step(1, source.classes.names[label])
    return found


def of_class(task: _Task) -> dict[int, list[int]]:
    """IPC → positions of the medoids within the class."""
    images = Pixels.open(task.pixels, "cpu").raw(torch.arange(task.pixels.counts[0]))[0]
    points = torch.cat([_thumbnails(part) for part in images.split(1024)])
    books = quantize(points, task.ipcs, kind="lloyd", seed=task.seed, restarts=1)
    return {ipc: book.medoids.tolist() for ipc, book in zip(task.ipcs, books, strict=True)}


def _thumbnails(images: torch.Tensor) -> torch.Tensor:
    pixels = images.float() / 255
    return F.interpolate(pixels, (SIDE, SIDE), mode="area") if images.shape[-1] > SIDE else pixels


def _kept(source: Source, decoded: ClassFiles, label: int) -> list[str]:
    """The ids of the good images of a class, in the order of its file."""
    bad = {record.id for record in decoded.bad if record.label == label}
    ids = [ref.id for ref in source.refs(label) if ref.id not in bad]
    if len(ids) != decoded.found.counts[label]:
        raise UserError(
            f"class {source.classes.ids[label]}: {decoded.found.counts[label]} images were decoded and "
            f"{len(ids)} are listed; has the source changed meanwhile? Run again"
        )
    return ids
