"""Checks the stored labels of a condensed set."""

from __future__ import annotations

from raycond.core import files
from raycond.labels.stored.labels import IDS, NAME, verify_labels


def holds_labels(folder: str) -> bool:
    """Whether `store_set_labels` wrote there, finished or not, or the folder is one IPC of what it wrote."""
    place = files.absolute(folder)
    return _begun(place) or bool(_parts(place))


def verify_set_labels(folder: str) -> list[str]:
    """What is wrong with the labels in `folder`, each with its IPC; nothing if every file has its digest."""
    place = files.absolute(folder)
    if _begun(place):
        return verify_labels(place)
    return [f"{name}: {problem}" for name in _parts(place) for problem in verify_labels(files.join(place, name))]


def _parts(place: str) -> list[str]:
    entries = files.listdir(place) if files.is_dir(place) else []
    return [entry.name for entry in entries if entry.is_dir and _begun(files.join(place, entry.name))]


def _begun(place: str) -> bool:
    return any(files.exists(files.join(place, name)) for name in (NAME, IDS))
