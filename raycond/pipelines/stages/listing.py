"""What a source lists: how many images each class has, and their fingerprints."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from raycond.core import files, records
from raycond.core.errors import UserError
from raycond.core.progress import Progress
from raycond.data.rows import Listing
from raycond.data.sources import Source

MOST_NAMED = 10  # classes that an error names


def source_digest(fingerprints: Sequence[str]) -> str:
    """Digest of all that a source lists, from the fingerprints of its classes."""
    return files.digest(list(fingerprints))


def listings(source: Source, stage: str = "list") -> list[Listing]:
    """Number and fingerprint of each class's images, by label; several threads list, each holds one class in memory."""
    with (
        Progress(stage, len(source.classes), "classes") as progress,
        ThreadPoolExecutor(records.IO_THREADS) as pool,
    ):
        listed = []
        for one in pool.map(source.listing, range(len(source.classes))):
            listed.append(one)
            progress.step()
    return listed


def class_fingerprints(source: Source, stage: str = "list") -> list[str]:
    """The fingerprint of each class's images, by label."""
    return [one.fingerprint for one in listings(source, stage)]


def require_enough_images(source: Source, listed: Sequence[Listing], ipcs: Sequence[int]) -> None:
    """Raise UserError, before any work, for classes that have fewer images than are to be made of each."""
    most = max(ipcs)
    counts = {source.classes.ids[label]: one.images for label, one in enumerate(listed)}
    if empty := [class_id for class_id, count in counts.items() if count == 0]:
        raise UserError(
            f"class {_some(empty)} of {source.uri}: no image is left; remove the empty folders, or look at --limit and "
            "--val-share"
        )
    if short := [class_id for class_id, count in counts.items() if count < most]:
        fewest = min(counts[class_id] for class_id in short)
        raise UserError(
            f"--ipc {most}: more than the images of class {_some(short)}; give at most {fewest}, or leave these "
            "classes out of the source"
        )


def _some(ids: Sequence[str]) -> str:
    more = len(ids) - MOST_NAMED
    return ", ".join(ids[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
