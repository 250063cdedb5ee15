"""Class-folder trees: root/<class>/.../image.jpg."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from raycond.core import files
from raycond.core.errors import UserError
from raycond.core.retry import retrying
from raycond.data.class_names import named
from raycond.data.refs import ImageRef
from raycond.data.rows import Row, RowSource

EXTENSIONS = frozenset({"jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff", "ppm", "pgm"})

# Deeper than any real tree; a link to its own parent would go on until the path is too long.
_DEEPEST = 24


def is_image(name: str) -> bool:
    return "." in name and name.rsplit(".", 1)[1].lower() in EXTENSIONS


def listed(uri: str) -> list[files.Entry]:
    """`files.listdir`, tried again on passing errors. Raises UserError if the folder cannot be listed."""
    try:
        return retrying(lambda: files.listdir(uri))
    except OSError as error:
        raise UserError(
            f"{uri}: the folder cannot be listed ({error.strerror or error}); check that it exists and may be read"
        ) from error


def walk(folder: str, inside: str) -> Iterator[tuple[str, files.Entry]]:
    """(path, entry) of each image at any depth in `folder`, paths starting with `inside`; a folder at a time."""
    waiting = [(folder, inside)]
    while waiting:
        folder, inside = waiting.pop()
        if inside.count("/") > _DEEPEST:
            raise UserError(f"{folder}: more than {_DEEPEST} folders deep; does a link point to its own parent?")
        for entry in listed(folder):
            if entry.is_dir:
                waiting.append((files.join(folder, entry.name), f"{inside}/{entry.name}"))
            elif is_image(entry.name):
                yield f"{inside}/{entry.name}", entry


@dataclass(frozen=True)
class FolderSource(RowSource):
    """`root` is the folder of class folders. A class is listed when it is asked for, and not kept."""

    root: str = ""

    def rows(self, label: int) -> Iterator[Row]:
        class_id = self.classes.ids[label]
        for path, entry in walk(files.join(self.root, class_id), class_id):
            yield Row(ImageRef(path, label, files.join(self.root, path)), entry.size, entry.stamp)


def open_folder(uri: str, root: str) -> FolderSource:
    """Classes are the folders in `root`, in sorted order.

    Raises UserError if there are none or no class has an image.
    """
    ids = [entry.name for entry in listed(root) if entry.is_dir and entry.name != "__MACOSX"]
    if not any(next(walk(files.join(root, class_id), class_id), None) for class_id in ids):
        raise UserError(
            f"{uri}: no class folder with images in {root}; expected <class>/<image>, images being "
            f"{', '.join(sorted(EXTENSIONS))}"
        )
    return FolderSource(uri, named(ids), root=root)
