"""Open any source of labelled images: find out what kind it is and which part of it the split is."""

from __future__ import annotations

import dataclasses
import fnmatch
import itertools
import re
from typing import NamedTuple, Protocol

from raycond.core import files
from raycond.core.errors import UserError
from raycond.data import arrays, folder, parquet, tar
from raycond.data.classes import Classes, require_same
from raycond.data.quarantine import BadRecord
from raycond.data.refs import ImageRef
from raycond.data.rows import RowSource

_SPLITS = {"train": ("train",), "val": ("val", "validation", "test")}
_SPLIT_NAME = re.compile(r"(?<![a-z])(train|validation|val|test)(?![a-z])")
_SHARDS = {".tar": "tar", ".parquet": "parquet"}
_PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_DEEPEST = 12

_EXPECTED = (
    "expected class folders of images, WebDataset .tar files, .parquet files with an image column, idx files, "
    "or digits:"
)


class Source(Protocol):
    """Labelled images by class. Small and picklable: it holds nothing per image."""

    @property
    def uri(self) -> str: ...

    @property
    def classes(self) -> Classes: ...

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


class Place(NamedTuple):
    """Where a split's data was found: kind "folder", "idx", "tar" or "parquet", and its folder and files."""

    kind: str
    root: str
    files: tuple[str, ...] = ()


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
) -> Source:
    """Open a source of labelled images.

    `uri`: a class-folder tree; one .tar or .parquet file, a folder of them, or a pattern such as
    `data-{000..009}.tar` or `data-*.tar`; a folder of idx files; or `digits:`. Local or remote.
    `split`: "train" or "val". A folder with train/ and val/ (or validation/, test/) is entered by split, shards
    named after splits are chosen by it, and data that names no split is taken as it is.
    `index_dir`: where tar and Parquet sources keep their one-time index.
    `limit`: images of each class, chosen by the hash of their id. `max_classes`: keeps the first classes.
    `classes`: what the classes must be, after `max_classes`, such as those of the training split.

    Raises UserError if nothing usable is there, ClassMismatch if the classes are not those asked for.
    """
    if split not in _SPLITS:
        raise UserError(f"split: {split!r} is neither 'train' nor 'val'")
    for name, value in (("limit", limit), ("max_classes", max_classes)):
        if value is not None and value < 1:
            raise UserError(f"{name}: must be at least 1, not {value}")
    uri = uri if uri == arrays.DIGITS else files.absolute(uri)
    source = _open(uri, split, files.absolute(index_dir), image_column, label_column)
    kept = source.classes.head(max_classes)
    if classes is not None:
        require_same(classes, kept, "the classes asked for", f"{uri} ({split})")
        kept = classes  # the same ids; the names may be better known there
    return dataclasses.replace(source, classes=kept, limit=limit)


def _open(uri: str, split: str, index_dir: str, image_column: str | None, label_column: str | None) -> RowSource:
    if uri == arrays.DIGITS:
        return arrays.open_digits(split)
    place = locate(uri, split)
    if place.kind == "idx":
        images, labels = place.files
        return arrays.open_arrays(uri, images, labels, split)
    if place.kind == "tar":
        return tar.open_tars(uri, split, place.files, index_dir)
    if place.kind == "parquet":
        return parquet.open_parquet(uri, split, place.files, index_dir, image_column, label_column)
    return folder.open_folder(uri, place.root)


def locate(uri: str, split: str) -> Place:
    """Find the kind and the part of a source, descending through split folders and single folders.

    Raises UserError that says what was expected.
    """
    if not files.exists(uri):
        if re.search(r"[{*?\[]", uri):
            return _shards(uri, _expand(uri))
        raise UserError(f"{uri}: does not exist; {_EXPECTED}")
    if not files.is_dir(uri):
        return _shards(uri, [uri])
    root, entered = uri, False
    for _ in range(_DEEPEST):
        entries = folder.listed(root)
        if pair := arrays.find_idx(entries, split):
            return Place("idx", root, pair)
        folders = [entry.name for entry in entries if entry.is_dir]
        if not entered and (inner := _split_folder(root, folders, split)):
            root, entered = inner, True
            continue
        # Class folders win over a stray archive beside them.
        pictures = any(_has_images(files.join(root, name)) for name in folders)
        if not pictures and (place := _shards_in(root, entries, split, entered)):
            return place
        if not folders:
            direct = " (images lie directly in it)" if any(folder.is_image(e.name) for e in entries) else ""
            raise UserError(f"{root}: no folders and no data files{direct}; {_EXPECTED}")
        if pictures or len(folders) > 1:
            return Place("folder", root)
        root = files.join(root, folders[0])
    raise UserError(f"{uri}: nothing found {_DEEPEST} folders deep; {_EXPECTED}")


