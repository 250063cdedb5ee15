"""Class-folder trees: root/<class>/.../image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from raycond.core import files
from raycond.core.errors import UserError
from raycond.core.text import comparable, visible
from raycond.data.class_list import ClassList
from raycond.data.class_names import in_order, named
from raycond.data.entries import has_image_ending, is_run, is_system, listed, may_be_image
from raycond.data.formats import kind_of
from raycond.data.quarantine import BadRecord
from raycond.data.refs import ImageRef
from raycond.data.rows import Row, RowSource

# Deeper than any real tree; a link to its own parent would go on until the path is too long.
_DEEPEST = 24

_HEAD_BYTES = 64


def walk(folder: str) -> Iterator[tuple[str, files.Entry]]:
    """(path inside `folder`, entry) of each file at any depth that may be an image; a folder at a time.

    Folders of systems and runs of raycond are passed over. Raises UserError where folders go on for ever.
    """
    waiting = [""]
    while waiting:
        inside = waiting.pop()
        if inside.count("/") > _DEEPEST:
            raise UserError(
                f"{visible(files.join(folder, inside))}: more than {_DEEPEST} folders deep; does a link point to its "
                "own parent?"
            )
        entries = listed(files.join(folder, inside) if inside else folder)
        if is_run({entry.name: entry.is_dir for entry in entries}):
            continue
        for entry in entries:
            path = f"{inside}/{entry.name}" if inside else entry.name
            if entry.is_dir:
                if not is_system(entry.name):
                    waiting.append(path)
            elif may_be_image(entry.name):
                yield path, entry


@dataclass(frozen=True)
class FolderSource(RowSource):
    """A class is listed when it is asked for, and not kept."""

    root: str = ""
    """The folder of class folders."""

    folders: tuple[str, ...] = ()
    """The name of each class's folder as the system has it; the id may be another spelling of it."""

    def rows(self, label: int) -> Iterator[Row]:
        class_id, folder = self.classes.ids[label], files.join(self.root, self.folders[label])
        for path, entry in walk(folder):
            ref = ImageRef(f"{class_id}/{visible(path)}", label, files.join(folder, path))
            yield Row(ref, entry.size, entry.stamp)

    @property
    def bad(self) -> list[BadRecord]:
        """Images that lie beside the class folders."""
        reason = "lies outside the class folders"
        return [
            BadRecord(visible(entry.name), -1, "", visible(entry.uri), reason)
            for entry in listed(self.root)
            if not entry.is_dir and is_image(entry)
        ]


def is_image(entry: files.Entry) -> bool:
    """Whether a file has the ending of an image or, where the ending says nothing, its first bytes."""
    if has_image_ending(entry.name):
        return True
    if not may_be_image(entry.name):
        return False
    try:
        return kind_of(files.read_bytes(entry.uri, 0, _HEAD_BYTES)) is not None
    except OSError:
        return False


def open_folder(uri: str, root: str, names: Sequence[str], wanted: ClassList | None = None) -> FolderSource:
    """Classes are the folders `names` in `root`, in the order of `in_order` or of the list `wanted`.

    Raises UserError if a folder is not in the list or the other way round, or two names are the same text.
    """
    if wanted is None:
        by_id = _by_id(root, names, {name: comparable(name) for name in names})
        classes = named(in_order(by_id))
    else:
        classes = wanted.classes
        by_id = _by_id(root, names, _listed_ids(root, names, wanted))
        if missing := [class_id for class_id in classes.ids if class_id not in by_id]:
            raise UserError(f"{root}: has no folder for {_some(missing)} of the class list")
    folders = tuple(by_id[class_id] for class_id in classes.ids)
    return FolderSource(uri, classes, root=root, folders=folders)


def _listed_ids(root: str, names: Sequence[str], wanted: ClassList) -> dict[str, str]:
    """The listed id of each folder."""
    index = wanted.match(f"s{name}" for name in names)
    if lost := [visible(name) for name in names if f"s{name}" not in index]:
        raise UserError(f"{root}: the class list has no {_some(lost)}; it must hold every class of the data")
    return {name: wanted.classes.ids[index[f"s{name}"]] for name in names}


def _by_id(root: str, names: Sequence[str], ids: dict[str, str]) -> dict[str, str]:
    """The folder of each class id."""
    folders: dict[str, str] = {}
    for name in names:
        other = folders.setdefault(ids[name], name)
        if other != name:
            raise UserError(
                f"{root}: the folders {other!a} and {name!a} are of one class, {ids[name]}; their names are "
                "the same text, or the class list says so: merge or rename them"
            )
    return folders


def _some(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
