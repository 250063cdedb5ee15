"""What labels weigh: full, pruned, one an image, or a projector's delta, with the base model that it leans on apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from raycond.labels.stored.labels import Encoding

DTYPE_BYTES = {"float32": 4, "float16": 2, "int8": 1}
EPOCHS = 300  # of the recipes whose labels are counted: SRe2L, LPLD, RDED, HeLlO
IDS_BYTES = 8  # of an image's id in `stored.py`
Dtype = Literal["float32", "float16", "int8"]


@dataclass(frozen=True)
class Amount:
    """One line of the table. share: of the full labels, which are 1; None for what is counted apart."""

    what: str
    bytes: int
    share: float | None = None
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {"what": self.what, "bytes": self.bytes, "share": self.share, "note": self.note}


@dataclass(frozen=True)
class Projector:
    """What is shipped for HeLlO's labels, and what is not.

    parameters: of the delta. stored: bytes of its files as they lie there, with dtype; None where none are written.
    base, base_bytes: the model it leans on, and what its weights weigh; None where that is unknown. base_note: where
    that model is to be had, as `base_note` says it.
    """

    parameters: int
    dtype: Dtype = "float16"
    stored: int | None = None
    base: str = ""
    base_bytes: int | None = None
    base_note: str = "public, not counted"


def base_note(spec: str | None) -> str:
    """Of the CLIP that a stored projector names: MODEL:TAG, the folder beside the delta, or none."""
    if spec is None:
        return "a local folder, not counted"
    return "public, not counted" if ":" in spec else "not public: it goes with the delta, and is not counted"


def few_classes(classes: int) -> tuple[int, ...]:
    """The k of top-k labels to compare with: LPQLD's least for 1,000 classes, or less; none for two classes."""
    return (min(10, classes // 3),) if classes >= 3 else ()


def full_labels(images: int, classes: int, epochs: int = EPOCHS) -> int:
    """Bytes of the fp16 logits of a view of each image in each epoch: 600 · IPC · C² at 300 epochs."""
    return epochs * images * classes * 2


def one_label(images: int, classes: int) -> int:
    """Bytes of one fp16 soft label for each image (arXiv 2406.10485)."""
    return images * classes * 2


def top_k_labels(images: int, classes: int, epochs: int, top_k: int) -> int:
    """Bytes of what `stored.py` keeps of `epochs` views of each image: the top k, their classes and the images' ids."""
    return epochs * images * Encoding(top_k).bytes_per_view(classes) + images * IDS_BYTES


def delta_bytes(parameters: int, dtype: Dtype) -> int:
    """Bytes of the numbers of a delta; files add their headers, and int8 its scales."""
    return parameters * DTYPE_BYTES[dtype]


def paper_ratio(parameters: int, images: int, classes: int, epochs: int = EPOCHS) -> float:
    """HeLlO's share of the full labels (arXiv 2408.08201): Mi-parameters over MiB of fp16 labels.

    That counts a parameter as one byte, and leaves CLIP out: 0.003 % for ImageNet-1K at IPC 50. In honest bytes it is
    true of an int8 delta only; see `table`.
    """
    return parameters / full_labels(images, classes, epochs)


def table(
    images: int,
    classes: int,
    *,
    epochs: int = EPOCHS,
    image_bytes: int | None = None,
    top_k: Sequence[int] = (),
    kept: float = 1.0,
    projector: Projector | None = None,
) -> list[Amount]:
    """The bytes of a condensed set's labels, each kind of them.

    images: of the whole set. image_bytes: of these, if they are there. top_k with kept: LPQLD-like labels, of this
    share of the epochs, rounded up to a whole one.
    """
    full = full_labels(images, classes, epochs)

    def amount(what: str, size: int, note: str = "") -> Amount:
        return Amount(what, size, size / full, note)

    found = [] if image_bytes is None else [Amount("images", image_bytes, None, f"{images} images")]
    found.append(amount("full labels", full, f"{epochs} epochs x {images} images x {classes} classes, float16"))
    views = math.ceil(round(kept * epochs, 6))
    for k in top_k:
        size = top_k_labels(images, classes, views, k)
        found.append(amount(f"top-{k} labels", size, f"{views} views of each image, float16 and class numbers"))
    found.append(amount("one label per image", one_label(images, classes), "float16, of the image as it is"))
    return found if projector is None else [*found, *_projector(projector, amount)]


def _projector(projector: Projector, amount: Any) -> list[Amount]:
    found = []
    for dtype in DTYPE_BYTES:
        chosen = projector.stored is not None and dtype == projector.dtype
        size = projector.stored if chosen else delta_bytes(projector.parameters, dtype)  # type: ignore[arg-type]
        note = "as stored, files whole" if chosen else f"{projector.parameters:,} parameters"
        found.append(amount(f"projector delta, {dtype}", size, note))
    if projector.base_bytes is not None:
        found.append(Amount(f"base model {projector.base}".rstrip(), projector.base_bytes, None, projector.base_note))
    return found


def markdown(amounts: Sequence[Amount], *, paper: float | None = None) -> str:
    """The table for people, with the paper's own ratio below it if it is given."""
    lines = ["| what | bytes | share of the full labels | |", "|---|---:|---:|---|"]
    for a in amounts:
        share = "" if a.share is None else _percent(a.share)
        lines.append(f"| {a.what} | {readable(a.bytes)} | {share} | {a.note} |")
    if paper is not None:
        lines += ["", f"As HeLlO counts it (Mi-parameters / MiB of full labels): {_percent(paper)}"]
    return "\n".join(lines) + "\n"


def readable(size: int) -> str:
    """A number of bytes in binary units, as 1.56 MiB."""
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{size} B" if unit == "B" else f"{value:.3g} {unit}" if value < 1000 else f"{value:.0f} {unit}"
        value /= 1024
    return f"{value:.3g} TiB" if value < 1000 else f"{value:.0f} TiB"


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"
