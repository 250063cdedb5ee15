"""What a report shows, as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from raycond.data.classes import Classes
from raycond.evaluate.table import Row


@dataclass(frozen=True)
class GridReport:
    """Everything the report of an evaluation shows; an empty part is left out.

    rows: of all variants; tables and plots show the protocol's own. protocol: `Protocol.to_dict()`, with `rules` of
    its recipe where they differ between cells. changed: the settings that the user fixed.
    """

    title: str
    rows: Sequence[Row]
    subtitle: str = ""
    distortion: Mapping[str, Mapping[int, float]] = field(default_factory=dict)  # method, IPC
    scores: Sequence[Mapping[str, Any]] = ()  # a line of text and numbers each; columns as they first appear
    failures: Sequence[str] = ()
    protocol: Mapping[str, Any] = field(default_factory=dict)
    changed: Sequence[str] = ()
    sizes: Mapping[str, Sequence[Size]] = field(default_factory=dict)  # set to images, labels, label generator ...
    environment: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    incremental: bool = False  # the curve of a row holds one check after each task


@dataclass(frozen=True)
class Picture:
    """One condensed image: encoded (PNG, JPEG or WebP), its weight (mean 1 in its class), the number of real images it
    stands for, the nearest of them where that is another picture, and the decoded centroid where a diffusion model made
    the image from it.
    """

    image: bytes
    weight: float
    count: int
    nearest: bytes | None = None
    decoded: bytes | None = None


@dataclass(frozen=True)
class Size:
    """Bytes of one part of the set (None where unknown); `note` says for example dtype or format."""

    name: str
    bytes: int | None
    note: str = ""


class Bad(Protocol):
    """What the report reads of `raycond.data.quarantine.BadRecord`."""

    @property
    def uri(self) -> str: ...
    @property
    def reason(self) -> str: ...


@dataclass(frozen=True)
class Quarantine:
    """Images left out: their records and how many images there were in all."""

    records: Sequence[Bad]
    total: int


@dataclass(frozen=True)
class Report:
    """Everything a report shows; an empty part is left out, with `missing[part]` as the reason.

    Parts that can be missing: accuracy, images, w2, distortion, sizes, quarantine.
    """

    title: str
    classes: Classes
    config: Mapping[str, Any]
    subtitle: str = ""
    galleries: Mapping[int, Mapping[str, Sequence[Picture]]] = field(default_factory=dict)  # IPC, class id
    distortion: Mapping[int, Sequence[float]] = field(default_factory=dict)  # IPC to values in class order
    accuracy: Sequence[Row] = ()
    w2: Sequence[Mapping[str, Any]] = ()  # ipc, centroids (d4m, ours), weights (uniform, voronoi), w2, ess
    sizes: Sequence[Size] = ()
    source_bytes: int | None = None  # encoded bytes of the source images
    quarantine: Quarantine | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
