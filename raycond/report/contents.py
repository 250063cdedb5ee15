"""What a report shows, as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from raycond.data.classes import Classes
from raycond.evaluate.table import Row


@dataclass(frozen=True)
class GridReport:
    """Everything the report of an evaluation shows; an empty part is left out."""

    title: str
    rows: Sequence[Row]
    """Trainings of all variants; tables and plots show the protocol's own."""

    subtitle: str = ""
    distortion: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    """Method → images per class → mean distortion."""

    scores: Sequence[Mapping[str, Any]] = ()
    """DD-Ranking's scores: each a line of text and numbers; columns come in the order in which they first appear."""

    failures: Sequence[str] = ()
    """One line for each training that failed."""

    protocol: Mapping[str, Any] = field(default_factory=dict)
    """`EvaluationProtocol.to_dict()`, with the `rules` of its recipe where they differ between cells."""

    changed: Sequence[str] = ()
    """The settings of the protocol that the user fixed, by their present or former names."""

    sizes: Mapping[str, Sequence[Size]] = field(default_factory=dict)
    """Condensed set → bytes of its parts."""

    source_bytes: int | None = None
    """Bytes of the source's images as they are stored; None where unknown."""

    environment: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    incremental: bool = False
    """Whether the protocol is class-incremental: the curve of a row holds one check after each task."""


@dataclass(frozen=True)
class Picture:
    """One condensed image."""

    image: bytes
    """Encoded as PNG, JPEG or WebP."""

    weight: float
    """How much it counts in training; mean 1 in its class."""

    count: int
    """Real images that it stands for."""

    nearest: bytes | None = None
    """The real image nearest to its latent, where that is another picture."""

    decoded: bytes | None = None
    """The centroid as the codec decodes it, where a diffusion model made the image from it."""


@dataclass(frozen=True)
class Size:
    """Bytes of one part of a condensed set."""

    name: str
    bytes: int | None
    """None where unknown."""

    note: str = ""
    """Such as the format or dtype."""


@dataclass(frozen=True)
class Curve:
    """A figure of an optimization."""

    title: str
    x: str
    """What the places are."""

    y: str
    """What the values are."""

    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]]
    """Name → places, ascending, and values."""


@dataclass(frozen=True)
class Sheet:
    """Images on the way, in one picture."""

    name: str
    image: bytes
    """Encoded as PNG."""


class Bad(Protocol):
    """What the report reads of `raycond.data.quarantine.BadRecord`."""

    @property
    def uri(self) -> str: ...
    @property
    def reason(self) -> str: ...


@dataclass(frozen=True)
class Quarantine:
    """Images that were left out."""

    records: Sequence[Bad]
    total: int
    """Images in all, with those left out."""


@dataclass(frozen=True)
class LearnedSupport:
    """What kernel regression learned for one number of images per class."""

    ipc: int
    before: Sequence[bytes]
    """The real images that it began with, as PNG, class after class."""

    after: Sequence[bytes]
    """The images that it ended with, in the same order."""

    labels: Sequence[Sequence[float]] = ()
    """A row for each image, a column for each class; empty where labels were not learned."""


@dataclass(frozen=True)
class Report:
    """Everything the report of a run shows; an empty part is left out."""

    title: str
    classes: Classes
    config: Mapping[str, Any]
    subtitle: str = ""
    galleries: Mapping[int, Mapping[str, Sequence[Picture]]] = field(default_factory=dict)
    """Images per class → class id → pictures."""

    distortion: Mapping[int, Sequence[float]] = field(default_factory=dict)
    """Images per class → a value for each class, in their order."""

    accuracy: Sequence[Row] = ()
    """Trainings on the set and on what it is compared with."""

    curves: Sequence[Curve] = ()
    """Of the optimization, where the images were optimized."""

    sheets: Sequence[Sheet] = ()
    """Images before, during and after the optimization."""

    w2: Sequence[Mapping[str, Any]] = ()
    """Rows with ipc, centroids (d4m, ours), weights (uniform, voronoi), w2 and ess."""

    sizes: Sequence[Size] = ()
    """Bytes of the set's parts."""

    source_bytes: int | None = None
    """Bytes of the source's images as they are stored; None where unknown."""

    trained_codec: bool = False
    """Whether the codec is a small one that was trained on the source (`--codec train`)."""

    supports: Sequence[LearnedSupport] = ()
    """Of a condensation with kernels, one for each number of images per class."""

    quarantine: Quarantine | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    """Why a part is left out: accuracy, images, w2, distortion, sizes or quarantine → the reason."""


def compression(source: int | None, condensed: int | None) -> float | None:
    """How many times smaller the condensed set is than the images it was made from; None where unknown."""
    return source / condensed if source and condensed else None
