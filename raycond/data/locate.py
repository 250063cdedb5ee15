"""Find out what kind of source an address is and which part of it a split is, by looking at all of it."""

from __future__ import annotations

import fnmatch
import itertools
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from raycond.core import files
from raycond.core.errors import NoSplit, UserError
from raycond.core.text import visible
from raycond.data import arrays, parquet, split_names, tar
from raycond.data.contents import Contents, look, look_into, shard_kind
from raycond.data.entries import has_image_ending, is_run, is_system, listed, may_be_condensed
from raycond.data.references import stays_inside

_PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".zip", ".7z", ".rar")
_DEEPEST = 12

# Folders of pictures that explain a data set and are not part of it.
_ILLUSTRATIONS = frozenset(
    ["assets", "images", "image", "imgs", "img", "figures", "examples", "samples", "media", "docs", "static", "pics"]
)

EXPECTED = (
    "expected class folders of images, WebDataset .tar files, .parquet files with an image column, idx files, "
    "or digits:"
)


class Place(NamedTuple):
    """Where the data of a split lies."""

    kind: str
    """folder, idx, tar or parquet."""

    root: str
    """The folder that was ended up in."""

    names: tuple[str, ...] = ()
    """Addresses of the files; of a class-folder tree the names of the class folders."""

    split: str | None = None
    """The word that names the split, None if there is none."""

    notes: tuple[str, ...] = ()
    """What was left alone, and anything else that people should know."""


def locate(uri: str, split: str, own: str = "", columns: tuple[str | None, str | None] = (None, None)) -> Place:
    """Find the kind and the part of a source, descending through split folders and single folders.

    own: a folder of the run itself; a folder that holds it is not part of the data. columns: of Parquet files, the
    image and the label, where the user names them. Raises UserError that says what was expected, NoSplit if the data is
    split but has no such part."""
    if not files.exists(uri):
        if re.search(r"[{*?\[]", uri):
            return _shards(uri, _expand(uri), split)
        raise UserError(f"{uri}: does not exist; {EXPECTED}")
    if not files.is_dir(uri):
        return _shards(uri, [uri], split)
    search = _Search(uri, split, own, columns)
    for _ in range(_DEEPEST):
        if place := search.step():
            return place._replace(notes=tuple(dict.fromkeys([*search.notes, *place.notes])))
    raise UserError(f"{uri}: nothing found {_DEEPEST} folders deep; {EXPECTED}")


