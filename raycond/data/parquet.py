"""Parquet files with an image column, as Hugging Face writes them.

A column chunk is compressed and holds all classes, so an image has no byte range of its own there. The one-time
index therefore copies the encoded bytes, unchanged, into pack files (one per input file) and points into those.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raycond.core import files, stream
from raycond.core.errors import UserError, parsing
from raycond.core.tables import arrow_file
from raycond.core.text import comparable, visible
from raycond.data.class_list import ClassList, beside
from raycond.data.class_names import named, with_names
from raycond.data.classes import Classes, require_same
from raycond.data.index import IndexSource, Input, Record, open_index
from raycond.data.references import Refused, resolve

_IMAGE_NAMES = ("image", "img", "jpg")
_LABEL_NAMES = ("label", "labels", "cls", "class", "fine_label")

# Rows held in memory at once while copying: images of 10 MB make 320 MB.
_BATCH = 32

# Encoded images do not shrink, and hardly repeat. A file of a few kilobytes whose rows are gigabytes is made to fill
# the memory or the disk.
_GROWTH = 100
_GROWTH_BYTES = 1 << 30


def open_parquet(
    uri: str,
    split: str,
    inputs: Sequence[str],
    index_dir: str,
    image_column: str | None = None,
    label_column: str | None = None,
    wanted: ClassList | None = None,
    image_root: str | None = None,
    protocols: Sequence[str] = (),
    by_content: bool = False,
) -> IndexSource:
    """Open Parquet files with an image and a label column, found by Hugging Face's features or by name.

    Classes: the ClassLabel's names, of which a whole number is a position, else classes.json or classes.txt beside the
    files, else the labels in the order of `in_order`. wanted: the user's class list, which decides the order instead.
    image_root, protocols: a folder and protocols that paths of images may name besides the source's own; see
    `references.resolve`. by_content: see `RowSource.by_content`.

    Raises UserError if the columns are not there, a file is damaged, or nothing in them is usable; ClassMismatch
    if the files' ClassLabel names differ.
    """
    schema = _schema(inputs[0])
    image, label = _columns(inputs[0], schema, image_column, label_column)
    names = _label_names(schema, label)
    parent = inputs[0].rsplit("/", 1)[0]
    declared = ClassList(names, positional=True) if names is not None else beside([parent, uri]) if not wanted else None
    roots = [uri if uri != inputs[0] and files.is_dir(uri) else parent]
    roots += [files.absolute(image_root)] if image_root else []
    options = {"image": image, "label": label, "roots": [*map(visible, roots)], "protocols": sorted(protocols)}
    scan = partial(copy, image=image, label=label, names=names, roots=roots, protocols=tuple(protocols))
    return open_index(
        *(uri, "parquet", split, inputs, index_dir, scan),
        declared=declared,
        wanted=wanted,
        options=options,
        by_content=by_content,
    )


def is_dataset(uri: str, image_column: str | None = None, label_column: str | None = None) -> bool:
    """Whether a Parquet file has an image and a label column."""
    try:
        _columns(uri, _schema(uri), image_column, label_column)
    except UserError:
        return False
    return True


def has_paths(uri: str, image_column: str | None = None, label_column: str | None = None) -> bool:
    """Whether the first images of a Parquet file are not in it but beside it."""
    try:
        image, label = _columns(uri, _schema(uri), image_column, label_column)
        pictures, _ = next(_batches(uri, image, label), ([], []))
    except UserError:
        return False
    return any(isinstance(p, dict) and p.get("bytes") is None and p.get("path") for p in pictures)


def copy(
    source: Input, image: str, label: str, names: Classes | None, roots: Sequence[str], protocols: Sequence[str] = ()
) -> Iterator[Record]:
    """Copy one file's encoded images into its pack; gives its records, in row order."""
    uri, stamp = source.entry.uri, source.entry.stamp
    schema = _schema(uri)
    _columns(uri, schema, image, label)
    here = _label_names(schema, label)
    if names is not None and here is not None:
        require_same(names, here, "the first file", uri)
    row = 0
    with stream.writer(source.pack_uri) as pack:
        offset = 0
        for pictures, labels in _batches(uri, image, label):
            for picture, value in zip(pictures, labels, strict=True):
                record = _record(source, row, picture, value, offset, roots, protocols)
                data = picture["bytes"] if isinstance(picture, dict) else picture
                if record.uri == source.pack and data:
                    pack.write(data)
                    offset += len(data)
                    _require_growth(uri, offset, source.entry.size)
                yield record._replace(stamp=record.stamp or stamp)
                row += 1


def _announced(footer: pq.FileMetaData) -> int:
    """Bytes of all columns when decompressed, as the footer says.

    Of its row groups, not of their columns: PyArrow ends the process where the statistics of a column are damaged.
    """
    return sum(footer.row_group(k).total_byte_size for k in range(footer.num_row_groups))


