"""Whole splits, decoded once into a file that every training of a run shares."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from raycond.core import records
from raycond.core.errors import BadImage, UserError
from raycond.core.progress import Progress
from raycond.data.images import Decoding, load_many
from raycond.data.labelled import pixels, write_pixels
from raycond.data.quarantine import BadRecord
from raycond.data.sources import Source

MAX_SPLIT_BYTES = 16 * 2**30  # of one decoded split: what a node can be expected to hold beside its work


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
    expected = records.fingerprint(stage="pixels", data=digest, **asdict(options))
    facts = records.find(output, expected)
    if facts is None:
        images, labels, bad = _read(name, source, options, remedy)
        write_pixels(output, images, labels)
        forget_splits()
        about = {"images": len(images), "bad": [list(record) for record in bad]}
        facts = records.finish(output, expected, None, **records.measured(output), **about)
    return Split(facts["images"], [BadRecord(*row) for row in facts["bad"]])


def forget_splits() -> None:
    """A split that was read before it was written anew must not be used again by this process."""
    pixels.cache_clear()


def _read(name: str, source: Source, options: Decoding, remedy: str) -> tuple[np.ndarray, np.ndarray, list[BadRecord]]:
    """Images (N, H, W, C) uint8 and labels (N,) of all good images, and the bad ones."""
    side = options.size
    refs = [ref for label in range(len(source.classes)) for ref in source.refs(label)]
    shape = (len(refs), side, side, options.channels)
    if np.prod(shape, dtype=float) > MAX_SPLIT_BYTES:
        raise UserError(
            f"{source.uri}: the {len(refs)} images of the {name} split are more than {MAX_SPLIT_BYTES // 2**30} "
            f"GiB when decoded at {side} pixels" + (f"; {remedy}" if remedy else "")
        )
    images = np.empty(shape, np.uint8)
    labels: list[int] = []
    bad: list[BadRecord] = []
    with Progress(f"decode {name}", len(refs), "images") as progress:
        for ref, image, _ in load_many(
            refs,
            size=side,
            resize=options.resize,
            channels=options.channels,
            max_pixels=options.max_pixels,
            threads=4,
            prefetch=256,
        ):
            if isinstance(image, BadImage):
                bad.append(BadRecord.of(ref, source.classes.ids[ref.label], image.reason))
            else:
                images[len(labels)] = image
                labels.append(ref.label)
            progress.step()
    if not labels:
        raise UserError(f"{source.uri}: not one image of the {name} split can be read")
    return images[: len(labels)], np.array(labels), bad
