"""The results of trainings as rows, in CSV and Parquet files."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from raycond.core import files
from raycond.core.errors import UserError, parsing, short
from raycond.core.text import csv_cell, from_csv_cell, shown, storable
from raycond.evaluate.method_names import current_name, in_order

COLUMNS = ("method", "ipc", "student", "seed", "top1", "best", "steps", "seconds", "images", "protocol")
MORE_COLUMNS = ("set", "weights", "labeler", "variant", "memory")  # may be absent in older files
KERNEL_COLUMNS = ("krr_top1",)  # only in files that have one
INTEGERS = ("seed", "steps", "images", "memory")
NUMBERS = ("top1", "best", "seconds", *KERNEL_COLUMNS)
MOST_ROWS = 10**7  # in a file of results that is read
VARIANTS = ("own", "hard", "plain")
AT_RATE = " lr "  # between a variant and its learning rate, where that was tuned for scores


@dataclass(frozen=True)
class Check:
    """One test on the way. Of a class-incremental protocol there is one after each task."""

    step: int
    """Optimization steps before it."""

    epoch: float
    """Passes over the training set before it; of a class-incremental protocol the number of the task."""

    top1: float
    """Accuracy in percent."""

    loss: float
    """Mean training loss since the check before."""


@dataclass(frozen=True)
class Row:
    """One training."""

    method: str
    """What it was trained on, as `raycond.evaluate.method_names` names it."""

    ipc: int | None
    """Images per class; None for the whole training data (method "full")."""

    student: str
    seed: int
    top1: float
    """Accuracy in percent after the last step."""

    best: float
    """The best of all checks, in percent; of a class-incremental protocol the mean of those after each task."""

    steps: int
    """Optimization steps."""

    seconds: float
    """Of training and testing."""

    images: int
    """How many images were trained on."""

    protocol: str
    set: str = ""
    """Label of the condensed set; empty for a baseline."""

    weights: str = ""
    """Mode of the weights: uniform, sqrt or density; empty for a baseline."""

    labeler: str = "hard"
    """What was learned, such as teacher:mobilenet_v2; names no path."""

    variant: str = "own"
    """`own` is the protocol as it is; for DD-Ranking's scores `hard` has hard labels and `plain` no augmentation, and
    `hard lr 0.01` a learning rate of a grid."""

    memory: int = 0
    """Peak bytes of the training, 0 where unknown."""

    krr_top1: float | None = None
    """Accuracy in percent of kernel ridge regression on the same images and labels; None where it was not measured."""

    curve: tuple[Check, ...] = ()
    """Every test on the way."""

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Row:
        """From plain data, as `asdict` and JSON give it; what a row does not have is left aside, and a method of an
        earlier version gets its present name."""
        known = {f.name: value[f.name] for f in fields(cls) if f.name in value}
        checks = known.pop("curve", ())
        if "method" in known:
            known["method"] = current_name(known["method"])
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
    """CSV, sorted, always with its header; `ipc` is empty for the whole data; everything reads back exactly.

    Names come from folders: a cell that a spreadsheet would run as a formula begins with an apostrophe.
    """
    rows = in_file_order(rows)
    columns = COLUMNS + MORE_COLUMNS + _of_kernels(rows)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_cell(getattr(row, column)) for column in columns])
    return out.getvalue()


def _of_kernels(rows: Iterable[Row]) -> tuple[str, ...]:
    return tuple(name for name in KERNEL_COLUMNS if any(getattr(row, name) is not None for row in rows))


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    return csv_cell(storable(value)) if isinstance(value, str) else value


def write(uri: str, rows: Iterable[Row]) -> None:
    """Write the rows as CSV, without their curves, at a local path or a remote address, all or nothing."""
    files.write_bytes(uri, to_csv(rows).encode())


def read(uri: str) -> list[Row]:
    """The rows that `write` wrote, now or before `MORE_COLUMNS`, with empty curves.

    Raises UserError naming the file, and the line where one is wrong.
    """
    line = 1
    try:
        reader = csv.DictReader(io.StringIO(_bytes(uri).decode()), strict=True)
        _require_columns(uri, reader.fieldnames or [])
        rows = []
        for record in reader:
            line = reader.line_num
            rows.append(_parsed(record))
    except (TypeError, ValueError, csv.Error) as error:  # csv.Error: quotes that do not end, NUL, a cell without end
        raise UserError(f"{shown(uri)}, line {line}: {shown(error)}") from error
    return rows


def _bytes(uri: str) -> bytes:
    try:
        return files.read_bytes(uri)
    except OSError as error:
        raise UserError(f"{shown(uri)}: cannot be read: {short(error)}") from error


def _parsed(record: Mapping[str, str | None]) -> Row:
    values: dict[str, Any] = {c: record[c] for c in COLUMNS}
    values |= {c: record[c] for c in MORE_COLUMNS if record.get(c) is not None}
    values |= {c: record[c] for c in KERNEL_COLUMNS if record.get(c)}
    for name, value in values.items():
        if value is None:
            raise ValueError(f"no value of {name}")
        if name in INTEGERS:
            values[name] = int(value)
        elif name in NUMBERS:
            values[name] = float(value)
            if not math.isfinite(values[name]):
                raise ValueError(f"{name} is {value}")
        elif name == "ipc":
            values[name] = int(value) if value else None
        else:
            values[name] = from_csv_cell(value)
    if None in record:
        raise ValueError("more values than columns")
    values["method"] = current_name(values["method"])
    return Row(**values)


def _require_columns(uri: str, names: Iterable[str]) -> None:
    missing = sorted(set(COLUMNS) - set(names), key=COLUMNS.index)
    if missing:
        raise UserError(f"{shown(uri)}: not a table of results: no column {', '.join(missing)}")


def write_parquet(uri: str, rows: Iterable[Row]) -> None:
    """Write the rows with their curves as Parquet, sorted: the same rows give the same bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer, rows = io.BytesIO(), in_file_order(rows)
    schema = _schema(_of_kernels(rows))
    pq.write_table(pa.Table.from_pylist([asdict(row) for row in rows], schema=schema), buffer)
    files.write_bytes(uri, buffer.getvalue())


