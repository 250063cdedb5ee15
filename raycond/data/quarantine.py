"""Images that could not be used: who, why, and how many a job may bear."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from raycond.core import files
from raycond.core.errors import UserError, parsing
from raycond.core.tables import parquet_table
from raycond.core.text import visible
from raycond.data.refs import ImageRef

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("label", pa.int32()),
        ("class_id", pa.string()),
        ("uri", pa.string()),
        ("reason", pa.string()),
    ]
)


class BadRecord(NamedTuple):
    """One image left out. `label` is -1 and `class_id` empty where the label is what is missing."""

    id: str
    label: int
    class_id: str
    uri: str
    reason: str

    @property
    def place(self) -> str:
        """Where to look for it: its file, or its name in the file that holds it among others."""
        return self.uri if self.uri.endswith(self.id.rpartition("/")[2]) else f"{self.id} in {self.uri}"

    @classmethod
    def of(cls, ref: ImageRef, class_id: str, reason: str) -> BadRecord:
        """Of a reference, in a form that can be stored and shown whatever the names in the data are."""
        return cls(ref.id, ref.label, class_id, visible(ref.uri), visible(reason))


def write(uri: str, records: Iterable[BadRecord]) -> None:
    """Write the records as Parquet, sorted: the same records give the same bytes, and none give a table."""
    table = pa.Table.from_pylist([record._asdict() for record in sorted(set(records))], schema=SCHEMA)
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    files.write_bytes(uri, buffer.getvalue())


def update(uri: str, records: Collection[BadRecord]) -> None:
    """Write the records, unless there are none and were none: an older file would tell of images that are good now."""
    if records or files.exists(uri):
        write(uri, records)


def read(uri: str) -> list[BadRecord]:
    """The records that `write` wrote, sorted. Raises FileNotFoundError, or UserError if the file is damaged."""
    data = files.read_bytes(uri)
    with parsing(uri, "a list of bad images", "run again"):
        rows = parquet_table(data).select(SCHEMA.names).cast(SCHEMA).to_pylist()
        return [BadRecord(**row) for row in rows]


def require_few(uri: str, bad: Collection[BadRecord], good: int, max_bad: str) -> None:
    """Raise UserError if more images are bad, beside `good` ones, than `max_bad` allows; `uri` lists them."""
    limit = Limit.parse(max_bad)
    if limit.exceeded(len(bad), len(bad) + good):
        shown = "\n".join(f"  {b.place}: {b.reason}" for b in sorted(bad)[:5])
        raise UserError(
            f"{len(bad)} bad images, more than --max-bad {limit.text} allows; they are listed in {uri}. "
            f"The first:\n{shown}\nRaise --max-bad to go on without them."
        )


@dataclass(frozen=True)
class Limit:
    """How many bad images a job bears: a count, a share of all images, or (both None) any number."""

    count: int | None = None
    share: Fraction | None = None

    @classmethod
    def parse(cls, text: str | int | None) -> Limit:
        """From "10" (images), "1%" (of all images) or "none". Raises UserError for anything else."""
        clean = "none" if text is None else str(text).strip().lower()
        if clean == "none":
            return cls()
        number = clean.removesuffix("%").strip()
        if number.isascii() and number.isdigit() and not clean.endswith("%"):
            return cls(count=int(number))
        digits = number.replace(".", "", 1)
        if clean.endswith("%") and digits.isascii() and digits.isdigit() and Fraction(number) <= 100:
            return cls(share=Fraction(number) / 100)
        raise UserError(
            f"limit of bad images: {text!r} is neither a number of images such as 10, "
            "nor a share from 0% to 100% such as 1% or 0.5%, nor none"
        )

    @property
    def text(self) -> str:
        """What `parse` takes to give this limit."""
        if self.share is not None:
            percent = self.share * 100
            return f"{percent.numerator if percent.denominator == 1 else float(percent)}%"
        return "none" if self.count is None else str(self.count)

    def exceeded(self, bad: int, total: int) -> bool:
        """Whether `bad` of `total` images are more than the limit; exactly the limit is not."""
        if self.share is not None:
            return bad > self.share * total
        return self.count is not None and bad > self.count