class _Search:
    """Descends from the address that the user named; each step looks at one folder."""

    def __init__(self, uri: str, split: str, own: str, columns: tuple[str | None, str | None]) -> None:
        self.uri, self.root, self.split, self.own, self.columns = uri, uri, split, own, columns
        self.entered: str | None = None  # the name of the split folder
        self.notes: list[str] = []

    def step(self) -> Place | None:
        """The place, or None after going on to `self.root`."""
        entries = listed(self.root)
        names = {entry.name: entry.is_dir for entry in entries}
        if may_be_condensed(names) and (place := self._condensed()):
            return place
        if is_run(names):
            self._run(names)
            return None
        if {"blobs", "refs", "snapshots"} <= {name for name, is_dir in names.items() if is_dir}:
            self._snapshot()
            return None
        if pair := arrays.find_idx(entries, self.split):
            return Place("idx", self.root, pair[:2], pair[2])
        folders = self._usable([entry.name for entry in entries if entry.is_dir])
        if self.entered is None and (name := self._split_folder(folders)):
            self.root, self.entered = files.join(self.root, name), name
            return None
        shards = [entry for entry in entries if not entry.is_dir and shard_kind(entry.name)]
        contents = dict(zip(folders, look_into([files.join(self.root, name) for name in folders]), strict=True))
        images = [name for name, inside in contents.items() if inside.images]
        nested = [name for name, inside in contents.items() if inside.shards and not inside.images]
        if images and not self._is_dataset(shards, nested, images):
            if shards or nested:
                self.notes.append(f"{_some([*(e.name for e in shards), *nested])} left alone: no data set of images")
            return self._class_folders(contents, images)
        if images:
            self.notes.append(f"folders left alone: {_some(images)}")
        if shards:
            return self._shards(shards)
        self._below(entries, folders, nested)
        return None

    # ---- folders that are something else

    def _condensed(self) -> Place | None:
        """The images of a condensed set, at its largest IPC."""
        try:
            manifest = files.read_json(files.join(self.root, "manifest.json"))
            ipc = max(int(number) for number in manifest["ipc"])
            inside = re.compile(rf"(?:.*/)?ipc{ipc}/[^/]*\.parquet")
            shards = sorted(name for name in manifest["files"] if inside.fullmatch(name) and stays_inside(name))
        except (ValueError, KeyError, TypeError):
            return None
        if not shards:
            return None
        note = f"a condensed set; its images at IPC {ipc} are the source, without their weights"
        return Place("parquet", self.root, tuple(files.join(self.root, name) for name in shards), None, (note,))

    def _run(self, names: dict[str, bool]) -> None:
        if not names.get("set"):
            raise UserError(f"{self.root}: is the folder of a run that has made no set; give the data it was made from")
        self.root = files.join(self.root, "set")

    def _snapshot(self) -> None:
        """The newest snapshot in a folder of the Hugging Face cache."""
        snapshots = [entry.name for entry in listed(files.join(self.root, "snapshots")) if entry.is_dir]
        main = files.join(self.root, "refs", "main")
        revision = files.read_bytes(main, 0, 100).decode("ascii", "replace").strip() if files.exists(main) else ""
        chosen = [name for name in snapshots if name == revision] or snapshots
        if len(chosen) != 1:
            raise UserError(f"{self.root}: holds several snapshots; name one: {_some(snapshots)} in snapshots/")
        self.root = files.join(self.root, "snapshots", chosen[0])

    # ---- splits

    def _split_folder(self, folders: list[str]) -> str | None:
        """The folder of the split, None if the folders are not named after splits."""
        by_split: dict[str, list[str]] = {}
        for name in folders:
            if kind := split_names.split_of(name):
                by_split.setdefault(kind, []).append(name)
        if not by_split:
            by_split = {kind: names for kind, names in split_names.grouped(folders).items() if kind}
            if len(by_split) < 2:  # one class may well be called "bullet train"
                return None
        # A class may be called "train" (the vehicle): it has images directly, a split has class folders or shards.
        looks = {name: look(files.join(self.root, name)) for names in by_split.values() for name in names}
        usable = {kind: [n for n in names if not looks[n].direct] for kind, names in by_split.items()}
        if not any(usable.values()):
            return None
        for kind in split_names.SERVES[self.split]:
            if len(usable.get(kind, [])) > 1:
                raise UserError(f"{self.root}: several folders of the {kind} split: {_some(usable[kind])}; name one")
            if usable.get(kind):
                return usable[kind][0]
        flat = [n for kind in split_names.SERVES[self.split] for n in by_split.get(kind, []) if looks[n].direct]
        raise NoSplit(
            f"{self.root}: has {', '.join(f'{n}/' for names in usable.values() for n in names)} but no "
            f"{split_names.USUAL[self.split]}/ with class folders or data files for the {self.split} split"
            + "".join(f"; {name}/ holds images without class folders" for name in flat)
            + f"; to take one as it is, name it: {files.join(self.root, next(n for ns in usable.values() for n in ns))}"
        )

    # ---- what the data is

    def _usable(self, folders: list[str]) -> list[str]:
        """Without the folders of systems and the one that the run itself is in."""
        left = [n for n in folders if is_system(n) or f"{self.own}/".startswith(f"{files.join(self.root, n)}/")]
        if left:
            self.notes.append(f"folders left alone: {_some(left)}")
        return [name for name in folders if name not in left]

    def _is_dataset(self, shards: Sequence[files.Entry], nested: list[str], images: list[str]) -> bool:
        """Whether the shards, and not the folders of images beside them, are the data set. Raises UserError for
        both."""
        first = [shards[0].uri] if shards else []
        first += [uri for name in nested if (uri := _first_shard(files.join(self.root, name)))]
        sets = [uri for uri in first if self._is_shard_of_images(uri)]
        if not sets:
            return False
        classes = [name for name in images if name.lower() not in _ILLUSTRATIONS]
        if len(classes) > 1 and not any(
            shard_kind(uri) == "parquet" and parquet.has_paths(uri, *self.columns) for uri in sets
        ):
            raise UserError(
                f"{self.root}: holds a data set twice, in class folders ({_some(classes)}) and in "
                f"{sets[0].removeprefix(self.root + '/')}; name the files to take them, or move them away"
            )
        return True

    def _is_shard_of_images(self, uri: str) -> bool:
        return parquet.is_dataset(uri, *self.columns) if shard_kind(uri) == "parquet" else tar.is_dataset(uri)

    def _class_folders(self, contents: dict[str, Contents], images: list[str]) -> Place | None:
        if len(images) == 1 and not contents[images[0]].direct:
            left = [name for name in contents if name != images[0]]
            self.notes += [f"folders left alone: {_some(left)}"] if left else []
            self.root = files.join(self.root, images[0])
            return None
        self._require_split_above(contents, images)
        classes = [name for name, inside in contents.items() if inside.images or not inside.other]
        left = [name for name in contents if name not in classes]
        notes = (f"folders without images left alone: {_some(left)}",) if left else ()
        return Place("folder", self.root, tuple(classes), self.entered, notes)

    def _require_split_above(self, contents: dict[str, Contents], images: list[str]) -> None:
        """Refuse trees with splits below the classes, whose parts would all be taken as one."""
        for name in images[:3]:
            kinds = [split_names.split_of(folder) for folder in contents[name].folders]
            if contents[name].direct or "train" not in kinds or not {"val", "test"} & set(kinds):
                return
        raise UserError(
            f"{self.root}: has splits inside the class folders ({images[0]}/{contents[images[0]].folders[0]}); "
            "expected <split>/<class>/<image>"
        )

    def _shards(self, shards: Sequence[files.Entry]) -> Place:
        kinds = {shard_kind(entry.name) for entry in shards}
        kind = "tar" if "tar" in kinds else "parquet"
        if len(kinds) > 1:
            first = {kind: next(e.uri for e in shards if shard_kind(e.name) == kind) for kind in ("tar", "parquet")}
            sets = {kind for kind, uri in first.items() if self._is_shard_of_images(uri)}
            if len(sets) > 1:
                raise UserError(f"{self.root}: holds .tar and .parquet files; name those to take, as {self.root}/*.tar")
            kind = sets.pop() if sets else kind
            self.notes.append(f"files left alone: those that are not .{kind}")
        chosen, word = [e for e in shards if shard_kind(e.name) == kind], self.entered
        if self.entered is None:
            chosen, word, notes = _of_split(self.root, chosen, self.split)
            self.notes += notes
        return Place(kind, self.root, tuple(entry.uri for entry in chosen), word)

    def _below(self, entries: Sequence[files.Entry], folders: list[str], nested: list[str]) -> None:
        """Go down where nothing lies here. Raises UserError if there is no way or more than one."""
        names = [entry.name for entry in entries if not entry.is_dir]
        if packed := [name for name in names if name.lower().endswith(_PACKED)]:
            raise UserError(f"{files.join(self.root, packed[0])}: compressed; {tar.UNPACK}")
        if len(nested) > 1:
            raise UserError(
                f"{self.root}: holds several data sets: {_some(nested)}; name one, as {self.root}/{nested[0]}"
            )
        if not folders:
            direct = " (images lie directly in it)" if any(map(has_image_ending, names)) else ""
            raise UserError(f"{self.root}: no folders and no data files{direct}; {EXPECTED}")
        if not nested and len(folders) > 1:
            raise UserError(f"{self.uri}: no class folder with images in {self.root}; expected <class>/<image>")
        self.root = files.join(self.root, (nested or folders)[0])


