"""The names of methods in results: baselines, condensed sets by generator and weights, the whole data."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from raycond.core.text import shown

METHODS = ("random", "medoid", "herding", "k-center", "el2n")  # the baselines, first in every table
FULL = "full"
UNIFORM, WEIGHTED = "uniform", "weighted"  # rows of a quantized set, whatever it is called
WEIGHTS = ("uniform", "sqrt", "density")
ROUNDED = "(8-bit)"
"""Ends the name of a row of a set's 8-bit images, where the row without it is of its float tensors."""

DREAM = "+dream"
"""Ends the name of a matching method whose real images are chosen by DREAM."""
D4M, DDOQ, MGD3 = "d4m", "ddoq", "mgd3"
DECODED, MEDOIDS, DIFFUSED = "decoded centroids", "medoids", "diffused centroids"
CENTROIDS = "centroids"  # of results of before, which do not say what made their images
QUANTIZED = (D4M, DDOQ, MGD3, DECODED, MEDOIDS, DIFFUSED, CENTROIDS)

_CONDENSED = re.compile(
    rf"({'|'.join(QUANTIZED)}) \((?:(.*), )?(uniform|sqrt|density|weighted)\)(?: \[(.*)\])?", re.DOTALL
)
_FORMER = re.compile(r"(d4m|ddoq)(?: ([^ \[(]+))?(?: ([^ \[(]+))?(?: \[(.*)\])?", re.DOTALL)


class Condensed(NamedTuple):
    """A quantized set's name taken apart; what the name leaves out is empty."""

    kind: str
    """One of `QUANTIZED`."""

    generator: str
    weights: str
    label: str

    @property
    def name(self) -> str:
        """The whole name again."""
        about = ", ".join(part for part in (self.generator, self.weights) if part)
        return f"{self.kind} ({about})" + (f" [{self.label}]" if self.label else "")


def condensed(method: str) -> Condensed | None:
    """The parts of `KIND (GENERATOR, WEIGHTS) [LABEL]`; None for other names."""
    match = _CONDENSED.fullmatch(method)
    return Condensed(*(part or "" for part in match.groups())) if match else None


def current_name(method: str) -> str:
    """The name of a row that an earlier version may have written.

    It called every set of uniform weights `d4m GENERATOR` and every other one `ddoq GENERATOR WEIGHTS`.
    """
    match = _FORMER.fullmatch(method)
    if match is None:
        return method
    former, generator, weights, label = (part or "" for part in match.groups())
    kind = {"": CENTROIDS, "vae": DECODED, "medoid": MEDOIDS}.get(generator, DDOQ)
    return Condensed(kind, generator, UNIFORM if former == "d4m" else weights or WEIGHTED, label).name


def former_name(method: str) -> str:
    """The name that an earlier version gave the same row: what it finished is known by it."""
    parts = condensed(method)
    if parts is None:
        return method
    names = ["d4m", parts.generator] if parts.weights == UNIFORM else ["ddoq", parts.generator, parts.weights]
    return " ".join(part for part in [*names, f"[{parts.label}]" if parts.label else ""] if part)


def quantized_kind(*, quantizer: str, generator: str, weights: str, diffusion: Mapping[str, Any] | None = None) -> str:
    """Which published method a quantized set is of, or what its images are. weights: those it was written with.

    d4m: Stable Diffusion from the centroids of D4M's own quantizer, all of one weight. ddoq: a diffusion model from
    noised centroids, weighted. mgd3: DiT's published sampler from noise, pulled to the centroids. diffusion: the
    generator's options.
    """
    model, options = generator.partition(":")[0], diffusion or {}
    if model in ("vae", "medoid"):
        return DECODED if model == "vae" else MEDOIDS
    pulled = bool(options.get("mode_guidance"))
    if model == "dit" and options.get("noise") == 1:
        published = options.get("recipe") == "published"
        return MGD3 if pulled and published and weights == UNIFORM else DIFFUSED
    if pulled:
        return DIFFUSED
    if weights != UNIFORM:
        return DDOQ
    return D4M if model == "sd" and quantizer == "minibatch" else DIFFUSED


