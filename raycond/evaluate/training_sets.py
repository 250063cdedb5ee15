"""What a student is given: the images of a condensed set, of a selection from the source, or all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from raycond.core import files
from raycond.core.errors import BadImage, RaycondError, UserError
from raycond.data.encoded import decode_image, encode_image, unpack
from raycond.data.images import Decoding, load
from raycond.data.labelled import LabelledImages, labelled, pixels
from raycond.data.refs import ImageRef
from raycond.data.sources import Source
from raycond.evaluate import coresets, proxy
from raycond.evaluate.continual import within
from raycond.methods.quantize import codebook_file
from raycond.sets.reader import open_set


class TrainingImages(Protocol):
    """Where a training set comes from; small and picklable. The files must be within reach of the node."""

    def load(self, classes: int, options: Decoding) -> LabelledImages:
        """Raises UserError, RaycondError, OSError."""
        ...


@dataclass(frozen=True)
class SetImages:
    """A condensed set at one IPC under one weights mode."""

    path: str
    ipc: int
    weights: str

    def load(self, classes: int, options: Decoding) -> LabelledImages:
        found = open_set(self.path, self.ipc, weights=self.weights)
        images = np.stack([decode_image(data, options.channels) for data in found.images])
        return labelled(images, found.labels.tolist(), classes, found.weights)


@dataclass(frozen=True)
class ClassParts:
    """Images and codebooks of a run that makes a set, one file per class in label order."""

    images: tuple[str, ...]
    codebooks: tuple[str, ...]
    weights: str

    def load(self, classes: int, options: Decoding) -> LabelledImages:
        images: list[np.ndarray] = []
        labels: list[int] = []
        weights: list[torch.Tensor] = []
        for label, (uri, codebook) in enumerate(zip(self.images, self.codebooks, strict=True)):
            images += [decode_image(data, options.channels) for data in unpack(uri)]
            labels += [label] * (len(images) - len(labels))
            weights.append(codebook_file.read(codebook).codebook.weights(self.weights))
        return labelled(np.stack(images), labels, classes, torch.cat(weights))


@dataclass(frozen=True)
class RandomImages:
    """IPC good images of each class, drawn without replacement by `seed`.

    budget: encoded bytes per class instead of a number of images, with the format they are counted in; the images of
    a class are drawn until they would exceed it.
    """

    source: Source
    ipc: int
    seed: int
    budget: tuple[int, ...] = ()
    image_format: str = "png"

    def load(self, classes: int, options: Decoding) -> LabelledImages:
        images: list[np.ndarray] = []
        labels: list[int] = []
        for label in range(classes):
            found = self._of_class(label, options)
            images += found
            labels += [label] * len(found)
        return labelled(np.stack(images), labels, classes, None)

    def _of_class(self, label: int, options: Decoding) -> list[np.ndarray]:
        class_id = self.source.classes.ids[label]
        refs = self.source.refs(label)
        order = np.random.default_rng(int(files.digest(["random", self.seed, class_id])[:15], 16)).permutation(
            len(refs)
        )
        found: list[np.ndarray] = []
        sizes: list[int] = []
        for i in order:
            image = _load(refs[i], options)
            if image is None:
                continue
            if self.budget:
                sizes.append(len(encode_image(image, self.image_format)))
                if found and within(sizes, self.budget[label]) < len(sizes):
                    return found
            elif len(found) == self.ipc:
                return found
            found.append(image)
        if len(found) < self.ipc and not self.budget:
            raise RaycondError(f"class {class_id}: {len(found)} usable images, random needs {self.ipc}")
        return found


@dataclass(frozen=True)
class Medoids:
    """The real images nearest to a condensed set's centroids, by the ids that the set carries."""

    source: Source
    path: str
    ipc: int

    def load(self, classes: int, options: Decoding) -> LabelledImages:
        found = open_set(self.path, self.ipc)
        labels = found.labels.tolist()
        images = []
        for label in range(classes):
            refs = {ref.id: ref for ref in self.source.refs(label)}
            for image_id in (i for i, of in zip(found.source_ids, labels, strict=True) if of == label):
                image = _load(refs[image_id], options) if image_id in refs else None
                if image is None:
                    raise UserError(
                        f"medoid: {image_id}, which {self.path} names, is not to be read in {self.source.uri}; "
                        "give the source that the set was made from with --data, or leave medoid out"
                    )
                images.append(image)
        return labelled(np.stack(images), sorted(labels), classes, None)


@dataclass(frozen=True)
class SplitImages:
    """A decoded training split: all of it, or what a coreset method chooses in the light of a proxy."""

    pixels: str
    kind: str = ""
    proxy: str = ""
    ipc: int = 0
    seed: int = 0

    def load(self, classes: int, options: Decoding) -> LabelledImages:
        split = pixels(self.pixels, classes)
        if not self.kind:
            return split
        rows = coresets.choose(self.kind, proxy.read(self.proxy), split.labels, self.ipc, self.seed)
        return LabelledImages(split.images[rows], split.labels[rows], classes)


def _load(ref: ImageRef, options: Decoding) -> np.ndarray | None:
    try:
        return load(
            ref,
            size=options.size,
            resize=options.resize,
            channels=options.channels,
            max_pixels=options.max_pixels,
        )[0]
    except BadImage:
        return None  # quarantined when the class was encoded
