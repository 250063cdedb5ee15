"""The results of trainings as rows, in CSV and Parquet files."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from raycond.core import files
from raycond.core.errors import UserError
from raycond.evaluate.method_names import in_order

COLUMNS = ("method", "ipc", "student", "seed", "top1", "best", "steps", "seconds", "images", "protocol")
MORE_COLUMNS = ("set", "weights", "labeler", "variant", "memory")  # may be absent in older files
VARIANTS = ("own", "hard", "plain")


@dataclass(frozen=True)
class Check:
    """One test on the way: top-1 in percent, and the mean training loss since the check before.

    Of a class-incremental protocol: one after each task, and `epoch` is the number of the task.
    """

    step: int
    epoch: float
    top1: float
    loss: float


@dataclass(frozen=True)
class Row:
    """One training: `top1` after the last step and `best` of all checks in percent, `images` trained on.

    `ipc` is None for the whole training data (method "full"). Of a class-incremental protocol `best` is the mean of
    the accuracies after each task.
    """

    method: str
    ipc: int | None
    student: str
    seed: int
    top1: float
    best: float
    steps: int
    seconds: float
    images: int
    protocol: str
    set: str = ""  # label of the condensed set; empty for a baseline
    weights: str = ""  # uniform, sqrt or density; empty for a baseline
    labeler: str = "hard"  # such as teacher:mobilenet_v2; names no path
    variant: str = "own"  # the protocol as it is, or for scores: with hard labels, plain without augmentation
    memory: int = 0  # peak bytes of the training, 0 where unknown
    curve: tuple[Check, ...] = ()  # every test on the way

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Row:
        """From plain data, as `asdict` and JSON give it; what a row does not have is left aside."""
        known = {f.name: value[f.name] for f in fields(cls) if f.name in value}
        checks = known.pop("curve", ())
        return cls(**known, curve=tuple(c if isinstance(c, Check) else Check(**c) for c in checks))


def in_file_order(rows: Iterable[Row]) -> list[Row]:
    """Sorted as every file has them, whatever order the trainings ended in."""
    rows = list(rows)
    rank = {m: k for k, m in enumerate(in_order(r.method for r in rows))}

    def key(row: Row) -> tuple[Any, ...]:
        ipc = math.inf if row.ipc is None else row.ipc
        return row.protocol, row.labeler, *variant_rank(row.variant), row.student, rank[row.method], ipc, row.seed

    return sorted(rows, key=key)


def variant_rank(variant: str) -> tuple[int, str]:
    return (VARIANTS.index(variant) if variant in VARIANTS else len(VARIANTS)), variant


def to_csv(rows: Iterable[Row]) -> str:
    """CSV, sorted, always with its header; `ipc` is empty for the whole data; numbers read back exactly."""
    columns = COLUMNS + MORE_COLUMNS
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    for row in in_file_order(rows):
        writer.writerow(["" if (v := getattr(row, c)) is None else v for c in columns])
    return out.getvalue()


def write(uri: str, rows: Iterable[Row]) -> None:
    """Write the rows as CSV, without their curves, at a local path or a remote address, all or nothing."""
    files.write_bytes(uri, to_csv(rows).encode())


def read(uri: str) -> list[Row]:
    """The rows that `write` wrote, now or before `MORE_COLUMNS`, with empty curves.

    Raises UserError naming the file and line that cannot be read.
    """
    reader = csv.DictReader(io.StringIO(files.read_bytes(uri).decode()))
    _require_columns(uri, reader.fieldnames or [])
    rows = []
    for record in reader:
        try:
            rows.append(_parsed(record))
        except (TypeError, ValueError) as error:
            raise UserError(f"{uri}, line {reader.line_num}: {error}") from error
    return rows


def _parsed(record: Mapping[str, str]) -> Row:
    values: dict[str, Any] = {c: record[c] for c in COLUMNS}
    values |= {c: record[c] for c in MORE_COLUMNS if record.get(c) is not None}
    values["ipc"] = int(values["ipc"]) if values["ipc"] else None
    for name in ("seed", "steps", "images", "memory"):
        if name in values:
            values[name] = int(values[name])
    for name in ("top1", "best", "seconds"):
        values[name] = float(values[name])
    return Row(**values)


def _require_columns(uri: str, names: Iterable[str]) -> None:
    missing = sorted(set(COLUMNS) - set(names), key=COLUMNS.index)
    if missing:
        raise UserError(f"{uri}: not a table of results: no column {', '.join(missing)}")


def write_parquet(uri: str, rows: Iterable[Row]) -> None:
    """Write the rows with their curves as Parquet, sorted: the same rows give the same bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([asdict(row) for row in in_file_order(rows)], schema=_schema()), buffer)
    files.write_bytes(uri, buffer.getvalue())


def read_parquet(uri: str) -> list[Row]:
    """The rows that `write_parquet` wrote. Raises UserError for a file that is no table of results."""
    import pyarrow as pa

    from raycond.core.tables import parquet_table

    try:
        table = parquet_table(files.read_bytes(uri))
    except pa.ArrowInvalid as error:
        raise UserError(f"{uri}: not a Parquet file: {error}") from error
    _require_columns(uri, table.column_names)
    return [Row.from_dict(record) for record in table.to_pylist()]


def _schema() -> Any:
    import pyarrow as pa

    check = pa.struct([("step", pa.int64()), ("epoch", pa.float64()), ("top1", pa.float64()), ("loss", pa.float64())])
    integers = dict.fromkeys(("ipc", "seed", "steps", "images", "memory"), pa.int64())
    types = {**integers, **dict.fromkeys(("top1", "best", "seconds"), pa.float64()), "curve": pa.list_(check)}
    return pa.schema([(f.name, types.get(f.name, pa.string())) for f in fields(Row)])
