"""What a grid compares: condensed sets under their weight modes, and selections from the source they came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from raycond.core import files
from raycond.core.errors import UserError
from raycond.data.sources import Source
from raycond.evaluate.method_names import FULL, QUANTIZED, ROUNDED, method_name, quantized_kind
from raycond.evaluate.training_sets import (
    Medoids,
    RandomImages,
    SetImages,
    SplitImages,
    TrainingImages,
    formation_of,
)
from raycond.sets.manifest import Manifest, read_manifest
from raycond.sets.normalization import Normalization
from raycond.sets.reader import open_set
from raycond.sets.tensors import LEARNED_KIND


@dataclass(frozen=True)
class OpenedSet:
    """A condensed set of the grid. label: tells it from the other sets, without paths."""

    path: str
    label: str
    manifest: Manifest

    def digest(self, ipc: int, *, exact: bool = False) -> str:
        """Of the images, or `exact` of the float tensors, and of how they become training images."""
        names = [] if exact else self.manifest.data_files(ipc)
        if exact or LEARNED_KIND in self.manifest.content["labels"]:
            names = [*names, *self.manifest.tensor_files(ipc)]
        formation = self.manifest.content.get("formation", {}).get(f"ipc{ipc}")
        more = [] if formation is None else [formation]
        return files.digest([*(self.manifest.files[name]["sha256"] for name in names), *more])

    def images(self, ipc: int) -> int:
        """Images that are trained on."""
        content = self.manifest.content
        stored, formation = int(content["cells"][f"ipc{ipc}"]["images"]), formation_of(content, ipc)
        return stored if formation is None else formation.count(ipc) * len(self.manifest.classes)

    @property
    def normalization(self) -> Normalization | None:
        """By the constants of the real images, where the set has them."""
        return Normalization.of(self.path, self.manifest.content)


class Contender(Protocol):
    """One row of the tables. ipcs: (None,) for the whole data. label, weights: of a set, else empty."""

    @property
    def method(self) -> str: ...

    @property
    def ipcs(self) -> tuple[int | None, ...]: ...

    @property
    def label(self) -> str: ...

    @property
    def weights(self) -> str: ...

    def images(self, ipc: int | None, seed: int) -> TrainingImages: ...

    def digest(self, ipc: int | None) -> str:
        """Of the images, whatever the seed."""
        ...

    def count(self, ipc: int | None) -> int:
        """Images trained on."""
        ...

    @property
    def held(self) -> int:
        """Images of the decoded split that they are taken from, if they are."""
        ...


def open_sets(paths: Sequence[str]) -> list[OpenedSet]:
    """Raises UserError where one is no condensed set, and for sets of different image size or channels."""
    labels = _labels(paths)
    sets = [OpenedSet(path, label, read_manifest(path)) for path, label in zip(paths, labels, strict=True)]
    first = sets[0].manifest.content
    for other in sets[1:]:
        for what in ("size", "channels"):
            if other.manifest.content[what] != first[what]:
                raise UserError(
                    f"--sets: {other.path} has {what} {other.manifest.content[what]} and {paths[0]} has {first[what]}; "
                    "sets of one grid must be alike in it"
                )
    return sets


def _labels(paths: Sequence[str]) -> list[str]:
    """The shortest endings of the paths that tell them apart; the usual name `set` says nothing."""
    parts = [[p for p in path.split("/") if p] for path in paths]
    parts = [p[:-1] if p[-1:] == ["set"] and len(p) > 1 else p for p in parts]
    for length in range(1, max(map(len, parts)) + 1):
        labels = ["/".join(p[-length:]) for p in parts]
        if len(set(labels)) == len(labels):
            return labels
    return list(paths)


@dataclass(frozen=True)
class FromSet:
    """A condensed set under one weights mode. exact: its float tensors and not its 8-bit images."""

    opened: OpenedSet
    method: str
    weights: str
    ipcs: tuple[int | None, ...]
    exact: bool = False

    @property
    def label(self) -> str:
        return self.opened.label

    def images(self, ipc: int | None, seed: int) -> TrainingImages:
        return SetImages(self.opened.path, ipc or 0, self.weights, self.exact)

    def digest(self, ipc: int | None) -> str:
        return self.opened.digest(ipc or 0, exact=self.exact)

    def count(self, ipc: int | None) -> int:
        return self.opened.images(ipc or 0)

    @property
    def held(self) -> int:
        return 0


def from_sets(sets: Sequence[OpenedSet], ipcs: Sequence[int], weights: Sequence[str]) -> list[Contender]:
    """Every set under every weights mode (by default uniform and its own), on its 8-bit images and, where it has float
    tensors, on these first. Raises UserError for an IPC it lacks."""
    for opened in sets:
        if missing := sorted(set(ipcs) - set(opened.manifest.ipcs)):
            have = ", ".join(map(str, opened.manifest.ipcs))
            raise UserError(f"--ipc {missing[0]}: {opened.path} has only {have}")
    own = [str(s.manifest.content["weights"]) for s in sets]
    modes = [(s, mode) for s, its in zip(sets, own, strict=True) for mode in dict.fromkeys(weights or ("uniform", its))]
    names = [_name(s, mode) for s, mode in modes]
    # all names of such a set get its label, so that a weighted one still finds its uniform twin
    doubtful = {s.label for (s, _), name in zip(modes, names, strict=True) if names.count(name) > 1}
    found: list[Contender] = []
    for opened, mode in modes:
        name = _name(opened, mode, opened.label if opened.label in doubtful else "")
        if all(opened.manifest.tensor_files(ipc) for ipc in ipcs):
            found.append(FromSet(opened, name, mode, tuple(ipcs), exact=True))
            name = _name(opened, mode, opened.label if opened.label in doubtful else "", rounded=True)
        found.append(FromSet(opened, name, mode, tuple(ipcs)))
    return found


def _name(opened: OpenedSet, mode: str, label: str = "", *, rounded: bool = False) -> str:
    content = opened.manifest.content
    kind = content["method"].lower()
    if kind in QUANTIZED:  # earlier versions called every one of them D4M or DDOQ
        kind = quantized_kind(
            quantizer=content["config"].get("quantizer", ""),
            generator=content["generator"],
            weights=content["weights"],
            diffusion=content.get("diffusion", {}).get("options"),
        )
    if rounded:
        kind = f"{kind} {ROUNDED}"
    return method_name(kind, content["generator"], mode, label)


@dataclass(frozen=True)
class Baselines:
    """What baselines are made from. first: the set whose medoids and, if `budgeted`, bytes they take."""

    source: Source
    source_digest: str
    images: int  # of the source
    first: OpenedSet
    ipcs: tuple[int | None, ...]
    pixels: str  # the decoded training split, for coresets and the full data
    proxy: str
    proxy_digest: str
    budgeted: bool

    def budget(self, ipc: int) -> tuple[int, ...]:
        """Bytes of each class in the first set, weights included, where random images get as many bytes."""
        if not self.budgeted:
            return ()
        found = open_set(self.first.path, ipc)
        total = [0] * len(self.source.classes)
        for label, data in zip(found.labels.tolist(), found.images, strict=True):
            total[label] += len(data) + found.weights.element_size()
        return tuple(total)


@dataclass(frozen=True)
class Baseline:
    """Real images: `random`, `medoid`, a coreset, or `full`."""

    method: str
    of: Baselines
    label: str = ""
    weights: str = ""

    @property
    def ipcs(self) -> tuple[int | None, ...]:
        return (None,) if self.method == FULL else self.of.ipcs

    def images(self, ipc: int | None, seed: int) -> TrainingImages:
        if ipc is None:
            return SplitImages(self.of.pixels)
        if self.method == "random":
            image_format = self.of.first.manifest.content["image_format"]
            return RandomImages(self.of.source, ipc, seed, self.of.budget(ipc), image_format)
        if self.method == "medoid":
            return Medoids(self.of.source, self.of.first.path, ipc)
        return SplitImages(self.of.pixels, self.method, self.of.proxy, ipc, seed)

    def digest(self, ipc: int | None) -> str:
        more: list[object] = []
        if ipc is not None:
            more = [self.of.proxy_digest]
            if self.method == "random":
                more = [self.of.budget(ipc)]
            elif self.method == "medoid":
                more = [self.of.first.digest(ipc)]
        return files.digest([self.method, self.of.source_digest, *more])

    def count(self, ipc: int | None) -> int:
        return self.of.images if ipc is None else ipc * len(self.of.source.classes)

    @property
    def held(self) -> int:
        return 0 if self.method in ("random", "medoid") else self.of.images