def read_parquet(uri: str) -> list[Row]:
    """The rows that `write_parquet` wrote. Raises UserError, naming the file, for one that is no table of results."""
    import pyarrow as pa

    from raycond.core.tables import parquet_file

    data = _bytes(uri)
    with parsing(shown(uri), "Parquet of results", "start the evaluation again to write it anew"):
        file = parquet_file(data)
        if file.metadata.num_rows > MOST_ROWS:
            raise UserError(f"{shown(uri)}: {file.metadata.num_rows:,} rows, at most {MOST_ROWS:,} are read")
        table = file.read(use_threads=False)
        _require_columns(uri, table.column_names)
        table = table.select([name for name in _schema().names if name in table.column_names])
        table = table.cast(pa.schema([_schema().field(name) for name in table.column_names]))
        table.validate(full=True)
        records = table.to_pylist()
        for record in records:
            if missing := [name for name in COLUMNS if name != "ipc" and record[name] is None]:
                raise ValueError(f"a row without {missing[0]}")
        return [Row.from_dict({k: v for k, v in record.items() if v is not None or k == "ipc"}) for record in records]


def _schema(of_kernels: tuple[str, ...] = KERNEL_COLUMNS) -> Any:
    import pyarrow as pa

    check = pa.struct([("step", pa.int64()), ("epoch", pa.float64()), ("top1", pa.float64()), ("loss", pa.float64())])
    integers = dict.fromkeys(("ipc", *INTEGERS), pa.int64())
    types = {**integers, **dict.fromkeys(NUMBERS, pa.float64()), "curve": pa.list_(check)}
    names = [f.name for f in fields(Row) if f.name not in KERNEL_COLUMNS or f.name in of_kernels]
    return pa.schema([(name, types.get(name, pa.string())) for name in names])
