"""The real images of a baseline, decoded once into a file that all its trainings share.

A grid trains every student on the same random images and medoids. A `SelectionTask` decodes them before the trainings
start, with several threads; each training then reads the file, which is mapped and not copied.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from raycond.core import files, records
from raycond.data.images import Decoding
from raycond.data.labelled import LabelledImages, pixel_writer, pixels
from raycond.evaluate.training_sets import Medoids, RandomImages


@dataclass(frozen=True)
class SharedImages:
    """A decoded file as the training set of a cell; the labels lie in it too."""

    uri: str
    """The file, within reach of every node that trains."""

    def load(self, classes: int, options: Decoding) -> LabelledImages:
        return pixels(self.uri, classes)


@dataclass(frozen=True)
class SelectionTask:
    """One selection to decode: a baseline at one IPC and seed. Small and picklable, so that any node can do it.

    A file that is finished is not written again: its name and its completion record carry the fingerprint of all that
    the images depend on. Tasks with the same fingerprint are the same file, so a list of them needs no repetition.
    """

    images: RandomImages | Medoids
    """Which images."""

    classes: int
    """How many classes the source has."""

    options: Decoding
    """How each image is decoded."""

    digest: str
    """Of the source's images and, for medoids, of the condensed set that names them."""

    folder: str
    """Where the files of all selections lie."""

    @property
    def fingerprint(self) -> str:
        return records.fingerprint(
            stage="selection",
            selection=_described(self.images),
            classes=self.classes,
            options=self.options.identity,
            data=self.digest,
        )

    @property
    def output(self) -> str:
        return files.join(self.folder, f"{self.fingerprint[:32]}.safetensors")

    def finished(self) -> SharedImages | None:
        """The decoded images, if they are there and undamaged."""
        facts = records.find(self.output, self.fingerprint)
        return None if facts is None else SharedImages(self.output)

    def carry_out(self, threads: int = 4) -> SharedImages:
        """Decode the images with `threads` threads, unless that is done.

        Raises UserError and RaycondError, as the selection's own `decoded` does, and OSError.
        """
        if (done := self.finished()) is not None:
            return done
        images = self.images.decoded(self.classes, self.options, threads)
        count = self.images.count(self.classes)
        if count is None:  # a budget in bytes keeps few images
            images, count = iter(few := list(images)), len(few)
        shape = (self.options.channels, self.options.size, self.options.size)
        with pixel_writer(self.output, count, shape) as writer:
            for image, label in images:
                writer.add(image, label)
        pixels.cache_clear()  # this process may have read an earlier file of this name
        records.finish(self.output, self.fingerprint, None, **records.measured(self.output))
        return SharedImages(self.output)


def _described(images: RandomImages | Medoids) -> Mapping[str, Any]:
    """What tells this selection from others of the same source, without places, which differ between machines."""
    if isinstance(images, Medoids):
        return {"kind": "medoid", "ipc": images.ipc}
    return {
        "kind": "random",
        "ipc": images.ipc,
        "seed": images.seed,
        "budget": list(images.budget),
        "image_format": images.image_format if images.budget else "",
    }
