"""Generated images that are looked at: a failed one is made again from the next seed, and counted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from torch import Tensor

from raycond.core.errors import RaycondError
from raycond.data.classes import Classes
from raycond.models.generators.base import Generator, Wanted

_DARK = 8 / 255  # brighter than this in one place is not black; likewise for white
_FLAT = 2 / 255  # standard deviation of every channel of a constant image, with the texture a decoder leaves on it
_ADVICE = {
    "NaN": "try --dtype float32, or bfloat16 in place of float16",
    "black": "is it a model for another codec, or a safety checker?",
}


@dataclass(frozen=True)
class Checked:
    """images: (n, C, H, W) float32 in [0, 1]. seeds: that each was made from. failures: reason → images made again."""

    images: Tensor
    seeds: tuple[int, ...]
    failures: dict[str, int] = field(default_factory=dict)


def faults(images: Tensor) -> list[str | None]:
    """Why each of the images (n, C, H, W) in [0, 1] is none: NaN, black, white or constant; None for a good one."""
    flat = images.float().flatten(2)
    finite = flat.isfinite().all(2).all(1)
    least, most = flat.amin((1, 2)), flat.amax((1, 2))
    spread = flat.std(2, unbiased=False).amax(1)
    found: list[str | None] = []
    for good, low, high, varied in zip(finite.tolist(), least.tolist(), most.tolist(), spread.tolist(), strict=True):
        if not good:
            found.append("NaN")
        elif high <= _DARK:
            found.append("black")
        elif low >= 1 - _DARK:
            found.append("white")
        else:
            found.append("constant" if varied < _FLAT else None)
    return found


def make_images(generator: Generator, wanted: Wanted, classes: Classes, *, retries: int = 3) -> Checked:
    """The wanted images; failed ones are made again, up to `retries` times, from their seed plus 1, 2, …

    Of a generator without seeds nothing is made again, and only NaN is a failure: a real image may be black. Raises
    RaycondError that names class and image when one fails every time.
    """
    if not generator.seeded:
        images = generator(wanted)
        broken = dict.fromkeys(images.isnan().flatten(1).any(1).nonzero().flatten().tolist(), "NaN")
        if broken:
            raise RaycondError(_complaint(generator.name, wanted, classes, broken, 0))
        return Checked(images, wanted.seeds)
    made = generator(wanted).clone()  # what comes out of inference mode cannot be written to
    seeds, counts = list(wanted.seeds), Counter[str]()
    failed = {row: fault for row, fault in enumerate(faults(made)) if fault is not None}
    for attempt in range(1, retries + 1):
        if not failed:
            break
        counts.update(failed.values())
        rows = sorted(failed)
        again = wanted.rows(rows).reseeded(attempt)
        images = generator(again)
        made[rows] = images
        for row, seed in zip(rows, again.seeds, strict=True):
            seeds[row] = seed
        failed = {row: fault for row, fault in zip(rows, faults(images), strict=True) if fault is not None}
    if failed:
        raise RaycondError(_complaint(generator.name, wanted, classes, failed, retries))
    return Checked(made, tuple(seeds), dict(sorted(counts.items())))


def _complaint(name: str, wanted: Wanted, classes: Classes, failed: dict[int, str], retries: int) -> str:
    row = min(failed)
    label = int(wanted.labels[row])
    number = int((wanted.labels[:row] == label).sum())
    advice = _ADVICE.get(failed[row], "look at the centroid and the options")
    tries = f" from {retries + 1} seeds in turn" if retries else ""
    more = f" (and {len(failed) - 1} more images)" if len(failed) > 1 else ""
    return f"class {classes.ids[label]}: {name} made image {number} {failed[row]}{tries}{more}; {advice}"
