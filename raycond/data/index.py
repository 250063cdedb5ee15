"""The one-time index of sources that are not split by class: after it, a class is one Parquet row group.

Built one input file at a time (a killed build goes on where it was, a changed file alone is read again), then
merged in bounded memory. `manifest.json` is written last and says what the index was made from.
"""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raycond.core import files, records, stream
from raycond.core.errors import UserError, parsing
from raycond.core.retry import retrying
from raycond.core.tables import arrow_file, parquet_table, parquet_writer
from raycond.core.text import comparable, visible
from raycond.data import quarantine
from raycond.data.class_list import ClassList, classes_of
from raycond.data.classes import Classes
from raycond.data.quarantine import BadRecord
from raycond.data.refs import ImageRef
from raycond.data.rows import Row, RowSource

FORMAT = 2
PACKS = "packs"

_EXPECTED = (
    "expected labelled images: in a tar an image and its .cls or .json under one key (an archive of class folders must "
    "be unpacked), in Parquet an image and a label in every row"
)

# Rows merged at once (about 100 bytes each).
_PASS_ROWS = 2_000_000

_INDEX = pa.schema(
    [
        ("id", pa.string()),
        ("uri", pa.binary()),  # a path need not be UTF-8
        ("offset", pa.int64()),
        ("length", pa.int64()),
        ("stamp", pa.string()),
    ]
)
_PART = pa.schema([*_INDEX, ("label", pa.string()), ("reason", pa.string())])


class Record(NamedTuple):
    """One record of an input file. `label`: "i" and a number or "s" and a text, None if missing.

    `uri` is absolute, or starts with `packs/` and lies in the index folder. `reason` is set for a bad record.
    """

    id: str
    label: str | None
    uri: str
    offset: int = 0
    length: int = -1
    stamp: str = ""
    reason: str | None = None


class Input(NamedTuple):
    """One file to scan: its short name for ids, its entry, and where its pack goes if it needs one."""

    name: str
    entry: files.Entry
    pack: str
    pack_uri: str


Scan = Callable[[Input], Iterable[Record]]


@dataclass(frozen=True)
class IndexSource(RowSource):
    """A source read through its index in `folder`; `key` names the one it was opened with.

    An index made again has another key: a source opened before raises UserError rather than mix up labels."""

    folder: str = ""
    key: str = ""

    def rows(self, label: int) -> Iterator[Row]:
        uri = _index_uri(self.folder, self.key)
        with parsing(uri, "an index", "open the source again"):
            footer = _footer(uri)
            with arrow_file(uri) as file:
                table = pq.ParquetFile(file, metadata=footer).read_row_group(label, use_threads=False)
            columns = [table.column(name).to_pylist() for name in _INDEX.names]
        for name, path, offset, length, stamp in zip(*columns, strict=True):
            where = os.fsdecode(path)
            where = files.join(self.folder, where) if where.startswith(f"{PACKS}/") else where
            yield Row(ImageRef(name, label, where, offset, length), length, stamp)

    @property
    def bad(self) -> list[BadRecord]:
        uri = _bad_uri(self.folder, self.key)
        with parsing(uri, "an index", "open the source again"):
            records = quarantine.read(uri)
        return [record for record in records if record.label < len(self.classes)]


def _index_uri(folder: str, key: str) -> str:
    return files.join(folder, "classes", f"{key}.index.parquet")


def _bad_uri(folder: str, key: str) -> str:
    return files.join(folder, "classes", f"{key}.bad.parquet")


@lru_cache(maxsize=4)
def _footer(uri: str) -> pq.FileMetaData:
    with arrow_file(uri) as file:
        return pq.read_metadata(file)