_MEANINGS = {
    "random": "real images drawn at random",
    "medoid": "the real images nearest to the centroids of each class: of its latents, or its pixels in optimized sets",
    "herding": "real images chosen one by one so that their mean stays nearest to the mean of their class",
    "k-center": "real images chosen so that no image of the class is far from all of them",
    "el2n": "the real images that a network learns first (smallest EL2N, the norm of its errors early in training)",
    FULL: "all training images",
    DECODED: "images decoded from the centroids of each class's latents (its codebook)",
    MEDOIDS: "in place of each centroid of a class's latents (its codebook) the real image nearest to it",
    DIFFUSED: "images that a diffusion model makes from the centroids of each class's latents (its codebook)",
    CENTROIDS: "images made from the centroids of each class's latents (its codebook)",
    D4M: "D4M: Stable Diffusion's images of mini-batch centroids of each class's latents (its codebook)",
    DDOQ: "DDOQ: a diffusion model's images of the weighted centroids of each class's latents (its codebook)",
    MGD3: "MGD3: DiT's images, pulled to the centroids of each class's latents (its codebook)",
    "rded": "RDED: collages of the patches of real images that a teacher is surest of",
    "dc": "DC: images learned so that a network's gradients on them match those on real images",
    "dsa": "DSA: DC with the same augmentation of learned and real images",
    "dm": "DM: images learned so that their mean features match those of real images",
    "idc": "IDC: several smaller images learned in the place of one, by matching gradients",
    "kip": "KIP: images learned so that regression with a network's kernel on them fits the real images",
    "ls": "Label Solve: real images with the labels that fit kernel regression best",
}
_WEIGHTINGS = {
    UNIFORM: "all of the same weight",
    WEIGHTED: "each weighted by the real images that it stands for",
    "density": "each weighted in proportion to the real images that it stands for",
    "sqrt": "each weighted by the square root of the number of real images that it stands for",
}


def meaning(method: str) -> str:
    """What the rows of a method are, in words for people who meet the name for the first time; empty if unknown."""
    parts = condensed(method)
    if parts is None:
        kind, dream, _ = method.split(" ")[0].partition(DREAM)
        about = _MEANINGS.get(kind, "")
        if about and dream:
            about += ", against real images that represent their class evenly (DREAM)"
        return about + (", as the 8-bit images that are stored" if about and ROUNDED in method else "")
    label = f"of the set {shown(parts.label)}" if parts.label else ""
    return ", ".join(text for text in (_MEANINGS[parts.kind], _WEIGHTINGS[parts.weights], label) if text)


def kind_of(method: str) -> str:
    """The kind of a row: `uniform` or `weighted` for a quantized set, else the method's own name."""
    parts = condensed(method)
    if parts is None:
        return method
    return UNIFORM if parts.weights == UNIFORM else WEIGHTED


def method_name(kind: str, generator: str, weights: str, label: str = "") -> str:
    """What a condensed set is called in results. kind: one of `QUANTIZED`, or another method in any case, such as DM.

    A quantized set is `KIND (GENERATOR, WEIGHTS)`; another method is its own name, with the mode of its weights where
    that is not uniform. label, such as the set's folder, tells sets of one name apart.
    """
    kind = kind.lower()
    if kind in QUANTIZED:
        return Condensed(kind, generator, weights or UNIFORM, label).name
    return kind + (f" ({weights})" if weights not in ("", UNIFORM) else "") + (f" [{label}]" if label else "")


def uniform_twin(method: str) -> str | None:
    """The name of the same images with uniform weights; None for a method without weights of its own."""
    parts = condensed(method)
    if parts is None or parts.weights == UNIFORM:
        return None
    return parts._replace(weights=UNIFORM).name


def in_order(methods: Iterable[str]) -> list[str]:
    """Method names once each, in the order of every table: baselines first, the whole data last.

    Sets of one generator stand together, uniform weights first.
    """
    return sorted(set(methods), key=_rank)


def _rank(method: str) -> tuple[int, int, str, str, str, int, str]:
    if method == FULL:
        return 3, 0, "", "", "", 0, ""
    if method in METHODS:
        return 0, METHODS.index(method), "", "", "", 0, ""
    parts = condensed(method)
    if parts is None:
        return 2, 0, "", "", "", 0, method
    mode = WEIGHTS.index(parts.weights) if parts.weights in WEIGHTS else len(WEIGHTS)
    return 1, 0, parts.generator, parts.label, parts.kind, mode, method
