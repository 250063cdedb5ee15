"""The names of methods in results: baselines, condensed sets by generator and weights, the whole data."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

METHODS = ("random", "medoid", "herding", "k-center", "el2n")  # the baselines, first in every table
FULL = "full"
UNIFORM, WEIGHTED = "d4m", "ddoq"
WEIGHTS = ("uniform", "sqrt", "density")

_CONDENSED = re.compile(r"(d4m|ddoq)(?: ([^ \[]+))?(?: ([^ \[]+))?(?: \[(.*)\])?")


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
