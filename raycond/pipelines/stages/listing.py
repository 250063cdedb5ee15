"""Fingerprints of the images that a source lists."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from raycond.core import files, records
from raycond.core.progress import Progress
from raycond.data.sources import Source


def source_digest(fingerprints: Sequence[str]) -> str:
    return files.digest(list(fingerprints))


def class_fingerprints(source: Source, stage: str = "list") -> list[str]:
    """What each class's images are, by label; folders are listed by several threads, a class in memory by each."""
    with (
        Progress(stage, len(source.classes), "classes") as progress,
        ThreadPoolExecutor(records.IO_THREADS) as pool,
    ):
        found = []
        for one in pool.map(source.fingerprint, range(len(source.classes))):
            found.append(one)
            progress.step()
    return found
