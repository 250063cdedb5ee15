"""Whole splits, decoded once into a file that every training of a run shares."""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass
from pathlib import Path

from raycond.core import files, records
from raycond.core.errors import BadImage, UserError
from raycond.core.progress import Progress
from raycond.data.images import Decoding, load_many
from raycond.data.labelled import pixel_writer, pixels
from raycond.data.quarantine import BadRecord
from raycond.data.sources import Source

MAX_SPLIT_BYTES = 16 * 2**30  # of a decoded split in a remote place, which every process reads whole


@dataclass(frozen=True)
class Split:
    """What a decoded split has: good images, and the bad ones that were left out."""

    images: int
    bad: list[BadRecord]


def decode_split(name: str, source: Source, digest: str, options: Decoding, output: str, remedy: str = "") -> Split:
    """Decode every image of `source` into `output`, where that is not done.

    digest: of what the source holds. remedy: what to do, in words, if the split is too large. Raises UserError if it
    is, or if not one image can be read.
    """
    expected = records.fingerprint(stage="pixels", data=digest, **options.identity)
    facts = records.find(output, expected)
    if facts is None:
        count, bad = _decode(name, source, options, output, remedy)
        forget_splits()
        about = {"images": count, "bad": [list(record) for record in bad]}
        facts = records.finish(output, expected, None, **records.measured(output), **about)
    return Split(facts["images"], [BadRecord(*row) for row in facts["bad"]])


def forget_splits() -> None:
    """A split that was read before it was written anew must not be used again by this process."""
    pixels.cache_clear()


def _room(output: str) -> tuple[int, str]:
    """Bytes that a decoded split may have, and what sets the limit. A local one is mapped and read batch by batch, so
    that only the disk does."""
    if not files.is_local(output):
        return MAX_SPLIT_BYTES, f"the {MAX_SPLIT_BYTES / 2**30:.0f} GiB of one that does not lie on a local disk"
    folder = Path(files.absolute(output)).parent
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free, f"is free in {folder}"


def _decode(name: str, source: Source, options: Decoding, output: str, remedy: str) -> tuple[int, list[BadRecord]]:
    """Write all good images to `output`; how many they are, and the bad ones."""
    refs = [ref for label in range(len(source.classes)) for ref in source.refs(label)]
    shape = (options.channels, options.size, options.size)
    need, room, where = len(refs) * math.prod(shape), *_room(output)
    if need > room:
        raise UserError(
            f"{source.uri}: the {len(refs)} images of the {name} split take {need / 2**30:.1f} GiB when decoded at "
            f"{options.size} pixels, more than {where}" + (f"; {remedy}" if remedy else "")
        )
    bad: list[BadRecord] = []
    with Progress(f"decode {name}", len(refs), "images") as progress, pixel_writer(output, len(refs), shape) as writer:
        for ref, image, _ in load_many(refs, **options.arguments, threads=4, prefetch=256):
            if isinstance(image, BadImage):
                bad.append(BadRecord.of(ref, source.classes.ids[ref.label], image.reason))
            else:
                writer.add(image, ref.label)
            progress.step()
        if not writer.count:
            raise UserError(f"{source.uri}: not one image of the {name} split can be read")
    return writer.count, bad