def open_index(
    uri: str,
    kind: str,
    split: str,
    inputs: Sequence[str],
    index_dir: str,
    scan: Scan,
    *,
    declared: ClassList | None,
    wanted: ClassList | None = None,
    options: dict[str, Any],
    by_content: bool = False,
) -> IndexSource:
    """Open the index of `inputs`, building what is missing or stale.

    declared: the class list that came with the data. wanted: the one that the user gives. options: what else the scan
    depends on. by_content: tell changed inputs by their bytes, not by their times. Raises UserError if no record has
    both an image and a label, or the classes are not those wanted.
    """
    folder = files.join(index_dir, f"{kind}-{files.digest([uri, split])[:16]}")
    entries = [retrying(partial(files.entry, one)) for one in inputs]
    if by_content:
        entries = [entry._replace(stamp=records.measured(entry.uri)["sha256"]) for entry in entries]
    names = [visible(name) for name in short_names(inputs)]
    made_from = {
        "format": FORMAT,
        "inputs": [[name, visible(e.uri), e.size, e.stamp] for name, e in zip(names, entries, strict=True)],
        "declared": _identity(declared),
        "wanted": _identity(wanted),
        "options": options,
    }
    index_key = files.digest(made_from)[:16]
    manifest_uri = files.join(folder, "manifest.json")
    manifest = _manifest(manifest_uri, folder)
    if manifest is None or manifest["made_from"] != made_from:
        parts = []
        for name, entry in zip(names, entries, strict=True):
            key = files.digest([FORMAT, kind, name, entry.uri, entry.size, entry.stamp, options])[:24]
            pack = f"{PACKS}/{key}.bin"
            parts.append(_part(folder, key, Input(name, entry, pack, files.join(folder, pack)), scan))
        with parsing(folder, "an index", "delete this folder and open the source again"):
            merged = _merge(uri, folder, index_key, parts, declared, wanted)
        manifest = {"made_from": made_from, **merged}
        files.write_json(manifest_uri, manifest)
        _sweep(folder, index_key, parts, manifest["packs"])
    classes = Classes.from_dict(manifest["classes"])
    return IndexSource(uri, classes, folder=folder, key=index_key)


def _identity(classes: ClassList | None) -> Any:
    return None if classes is None else [classes.classes.to_dict(), classes.positional]


