"""What a folder holds: a look at all of it that stops as soon as it is clear."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from raycond.core import files
from raycond.core.errors import UserError
from raycond.core.records import IO_THREADS
from raycond.core.retry import retrying
from raycond.core.text import visible
from raycond.data.entries import has_image_ending, is_run, is_system, may_be_condensed, may_be_image
from raycond.data.formats import kind_of

SHARDS = {".tar": "tar", ".parquet": "parquet"}

_MOST_FOLDERS = 1000  # looked into below one folder
_SNIFFED = 8  # files of a folder whose ending says nothing and whose first bytes are read
_HEAD_BYTES = 64


@dataclass
class Contents:
    """What lies in one folder."""

    direct: bool = False
    """Images lie in the folder itself."""

    nested: bool = False
    """Images lie in folders below, and none in the folder itself."""

    shards: bool = False
    """It holds .tar or .parquet files at any depth."""

    other: bool = False
    """It holds files, and none that may be an image."""

    folders: list[str] = field(default_factory=list)
    """Names of the folders in it, if it holds no images itself."""

    @property
    def images(self) -> bool:
        return self.direct or self.nested


def look_into(folders: Sequence[str]) -> list[Contents]:
    """The contents of each folder, several looked into at once. Raises UserError if one cannot be listed."""
    if len(folders) == 1:
        return [look(folders[0])]
    with ThreadPoolExecutor(IO_THREADS) as pool:
        return list(pool.map(look, folders))


def look(folder: str) -> Contents:
    """Look for images in the folder and below, the nearest first."""
    contents = Contents()
    waiting = deque([folder])
    for number in range(_MOST_FOLDERS):
        if not waiting:
            break
        inside = waiting.popleft()
        names = _names(inside)
        if names is None or is_run(names) or may_be_condensed(names):
            contents.other = True
            continue
        if any(has_image_ending(name) for name, is_dir in names.items() if not is_dir) or _sniffed(inside, names):
            contents.direct, contents.nested = number == 0, number > 0
            break
        contents.shards = contents.shards or any(shard_kind(name) for name, is_dir in names.items() if not is_dir)
        contents.other = contents.other or not all(names.values())
        below = sorted(name for name, is_dir in names.items() if is_dir and not is_system(name))
        if number == 0:
            contents.folders = below
        waiting += [files.join(inside, name) for name in below]
    return contents


def shard_kind(name: str) -> str | None:
    """tar or parquet, by the ending of a file's name."""
    return next((kind for ending, kind in SHARDS.items() if name.lower().endswith(ending)), None)


def _names(folder: str) -> dict[str, bool] | None:
    """Names in the folder and whether they are folders; no more than needed if there is an image among them.

    None for a folder that may not be entered, below the one that was asked for.
    """
    names: dict[str, bool] = {}

    def collect() -> None:
        names.clear()
        for name, is_dir in files.names_in(folder):
            names[name] = is_dir
            if not is_dir and has_image_ending(name):
                break

    try:
        retrying(collect)
    except PermissionError:
        return None
    except OSError as error:
        text = error.strerror or str(error)
        raise UserError(
            f"{visible(folder)}: the folder cannot be listed ({text}); check that it may be read"
        ) from error
    return names


def _sniffed(folder: str, names: dict[str, bool]) -> bool:
    """Whether one of the first files whose ending says nothing begins as an image does."""
    unknown = sorted(name for name, is_dir in names.items() if not is_dir and may_be_image(name))
    for name in unknown[:_SNIFFED]:
        try:
            if kind_of(files.read_bytes(files.join(folder, name), 0, _HEAD_BYTES)):
                return True
        except OSError:
            continue
    return False
