"""What a report holds, and the HTML file made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from raycond import files
from raycond.data.classes import Classes
from raycond.evaluate.table import Row


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


def render(report: Report) -> str:
    """The report as HTML that needs no other file; the same report gives the same text."""
    from raycond.report import view

    return fill("report.html.j2", view.context(report))


def fill(template: str, context: Mapping[str, Any]) -> str:
    """One of the package's templates with everything escaped that is not marked as markup."""
    import jinja2

    loader = jinja2.PackageLoader("raycond", "report")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template(template).render(context)


def write_report(uri: str, report: Report) -> None:
    """Write the HTML at a local path or a remote address, all or nothing."""
    files.write_bytes(uri, render(report).encode())
