"""The Parquet files of a condensed set: their columns, and reading one whose content is not to be trusted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from raycond.core import files
from raycond.core.errors import UserError, parsing
from raycond.core.tables import parquet_file
from raycond.core.text import shown
from raycond.data.classes import Classes
from raycond.sets.stored_files import read_stored

COLUMNS = pa.schema(
    [
        ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("label", pa.int64()),
        ("weight", pa.float32()),
        ("count", pa.int64()),
        ("class_id", pa.string()),
        ("source_id", pa.string()),
    ]
)
ROWS_AT_ONCE = 256
GROWTH, GROWTH_BYTES = 64, 2**28  # encoded images hardly shrink, so a table is never much larger than its file


def schema(classes: Classes) -> pa.Schema:
    """The columns, with what `datasets` needs to know of them: images are images, labels have the classes' names."""
    features = {
        "image": {"_type": "Image"},
        "label": {"names": list(classes.names), "_type": "ClassLabel"},
        "weight": {"dtype": "float32", "_type": "Value"},
        "count": {"dtype": "int64", "_type": "Value"},
        "class_id": {"dtype": "string", "_type": "Value"},
        "source_id": {"dtype": "string", "_type": "Value"},
    }
    return COLUMNS.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def label_names(table: pa.Table) -> list[str] | None:
    """The class names as `datasets` reads them; None where it would not find any."""
    try:
        names = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]["label"]["names"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else None


def read_table(folder: str, name: str, expected: Mapping[str, Any], *, checked: bool = False) -> pa.Table:
    """The rows of one file. Raises UserError, naming the file, unless its bytes are those of the manifest and its
    columns those of a set, without gaps.

    The memory is bounded by the size of the file: a few bytes that stand for gigabytes of rows are refused.
    """
    data = read_stored(folder, name, expected, checked=checked)
    where = shown(files.join(folder, name))
    with parsing(where, "the Parquet of a condensed set"):
        table = _rows(data, where)
        table.validate(full=True)
    if problem := _column_problem(table):
        raise UserError(f"{where}: {problem}")
    return table


def _rows(data: bytes, where: str) -> pa.Table:
    file = parquet_file(data)
    most, size, batches = GROWTH * len(data) + GROWTH_BYTES, 0, []
    for batch in file.iter_batches(ROWS_AT_ONCE, use_threads=False):
        size += batch.nbytes
        if size > most:
            raise UserError(f"{where}: damaged: its rows take more than {most:,} bytes of memory, which images do not")
        batches.append(batch)
    return pa.Table.from_batches(batches, file.schema_arrow)


def _column_problem(table: pa.Table) -> str:
    for column in COLUMNS:
        if table.schema.names.count(column.name) != 1:
            return f"damaged: expected one column {column.name}, there are {table.schema.names.count(column.name)}"
        kind = table.schema.field(column.name).type
        if kind != column.type:
            return f"damaged: column {column.name} is {kind}, not {column.type}"
        if table.column(column.name).null_count:
            return f"damaged: column {column.name} has gaps"
    return "damaged: column image has gaps" if any(c.field("bytes").null_count for c in table["image"].chunks) else ""
