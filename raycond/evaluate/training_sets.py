"""What a student is given: the images of a condensed set, of a selection from the source, or all of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch

from raycond.core import files
from raycond.core.errors import BadImage, RaycondError, UserError
from raycond.data.encoded import decode_image, encode_image
from raycond.data.images import Decoding, load_many
from raycond.data.labelled import LabelledImages, in_unit, labelled, pixels
from raycond.data.refs import ImageRef
from raycond.data.sources import Source
from raycond.evaluate import coresets, proxy
from raycond.evaluate.continual import within
from raycond.methods.match.formation import Formation
from raycond.sets.class_rows import class_rows
from raycond.sets.reader import open_set
from raycond.sets.tensors import IMAGES


class TrainingImages(Protocol):
    """Where a training set comes from; small and picklable. The files must be within reach of the node."""

    def load(self, classes: int, options: Decoding) -> LabelledImages:
        """Raises UserError, RaycondError, OSError."""
        ...


@dataclass(frozen=True)
class SetImages:
    """The images of a condensed set."""

    path: str
    """Its folder."""

    ipc: int
    """Images per class."""

    weights: str
    """Mode of the weights: uniform, sqrt or density."""

    exact: bool = False
    """Train on the float tensors of the set and not on its 8-bit images."""

    def load(self, classes: int, options: Decoding) -> LabelledImages:
        condensed = open_set(self.path, self.ipc, weights=self.weights)
        formation = formation_of(condensed.manifest.content, self.ipc)
        values = condensed.learned_labels()
        if self.exact:
            pixels = condensed.float_pixels()
            if pixels is None:  # a whitening: what was optimized is what the student sees
                images, weights = condensed.tensors()[IMAGES], condensed.weights
                return LabelledImages(images, condensed.labels, classes, weights, normalized=True, values=values)
            found = LabelledImages(pixels, condensed.labels, classes, condensed.weights)
        else:
            encoded = [decode_image(data, options.channels) for data in condensed.images]
            found = labelled(encoded, condensed.labels.tolist(), classes, condensed.weights)
        found = replace(found, values=values)
        return found if formation is None else formed(found, formation)


def formation_of(content: Mapping[str, Any], ipc: int) -> Formation | None:
    """How the stored images of one IPC become training images, from the manifest; None where they are these already."""
    about = content.get("formation", {}).get(f"ipc{ipc}")
    if about is None or about["factor"] == 1:
        return None
    return Formation(about["factor"], about["decoder"], about["bound"])


def formed(stored: LabelledImages, formation: Formation) -> LabelledImages:
    """The training images of stored ones, class after class; each has the label and the weight of its stored image."""
    parts, labels, weights = [], [], []
    images = in_unit(stored.images)
    for label, rows in enumerate(class_rows(stored.labels, stored.classes)):
        parts.append(formation.decode(images[rows]))
        labels += [label] * len(parts[-1])
        if stored.weights is not None:
            # a weight follows its image through the decoder as a picture of one value does
            values = stored.weights[rows].view(-1, 1, 1, 1).expand(-1, 1, *images.shape[2:])
            weights.append(formation.decode(values)[:, 0, 0, 0])
    joined = torch.cat(weights) if weights else None
    return LabelledImages(torch.cat(parts), torch.tensor(labels), stored.classes, joined)


@dataclass(frozen=True)
class RandomImages:
    """Images of each class drawn without replacement: the first usable ones of a shuffled list.

    Raises RaycondError, naming the class, where fewer than `ipc` images can be read.
    """

    source: Source
    """The images that are drawn from."""

    ipc: int
    """Images of each class."""

    seed: int
    """Of the shuffle, together with the class id."""

    budget: tuple[int, ...] = ()
    """Encoded bytes of each class, in label order, in place of a number of images; empty for `ipc` images.

    The images of a class are drawn until one would exceed the budget; the first is always taken."""

    image_format: str = "png"
    """The format in which the budget counts bytes."""

    def count(self, classes: int) -> int | None:
        """How many images they are; None with a budget, where only decoding shows it."""
        return None if self.budget else classes * self.ipc

    def decoded(self, classes: int, options: Decoding, threads: int) -> Iterator[tuple[np.ndarray, int]]:
        """Images (size, size, channels) uint8 with their labels, class after class, decoded by several threads.

        The images do not depend on the number of threads. Where one cannot be read, the next of the shuffled list
        comes in its place.
        """
        if self.budget:
            yield from self._within_budget(classes, options, threads)
            return
        first = (ref for label in range(classes) for ref in self._shuffled(label)[: self.ipc])
        missing = set(range(classes))
        for label, items in itertools.groupby(_decoded(first, options, threads), key=lambda item: item[0].label):
            missing.discard(label)
            good = 0
            for _, image, _ in items:
                if not isinstance(image, BadImage):
                    yield image, label
                    good += 1
            if good < self.ipc:
                yield from self._others(label, good, options)
        if missing:
            raise self._too_few(min(missing), 0)

    def load(self, classes: int, options: Decoding) -> LabelledImages:
        return _loaded(self.decoded(classes, options, threads=1), classes)

    def _others(self, label: int, good: int, options: Decoding) -> Iterator[tuple[np.ndarray, int]]:
        """What a class lacks of usable images, from the rest of its list."""
        for image in _usable(iter(self._shuffled(label)[self.ipc :]), options, threads=1):
            yield image, label
            good += 1
            if good == self.ipc:
                return
        raise self._too_few(label, good)

    def _too_few(self, label: int, good: int) -> RaycondError:
        class_id = self.source.classes.ids[label]
        return RaycondError(f"class {class_id}: {good} usable images, random needs {self.ipc}")

    def _shuffled(self, label: int) -> list[ImageRef]:
        refs = self.source.refs(label)
        seed = int(files.digest(["random", self.seed, self.source.classes.ids[label]])[:15], 16)
        return [refs[i] for i in np.random.default_rng(seed).permutation(len(refs))]

    def _within_budget(self, classes: int, options: Decoding, threads: int) -> Iterator[tuple[np.ndarray, int]]:
        for label in range(classes):
            sizes: list[int] = []
            for image in _usable(iter(self._shuffled(label)), options, threads):
                sizes.append(len(encode_image(image, self.image_format)))
                if len(sizes) > 1 and within(sizes, self.budget[label]) < len(sizes):
                    break
                yield image, label


@dataclass(frozen=True)
class Medoids:
    """The real images nearest to a condensed set's centroids, by the ids that the set carries.

    Raises UserError, naming the image, where one cannot be read in the source.
    """

    source: Source
    """The images that the set was made from."""

    path: str
    """The condensed set."""

    ipc: int
    """Images of each class."""

    def count(self, classes: int) -> int | None:
        """How many images they are."""
        return classes * self.ipc

    def decoded(self, classes: int, options: Decoding, threads: int) -> Iterator[tuple[np.ndarray, int]]:
        """Images (size, size, channels) uint8 with their labels, class after class, each in the order of the set,
        decoded by several threads."""
        condensed = open_set(self.path, self.ipc)
        rows = class_rows(condensed.labels, classes)
        for ref, image, _ in _decoded(self._refs(condensed.source_ids, rows), options, threads):
            if isinstance(image, BadImage):
                raise self._unreadable(ref.id)
            yield image, ref.label

    def load(self, classes: int, options: Decoding) -> LabelledImages:
        return _loaded(self.decoded(classes, options, threads=1), classes)

    def _refs(self, ids: list[str], rows: list[torch.Tensor]) -> Iterator[ImageRef]:
        for label, chosen in enumerate(rows):
            refs = {ref.id: ref for ref in self.source.refs(label)}
            for row in chosen.tolist():
                if ids[row] not in refs:
                    raise self._unreadable(ids[row])
                yield refs[ids[row]]

    def _unreadable(self, image_id: str) -> UserError:
        return UserError(
            f"medoid: {image_id}, which {self.path} names, cannot be read in {self.source.uri}; "
            "give the source that the set was made from with --data, or leave medoid out"
        )


@dataclass(frozen=True)
class SplitImages:
    """A decoded training split: all of it, or the rows that a coreset method chooses."""

    pixels: str
    """The file of the decoded split."""

    kind: str = ""
    """A name in `coresets.CORESETS`; empty for all images."""

    proxy: str = ""
    """The file of the proxy whose features and scores the coreset is chosen by."""

    ipc: int = 0
    """Images of each class."""

    seed: int = 0
    """Of the choice, where it has one."""

    def load(self, classes: int, options: Decoding) -> LabelledImages:
        split = pixels(self.pixels, classes)
        if not self.kind:
            return split
        rows = coresets.choose(self.kind, proxy.read(self.proxy), split.labels, self.ipc, self.seed)
        return LabelledImages(split.images[rows], split.labels[rows], classes)


def _loaded(images: Iterator[tuple[np.ndarray, int]], classes: int) -> LabelledImages:
    decoded = list(images)
    return labelled([image for image, _ in decoded], [label for _, label in decoded], classes, None)


def _usable(refs: Iterator[ImageRef], options: Decoding, threads: int) -> Iterator[np.ndarray]:
    """The images that can be read; the others were put into quarantine when their class was encoded."""
    for _, image, _ in _decoded(refs, options, threads):
        if not isinstance(image, BadImage):
            yield image


def _decoded(
    refs: Iterator[ImageRef], options: Decoding, threads: int
) -> Iterator[tuple[ImageRef, np.ndarray | BadImage, str]]:
    # what is decoded ahead of need may be thrown away
    return load_many(refs, **options.arguments, threads=threads, prefetch=4 * threads if threads > 1 else 1)