def _manifest(uri: str, folder: str) -> dict[str, Any] | None:
    """What manifest.json says of an index that is there as a whole; None where it is missing, damaged or stale."""
    try:
        manifest = files.read_json(uri)
        sound = "made_from" in manifest and "classes" in manifest and _packs_sound(folder, manifest["packs"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return dict(manifest) if sound else None


def short_names(uris: Sequence[str]) -> list[str]:
    """Each file's name, with as much of its path as tells them all apart: stable when the tree is moved."""
    pieces = [uri.split("/") for uri in uris]
    for depth in range(1, max(map(len, pieces)) + 1):
        names = ["/".join(piece[-depth:]) for piece in pieces]
        if len(set(names)) == len(names):
            return names
    raise UserError(f"the same file is given twice: {Counter(uris).most_common(1)[0][0]}")


def _part(folder: str, key: str, source: Input, scan: Scan) -> str:
    """Scan one input file unless that was done before; gives its part file."""
    uri = files.join(folder, "parts", f"{key}.parquet")
    if _part_sound(folder, uri):
        return uri
    columns: dict[str, list[Any]] = {name: [] for name in Record._fields}
    for record in scan(source):
        for name, value in zip(Record._fields, _storable(record), strict=True):
            columns[name].append(value)
    table = pa.table(columns, pa.schema([_PART.field(name) for name in Record._fields]))
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    files.write_bytes(uri, buffer.getvalue())
    return uri


def _storable(record: Record) -> tuple[Any, ...]:
    """A record whose texts can be stored as UTF-8, whatever the data says."""
    label = record.label and record.label[0] + comparable(record.label[1:])
    reason = record.reason and visible(record.reason)
    return record._replace(id=visible(record.id), label=label, uri=os.fsencode(record.uri), reason=reason)  # type: ignore[arg-type]


def _part_sound(folder: str, uri: str) -> bool:
    try:
        return _packs_sound(folder, _pack_sizes(_read(uri, ["uri", "offset", "length", "reason"])))
    except (OSError, ValueError, KeyError):  # Arrow's errors are among them
        return False


def _read(uri: str, columns: list[str]) -> pa.Table:
    return parquet_table(files.read_bytes(uri), columns)


def _pack_sizes(table: pa.Table) -> dict[str, int]:
    """Packs that a part's good records point into -> bytes they need."""
    packed = table.filter(pc.and_(pc.starts_with(table["uri"], f"{PACKS}/"), pc.is_null(table["reason"])))
    if not packed.num_rows:
        return {}
    ends = pc.add(packed["offset"], packed["length"])
    return {os.fsdecode(packed["uri"][0].as_py()): pc.max(ends).as_py()}


def _packs_sound(folder: str, packs: dict[str, int]) -> bool:
    try:
        return all(files.entry(files.join(folder, name)).size >= size for name, size in packs.items())
    except FileNotFoundError:
        return False


def _merge(
    uri: str, folder: str, key: str, parts: list[str], declared: ClassList | None, wanted: ClassList | None
) -> dict[str, Any]:
    """Write the index (one row group per label, rows sorted by id) and the bad records."""
    counts: Counter[str] = Counter()
    packs: dict[str, int] = {}
    for part in parts:
        table = _read(part, ["uri", "offset", "length", "label", "reason"])
        packs |= _pack_sizes(table)
        good = table.filter(pc.is_null(table["reason"]))
        counts.update({v["values"]: v["counts"] for v in pc.value_counts(good["label"]).to_pylist()})
    classes, index = classes_of(counts, declared, wanted, uri)
    bad = [record for part in parts for record in _bad(part, classes, index)]
    sizes = [0] * len(classes)
    for label, count in counts.items():
        if label in index:
            sizes[index[label]] += count
    if not sum(sizes):
        reasons = "; ".join(f"{record.id}: {record.reason}" for record in sorted(bad)[:3])
        raise UserError(
            f"{uri}: no record has both an image and a label ({len(bad)} bad records: {reasons}); {_EXPECTED}"
        )
    with stream.writer(_index_uri(folder, key)) as out, parquet_writer(out, _INDEX) as writer:
        for first, last in _passes(sizes):
            table = pa.concat_tables([_labels(part, index, first, last) for part in parts])
            table = table.sort_by([("k", "ascending"), ("id", "ascending")]).select(_INDEX.names)
            start = 0
            for size in sizes[first:last]:
                writer.write_table(table.slice(start, size), row_group_size=max(size, 1))
                start += size
    quarantine.write(_bad_uri(folder, key), bad)
    return {"classes": classes.to_dict(), "counts": sizes, "bad": len(set(bad)), "packs": packs}


def _bad(part: str, classes: Classes, index: dict[str, int]) -> Iterator[BadRecord]:
    table = _read(part, ["id", "uri", "label", "reason"])
    known = pa.array(list(index), pa.string())
    rest = table.filter(pc.or_(pc.is_valid(table["reason"]), pc.invert(pc.is_in(table["label"], value_set=known))))
    for row in rest.to_pylist():
        label = -1 if row["label"] is None else index.get(row["label"], -1)
        reason = row["reason"] or f"label {row['label'][1:]} is not one of the {len(classes)} classes"
        class_id = classes.ids[label] if label >= 0 else ""
        yield BadRecord(row["id"], label, class_id, visible(os.fsdecode(row["uri"])), reason)


def _passes(sizes: list[int]) -> Iterator[tuple[int, int]]:
    """Runs of labels [first, last) of at most _PASS_ROWS rows each, one label at least."""
    first, rows = 0, 0
    for label, size in enumerate(sizes):
        if label > first and rows + size > _PASS_ROWS:
            yield first, label
            first, rows = label, 0
        rows += size
    yield first, len(sizes)


def _labels(part: str, index: dict[str, int], first: int, last: int) -> pa.Table:
    """The part's good rows whose class is in [first, last), with the class as column k."""
    wanted = {label: k for label, k in index.items() if first <= k < last}
    keys = pa.array(list(wanted), pa.string())
    table = _read(part, _PART.names)
    chosen = pc.and_(pc.is_null(table["reason"]), pc.is_in(table["label"], value_set=keys))
    table = table.filter(chosen)
    places = pc.index_in(table["label"], value_set=keys)
    numbers = np.array(list(wanted.values()), np.int32)[places.to_numpy()]
    return table.select(_INDEX.names).append_column("k", pa.array(numbers, pa.int32()))


def _sweep(folder: str, key: str, parts: list[str], packs: dict[str, int]) -> None:
    """Delete what belongs to an earlier state of the source, and what a killed build left half written."""
    kept = {*parts, *(files.join(folder, name) for name in packs), _index_uri(folder, key), _bad_uri(folder, key)}
    for name in ("parts", PACKS, "classes"):
        inner = files.join(folder, name)
        for entry in files.listdir(inner) if files.exists(inner) else []:
            if files.join(inner, entry.name) not in kept:
                files.delete(files.join(inner, entry.name))
        files.sweep(inner)
