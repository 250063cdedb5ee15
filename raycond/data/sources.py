"""Open any source of labelled images: find out what kind it is and which part of it the split is."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol

from raycond.core import files
from raycond.core.errors import NoSplit, RemoteError, UserError
from raycond.core.text import visible
from raycond.data import arrays, folder, parquet, split_names, tar
from raycond.data.class_list import ClassList, load_class_list
from raycond.data.classes import Classes, require_same
from raycond.data.locate import Place, locate
from raycond.data.quarantine import BadRecord
from raycond.data.refs import ImageRef
from raycond.data.rows import Listing, RowSource


class Source(Protocol):
    """Labelled images by class. Small and picklable: it holds nothing per image."""

    @property
    def uri(self) -> str: ...

    @property
    def classes(self) -> Classes: ...

    @property
    def split(self) -> str | None:
        """The word under which the data names the part that was opened; None if all of it was."""
        ...

    @property
    def description(self) -> str:
        """What was opened, in a sentence for people."""
        ...

    @property
    def bad(self) -> list[BadRecord]:
        """Records known to be unusable before any image is read; read from the index at each call."""
        ...

    def refs(self, label: int) -> list[ImageRef]:
        """References of one class, sorted by id. Raises UserError."""
        ...

    def fingerprint(self, label: int) -> str:
        """Digest over the ids, sizes and stamps of what `refs` gives."""
        ...

    def listing(self, label: int) -> Listing:
        """How many references there are, and the fingerprint."""
        ...


def open_source(
    uri: str,
    *,
    split: str = "train",
    index_dir: str,
    classes: Classes | None = None,
    limit: int | None = None,
    max_classes: int | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    class_list: str | None = None,
    require_split: bool = False,
    image_root: str | None = None,
    protocols: Sequence[str] = (),
    by_content: bool = False,
) -> RowSource:
    """Open a source of labelled images.

    `uri`: a class-folder tree; one .tar or .parquet file, a folder of them, or a pattern such as `data-{000..009}.tar`
    or `data-*.tar`; a folder of idx files; a condensed set; or `digits:`. Local or remote. `split`: "train" or "val".
    Folders and files that are named after splits, by any of `split_names.WORDS` in any case, are chosen by it; test
    images serve as validation images where there are no others. Data that names no split is taken as it is, and the
    source's `split` is then None; `require_split`: raise NoSplit instead. `index_dir`: where tar and Parquet sources
    keep their one-time index; a folder of the data that holds it is no class. `limit`: images of each class, chosen by
    the hash of their id. `max_classes`: keeps the first classes. `classes`: what the classes must be, after
    `max_classes`, such as those of the training split. `class_list`: a file with all classes in the order of their
    labels; see `load_class_list`. `image_root`, `protocols`: a folder and protocols that the paths of images in Parquet
    rows may name; without them no path may lead out of the source. `by_content`: see `RowSource.by_content`.

    Raises UserError if nothing usable is there or it cannot be reached, NoSplit if the data has no such split,
    ClassMismatch if the classes are not those asked for.
    """
    if split not in split_names.SERVES:
        raise UserError(f"split: {split!r} is neither 'train' nor 'val'")
    for name, value in (("limit", limit), ("max_classes", max_classes)):
        if value is not None and value < 1:
            raise UserError(f"{name}: must be at least 1, not {value}")
    uri = uri if uri == arrays.DIGITS else files.absolute(uri)
    index_dir = files.absolute(index_dir)
    wanted = load_class_list(class_list) if class_list else None
    try:
        place = (
            Place("digits", uri, (), split)
            if uri == arrays.DIGITS
            else locate(uri, split, index_dir, (image_column, label_column))
        )
        if require_split and not _is_named(place, split):
            raise NoSplit(f"{visible(uri)}: names no {split} split ({_kind(place)})")
        columns, allowed = (image_column, label_column), (image_root, protocols)
        source = _open(uri, place, split, index_dir, columns, wanted, allowed, by_content)
    except RemoteError as error:
        raise UserError(str(error)) from error
    except OSError as error:
        raise UserError(f"{visible(uri)}: cannot be read ({error.strerror or error})") from error
    kept = source.classes.head(max_classes)
    if classes is not None:
        require_same(classes, kept, "the classes asked for", f"{uri} ({split})")
        kept = classes  # the same ids; the names may be better known there
    description = _describe(place, len(kept))
    return dataclasses.replace(
        source, classes=kept, limit=limit, split=place.split, description=description, by_content=by_content
    )


def _open(
    uri: str,
    place: Place,
    split: str,
    index_dir: str,
    columns: tuple[str | None, str | None],
    wanted: ClassList | None,
    allowed: tuple[str | None, Sequence[str]],
    by_content: bool,
) -> RowSource:
    if place.kind == "digits":
        return arrays.open_digits(split, wanted)
    if place.kind == "idx":
        images, labels = place.names
        return arrays.open_arrays(uri, images, labels, wanted)
    if place.kind == "tar":
        return tar.open_tars(uri, split, place.names, index_dir, wanted, by_content)
    if place.kind == "parquet":
        return parquet.open_parquet(uri, split, place.names, index_dir, *columns, wanted, *allowed, by_content)
    return folder.open_folder(uri, place.root, place.names, wanted)


def _is_named(place: Place, split: str) -> bool:
    """Whether the data names the split, or another that serves as it."""
    if place.kind in ("digits", "idx"):
        return True
    word = place.split or ""
    return (split_names.split_of(word) or split_names.split_in(word)) in split_names.SERVES[split]


def _kind(place: Place) -> str:
    count = len(place.names)
    root = visible(place.root)
    if place.kind == "digits":
        return "scikit-learn's digits"
    if place.kind == "folder":
        return f"class folders in {root}"
    if place.kind == "idx":
        return f"idx files {', '.join(visible(name.rsplit('/', 1)[-1]) for name in place.names)} in {root}"
    name = {"tar": "WebDataset tar", "parquet": "Parquet file"}[place.kind]
    return f"{count} {name}{'s' if count > 1 else ''} in {root}"


def _describe(place: Place, classes: int) -> str:
    split = f"split {visible(place.split)}" if place.split else "no split named"
    return "; ".join([f"{_kind(place)} ({split}, {classes} classes)", *place.notes])
