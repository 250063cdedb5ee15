"""The names of methods in results: baselines, condensed sets by generator and weights, the whole data."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from raycond.core.text import shown

METHODS = ("random", "medoid", "herding", "k-center", "el2n")  # the baselines, first in every table
FULL = "full"
UNIFORM, WEIGHTED = "d4m", "ddoq"
WEIGHTS = ("uniform", "sqrt", "density")
ROUNDED = "(8-bit)"
"""Ends the name of a row of a set's 8-bit images, where the row without it is of its float tensors."""

DREAM = "+dream"
"""Ends the name of a matching method whose real images are chosen by DREAM."""

_CONDENSED = re.compile(r"(d4m|ddoq)(?: ([^ \[]+))?(?: ([^ \[]+))?(?: \[(.*)\])?", re.DOTALL)


class Condensed(NamedTuple):
    """A quantized set's name taken apart; what the name leaves out is empty."""

    kind: str  # d4m (uniform weights) or ddoq
    generator: str
    weights: str
    label: str


def condensed(method: str) -> Condensed | None:
    """The parts of `d4m GENERATOR [LABEL]` and `ddoq GENERATOR WEIGHTS [LABEL]`; None for other names."""
    match = _CONDENSED.fullmatch(method)
    return Condensed(*(part or "" for part in match.groups())) if match else None


_MEANINGS = {
    "random": "real images drawn at random",
    "medoid": "the real images whose latents lie nearest to the centroids of the condensed set",
    "herding": "real images chosen one by one so that their mean stays nearest to the mean of their class",
    "k-center": "real images chosen so that no image of the class is far from all of them",
    "el2n": "the real images that a network learns first (smallest EL2N, the norm of its errors early in training)",
    FULL: "all training images",
    UNIFORM: "D4M: images made from the centroids of each class's latents (its codebook), all of the same weight",
    WEIGHTED: "DDOQ: images as of D4M, each weighted by the real images that its centroid stands for",
    "rded": "RDED: collages of the patches of real images that a teacher is surest of",
    "dc": "DC: images learned so that a network's gradients on them match those on real images",
    "dsa": "DSA: DC with the same augmentation of learned and real images",
    "dm": "DM: images learned so that their mean features match those of real images",
    "idc": "IDC: several smaller images learned in the place of one, by matching gradients",
    "kip": "KIP: images learned so that regression with a network's kernel on them fits the real images",
    "ls": "Label Solve: real images with the labels that fit kernel regression best",
}
_GENERATORS = {
    "vae": "decoded by the codec",
    "medoid": "in place of each centroid the real image nearest to it",
    "sd": "drawn by Stable Diffusion from the centroids",
    "dit": "drawn by a diffusion transformer from the centroids",
}
_WEIGHTINGS = {"density": "in proportion to their number", "sqrt": "by the square root of their number"}


def meaning(method: str) -> str:
    """What the rows of a method are, in words for people who meet the name for the first time; empty if unknown."""
    parts = condensed(method)
    if parts is None:
        kind, dream, _ = method.split(" ")[0].partition(DREAM)
        found = _MEANINGS.get(kind, "")
        found += ", against real images that represent their class evenly (DREAM)" if found and dream else ""
        return found + (", as the 8-bit images that are stored" if found and ROUNDED in method else "")
    more = [_WEIGHTINGS.get(parts.weights, ""), _GENERATORS.get(parts.generator.split(":")[0], "")]
    label = f"of the set {shown(parts.label)}" if parts.label else ""
    return ", ".join(text for text in (_MEANINGS[parts.kind], *more, label) if text)


def kind_of(method: str) -> str:
    """The kind of a row: `d4m` and `ddoq` for quantized sets under any generator, else the method's own name."""
    parts = condensed(method)
    return method if parts is None else parts.kind


def method_name(kind: str, generator: str, weights: str, label: str = "") -> str:
    """What a condensed set is called in results. kind: the set's method in any case, such as DDOQ or DM.

    A quantized set is `d4m GENERATOR` with uniform weights and `ddoq GENERATOR WEIGHTS` with others; another method
    is its own name. label, such as the set's folder, tells sets of one name apart.
    """
    kind = kind.lower()
    parts = [kind]
    if kind in (UNIFORM, WEIGHTED):
        uniform = weights == "uniform" or (kind == UNIFORM and not weights)
        parts = [UNIFORM, generator] if uniform else [WEIGHTED, generator, weights]
    return " ".join(part for part in [*parts, f"[{label}]" if label else ""] if part)


def uniform_twin(method: str) -> str | None:
    """The name of the same images with uniform weights; None for a method without weights of its own."""
    parts = condensed(method)
    if parts is None or parts.kind != WEIGHTED:
        return None
    return method_name(UNIFORM, parts.generator, "uniform", parts.label)


def in_order(methods: Iterable[str]) -> list[str]:
    """Method names once each, in the order of every table: baselines first, the whole data last.

    Sets of one generator stand together, uniform weights first.
    """
    return sorted(set(methods), key=_rank)


def _rank(method: str) -> tuple[int, int, str, str, int, int, str]:
    if method == FULL:
        return 3, 0, "", "", 0, 0, ""
    if method in METHODS:
        return 0, METHODS.index(method), "", "", 0, 0, ""
    parts = condensed(method)
    if parts is None:
        return 2, 0, "", "", 0, 0, method
    mode = WEIGHTS.index(parts.weights) if parts.weights in WEIGHTS else len(WEIGHTS)
    return 1, 0, parts.generator, parts.label, int(parts.kind == WEIGHTED), mode, method