def _require_growth(uri: str, size: int, stored: int) -> None:
    if size > _GROWTH * stored + _GROWTH_BYTES:
        raise UserError(f"{uri}: {stored} bytes that stand for more than {size} bytes of images, which no images do")


def _record(
    source: Input, row: int, picture: Any, value: Any, offset: int, roots: Sequence[str], protocols: Sequence[str]
) -> Record:
    name = f"{source.name}/{row:08d}"
    label = None if value in (None, "") else f"s{value}" if isinstance(value, str) else f"i{int(value)}"
    data, path = (picture.get("bytes"), picture.get("path")) if isinstance(picture, dict) else (picture, None)
    if label is None:
        return Record(name, None, source.entry.uri, reason="no label")
    if data is not None:
        return Record(name, label, source.pack, offset, len(data))
    if path:
        return _referred(Record(name, label, source.entry.uri), str(path), roots, protocols)
    return Record(name, label, source.entry.uri, reason="no image")


def _referred(record: Record, path: str, roots: Sequence[str], protocols: Sequence[str]) -> Record:
    """The record of an image that the row names by a path: relative to the file, or to one of the roots."""
    try:
        folders = (record.uri.rsplit("/", 1)[0], *roots)
        places = list(dict.fromkeys(resolve(path, folder, roots, protocols) for folder in folders))
    except Refused as error:
        return record._replace(reason=f"{error}: {visible(path)[:200]}")
    for place in places:
        try:
            entry = files.entry(place)
        except (OSError, ValueError):  # a name that the system does not take
            continue
        return record._replace(uri=place, offset=0, length=-1, stamp=f"{entry.size} {entry.stamp}")
    return record._replace(uri=places[0], reason="no image bytes, and no file at its path")


def _batches(uri: str, image: str, label: str) -> Iterator[tuple[list[Any], list[Any]]]:
    with arrow_file(uri) as file:
        with parsing(uri, "Parquet"):
            parquet = pq.ParquetFile(file, buffer_size=1 << 20, pre_buffer=False)
            _require_growth(uri, _announced(parquet.metadata), files.entry(uri).size)
            batches = parquet.iter_batches(_BATCH, columns=[image, label], use_threads=False)
        while True:
            with parsing(uri, "Parquet"):
                if (batch := next(batches, None)) is None:
                    return
                pair = batch.column(image).to_pylist(), batch.column(label).to_pylist()
            yield pair


def _schema(uri: str) -> pa.Schema:
    with parsing(uri, "Parquet"), arrow_file(uri) as file:
        return pq.read_schema(file)


def _features(schema: pa.Schema) -> dict[str, Any]:
    try:
        features = files.parse_json((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError):
        return {}
    return features if isinstance(features, dict) else {}


def _label_names(schema: pa.Schema, label: str) -> Classes | None:
    feature = _features(schema).get(label)
    if not isinstance(feature, dict) or feature.get("_type") != "ClassLabel":
        return None
    names = feature.get("names")
    if not isinstance(names, list) or not names:
        return None
    texts = [comparable(str(name)) for name in names]
    if len(set(texts)) < len(texts):  # ImageNet has two cranes; names for people may repeat, ids may not
        return with_names([str(k) for k in range(len(texts))], texts)
    return named(texts)


def _columns(uri: str, schema: pa.Schema, image: str | None, label: str | None) -> tuple[str, str]:
    return (
        _column(uri, schema, image, "image_column", "Image", _IMAGE_NAMES),
        _column(uri, schema, label, "label_column", "ClassLabel", _LABEL_NAMES),
    )


def _column(uri: str, schema: pa.Schema, given: str | None, option: str, kind: str, known: tuple[str, ...]) -> str:
    fits = _is_image if kind == "Image" else _is_label
    usable = [field.name for field in schema if fits(field.type)]
    if given is not None:
        if given in usable:
            return given
        problem = f"{option} {given!r} is not a column of a usable type"
    else:
        features = _features(schema)
        typed = [n for n in usable if isinstance(f := features.get(n), dict) and f.get("_type") == kind]
        for name in known:
            if name in (typed or usable):
                return name
        if len(typed) == 1:
            return typed[0]
        problem = f"no {kind} feature and no usable column called {', '.join(known)}; give {option}"
    listed = ", ".join(f"{field.name} ({field.type})" for field in schema)
    needs = "struct<bytes, path> or binary" if kind == "Image" else "whole numbers or text"
    raise UserError(f"{uri}: {problem}. Columns: {listed}. It must be {needs}.")


def _is_image(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and _is_binary(field.type) for field in kind)
    return _is_binary(kind)


def _is_binary(kind: pa.DataType) -> bool:
    # Rows that all have only a path give a "bytes" column of type null.
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_null(kind)


def _is_label(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    tests = (pa.types.is_integer, pa.types.is_boolean, pa.types.is_string, pa.types.is_large_string)
    return any(test(kind) for test in tests)