def _split_folder(root: str, folders: list[str], split: str) -> str | None:
    """The folder of the split, or None if the folders are not named after splits."""
    # A class may be called "train" (the vehicle): it has images directly, a split has class folders or shards.
    known = {name for names in _SPLITS.values() for name in names}
    named = [name for name in folders if name in known]
    splits = [name for name in named if not _has_images(files.join(root, name))]
    for name in _SPLITS[split]:
        if name in splits:
            return files.join(root, name)
    if not splits:
        return None
    flat = [f"{name}/ holds images without class folders" for name in named if name in _SPLITS[split]]
    raise UserError(
        f"{root}: has {', '.join(splits)}/ but no {' or '.join(_SPLITS[split])}/ with class folders or data files "
        f"for the {split} split" + "".join(f"; {text}" for text in flat)
    )


def _shards_in(root: str, entries: list[files.Entry], split: str, entered: bool) -> Place | None:
    names = [entry.name for entry in entries if not entry.is_dir]
    for ending, kind in _SHARDS.items():
        found = [name for name in names if name.lower().endswith(ending)]
        if found:
            chosen = found if entered else _of_split(root, found, split)
            return Place(kind, root, tuple(files.join(root, name) for name in chosen))
    packed = [name for name in names if name.lower().endswith(_PACKED)]
    if packed:
        raise UserError(f"{files.join(root, packed[0])}: compressed; {tar.UNPACK}")
    return None


def _has_images(uri: str) -> bool:
    return any(not entry.is_dir and folder.is_image(entry.name) for entry in folder.listed(uri))


def _of_split(root: str, names: list[str], split: str) -> list[str]:
    found: dict[str, list[str]] = {}
    for name in names:
        match = _SPLIT_NAME.search(name.lower())
        found.setdefault(match[1] if match else "", []).append(name)
    for wanted in _SPLITS[split]:
        if wanted in found:
            return found[wanted]
    if set(found) != {""}:
        have = ", ".join(name for names in found.values() for name in names[:1])
        raise UserError(f"{root}: no file of the {split} split; the files are named like {have}")
    return names


def _shards(uri: str, found: list[str]) -> Place:
    kinds = {next((k for end, k in _SHARDS.items() if name.lower().endswith(end)), "") for name in found}
    if any(name.lower().endswith(_PACKED) for name in found):
        raise UserError(f"{uri}: compressed; {tar.UNPACK}")
    if len(kinds) != 1 or "" in kinds:
        raise UserError(f"{uri}: neither .tar nor .parquet files; {_EXPECTED}")
    return Place(kinds.pop(), found[0].rsplit("/", 1)[0], tuple(found))


def _expand(pattern: str) -> list[str]:
    """Files that a brace or glob pattern names; a file named by braces must exist, a glob must match something."""
    found: list[str] = []
    for name in _braces(pattern):
        if re.search(r"[*?\[]", name):
            parent, last = name.rsplit("/", 1)
            if re.search(r"[*?\[]", parent):
                raise UserError(f"{pattern}: * ? [ may stand in the last part of the path only")
            names = [e.name for e in folder.listed(parent) if fnmatch.fnmatchcase(e.name, last)]
            found += [files.join(parent, item) for item in names]
        else:
            found.append(name)
    missing = [name for name in found if not files.exists(name)]
    if missing:
        raise UserError(f"{pattern}: {len(missing)} of {len(found)} files missing, first {missing[0]}")
    if not found:
        raise UserError(f"{pattern}: matches no file")
    return sorted(set(found))


def _braces(pattern: str) -> list[str]:
    pieces: list[list[str]] = []
    for piece in re.split(r"(\{[^{}]*\})", pattern):
        if not piece.startswith("{"):
            pieces.append([piece])
        elif span := re.fullmatch(r"\{(\d+)\.\.(\d+)\}", piece):
            first, last = span.groups()
            width = len(first) if first.startswith("0") else 0
            pieces.append([str(k).zfill(width) for k in range(int(first), int(last) + 1)])
        else:
            pieces.append(piece[1:-1].split(","))
    return ["".join(parts) for parts in itertools.product(*pieces)]
