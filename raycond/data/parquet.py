"""Parquet files with an image column, as Hugging Face writes them.

A column chunk is compressed and holds all classes, so an image has no byte range of its own there. The one-time
index therefore copies the encoded bytes, unchanged, into pack files (one per input file) and points into those.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import partial
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from raycond.core import files, stream
from raycond.core.errors import UserError
from raycond.data.class_names import named, read_class_list
from raycond.data.classes import Classes, require_same
from raycond.data.index import IndexSource, Input, Record, open_index

_IMAGE_NAMES = ("image", "img", "jpg")
_LABEL_NAMES = ("label", "labels", "cls", "class", "fine_label")

# Rows held in memory at once while copying: images of 10 MB make 320 MB.
_BATCH = 32


def open_parquet(
    uri: str,
    split: str,
    inputs: Sequence[str],
    index_dir: str,
    image_column: str | None = None,
    label_column: str | None = None,
) -> IndexSource:
    """Open Parquet files with an image and a label column, found by Hugging Face's features or by name.

    Classes: the ClassLabel's names, else classes.json or classes.txt beside the files, else the labels sorted.
    Raises UserError if the columns are not there, a file is damaged, or nothing in them is usable; ClassMismatch
    if the files' ClassLabel names differ.
    """
    schema = _schema(inputs[0])
    image, label = _columns(inputs[0], schema, image_column, label_column)
    declared = _label_names(schema, label)
    if declared is None:
        declared, _ = read_class_list([inputs[0].rsplit("/", 1)[0], uri])
    options = {"image": image, "label": label}
    scan = partial(copy, image=image, label=label, names=_label_names(schema, label))
    return open_index(uri, "parquet", split, inputs, index_dir, scan, declared=declared, options=options)


def copy(source: Input, image: str, label: str, names: Classes | None) -> Iterator[Record]:
    """Copy one file's encoded images into its pack; gives its records, in row order."""
    uri, stamp = source.entry.uri, source.entry.stamp
    schema = _schema(uri)
    _columns(uri, schema, image, label)
    own = _label_names(schema, label)
    if names is not None and own is not None:
        require_same(names, own, "the first file", uri)
    row = 0
    with stream.writer(source.pack_uri) as pack:
        offset = 0
        for pictures, labels in _batches(uri, image, label):
            for picture, value in zip(pictures, labels, strict=True):
                record = _record(source, row, picture, value, offset)
                data = picture["bytes"] if isinstance(picture, dict) else picture
                if record.uri == source.pack and data:
                    pack.write(data)
                    offset += len(data)
                yield record._replace(stamp=record.stamp or stamp)
                row += 1


def _record(source: Input, row: int, picture: Any, value: Any, offset: int) -> Record:
    name = f"{source.name}/{row:08d}"
    label = None if value is None else f"s{value}" if isinstance(value, str) else f"i{int(value)}"
    data, path = (picture.get("bytes"), picture.get("path")) if isinstance(picture, dict) else (picture, None)
    if label is None:
        return Record(name, None, source.entry.uri, reason="no label")
    if data is not None:
        return Record(name, label, source.pack, offset, len(data))
    if path:
        where = path if "://" in path else files.join(source.entry.uri.rsplit("/", 1)[0], path)
        where = path if path.startswith("/") else where
        try:
            entry = files.entry(where)
        except OSError:
            return Record(name, label, where, reason="no image bytes, and no file at its path")
        return Record(name, label, where, 0, -1, f"{entry.size} {entry.stamp}")
    return Record(name, label, source.entry.uri, reason="no image")


def _batches(uri: str, image: str, label: str) -> Iterator[tuple[list[Any], list[Any]]]:
    with _reading(uri) as file:
        parquet = pq.ParquetFile(file, buffer_size=1 << 20, pre_buffer=False)
        for batch in parquet.iter_batches(_BATCH, columns=[image, label], use_threads=False):
            yield batch.column(image).to_pylist(), batch.column(label).to_pylist()


def _schema(uri: str) -> pa.Schema:
    with _reading(uri) as file:
        return pq.read_schema(file)


class _reading:  # noqa: N801 - used as a statement
    """`stream.reader` whose Arrow errors name the file."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.stream = stream.reader(uri)

    def __enter__(self) -> IO[bytes]:
        return self.stream.__enter__()

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self.stream.__exit__(None, None, None)
        if isinstance(error, (pa.ArrowException, OSError)):
            raise UserError(f"{self.uri}: cannot be read as Parquet ({error}); copy it again") from error


def _features(schema: pa.Schema) -> dict[str, Any]:
    try:
        found = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def _label_names(schema: pa.Schema, label: str) -> Classes | None:
    feature = _features(schema).get(label)
    if not isinstance(feature, dict) or feature.get("_type") != "ClassLabel" or not feature.get("names"):
        return None
    names = [str(name) for name in feature["names"]]
    if len(set(names)) < len(names):  # ImageNet has two cranes; names for people may repeat, ids may not
        return Classes.of([str(k) for k in range(len(names))], names)
    return named(names)


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