def _of_split(root: str, entries: Sequence[files.Entry], split: str) -> tuple[list[files.Entry], str | None, list[str]]:
    """The files that are named after the split, the word, and notes; all files if none is named after a split."""
    groups = split_names.grouped(entry.name for entry in entries)
    for kind in split_names.SERVES[split]:
        if kind in groups:
            left = groups.get(None, [])
            notes = [f"files left alone, which name no split: {_some(left)}"] if left else []
            return [entry for entry in entries if entry.name in groups[kind]], kind, notes
    if set(groups) != {None}:
        have = ", ".join(names[0] for names in groups.values())
        raise NoSplit(f"{root}: no file of the {split} split; the files are named like {have}")
    return list(entries), None, []


def _first_shard(folder: str) -> str | None:
    """A tar or Parquet file in a folder or below."""
    waiting = [folder]
    for _ in range(100):
        if not waiting:
            break
        folder = waiting.pop(0)
        entries = listed(folder)
        if shard := next((e.uri for e in entries if not e.is_dir and shard_kind(e.name)), None):
            return shard
        waiting += [e.uri for e in entries if e.is_dir and not is_system(e.name)]
    return None


# ---- files that the user names


def _shards(uri: str, uris: list[str], split: str) -> Place:
    """The named files; if they are of several splits, those of the one asked for."""
    kinds = {shard_kind(name) for name in uris}
    if any(name.lower().endswith(_PACKED) for name in uris):
        raise UserError(f"{uri}: compressed; {tar.UNPACK}")
    kind = kinds.pop() if len(kinds) == 1 else None
    if kind is None:
        raise UserError(f"{uri}: neither .tar nor .parquet files; {EXPECTED}")
    root = uris[0].rsplit("/", 1)[0]
    groups = split_names.grouped(name.rsplit("/", 1)[-1] for name in uris)
    word: Any = next(iter(groups)) if len(groups) == 1 else None
    notes: list[str] = []
    if len(groups) > 1:
        entries = [files.Entry(name.rsplit("/", 1)[-1], name, False, 0, "") for name in uris]
        chosen, word, notes = _of_split(uri, entries, split)
        uris = [entry.uri for entry in chosen]
    return Place(kind, root, tuple(uris), word, tuple(notes))


def _expand(pattern: str) -> list[str]:
    """Files that a brace or glob pattern names; a file named by braces must exist, a glob must match something."""
    uris: list[str] = []
    for name in _braces(pattern):
        if re.search(r"[*?\[]", name):
            parent, last = name.rsplit("/", 1)
            if re.search(r"[*?\[]", parent):
                raise UserError(f"{pattern}: * ? [ may stand in the last part of the path only")
            names = [e.name for e in listed(parent) if fnmatch.fnmatchcase(e.name, last)]
            uris += [files.join(parent, item) for item in names]
        else:
            uris.append(name)
    missing = [name for name in uris if not files.exists(name)]
    if missing:
        raise UserError(f"{pattern}: {len(missing)} of {len(uris)} files missing, first {missing[0]}")
    if not uris:
        raise UserError(f"{pattern}: matches no file")
    return sorted(set(uris))


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


def _some(names: Sequence[str], most: int = 5) -> str:
    shown = [visible(name) for name in names]
    return ", ".join(shown[:most]) + (f" and {len(shown) - most} more" if len(shown) > most else "")
