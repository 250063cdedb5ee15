"""The files of a condensed set: which names they may have, and how one is read that must be what the manifest says."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from raycond.core import files, records
from raycond.core.errors import UserError, short
from raycond.core.text import shown

ENDINGS = (".parquet", ".safetensors", ".json", ".md", ".png", ".txt")
"""Kinds of files that a set may list: plain data, which runs no code whoever opens it. Weights are safetensors."""

CODE_ENDINGS = (
    ".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle", ".joblib", ".dill", ".npy", ".npz", ".h5", ".py", ".pyc", ".so"
)  # fmt: skip
"""Kinds of files that some tool runs or unpickles when it is given the folder of a set."""


def name_problem(name: str) -> str:
    """Why a set cannot have a file of this name; nothing if it can."""
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\\" in name or ":" in name or not name.isprintable():
        return "is no path inside a set"
    if not name.endswith(ENDINGS):
        return f"a set has only files that end in {', '.join(ENDINGS)}: others may run code when they are opened"
    return ""


def file_problem(folder: str, name: str, expected: Mapping[str, Any]) -> str:
    """What is wrong with a file: missing, or not as long or not the content that the manifest says.

    The file is read piece by piece, so its size does not matter. Raises OSError where a remote place cannot be reached.
    """
    try:
        size = _size(files.join(folder, name))
    except FileNotFoundError:
        return "missing"
    except UserError as error:
        return str(error)
    if size != expected["bytes"]:
        return f"{size} bytes, the manifest says {expected['bytes']}"
    measured = records.measured(files.join(folder, name))
    return "" if measured["sha256"] == expected["sha256"] else "its SHA-256 is not the manifest's"


def read_stored(folder: str, name: str, expected: Mapping[str, Any], *, checked: bool = False) -> bytes:
    """The content of a file, which must have the bytes and the SHA-256 that the manifest says.

    checked: its SHA-256 was compared a moment ago. Raises UserError, naming the file, where it is missing, damaged or
    cannot be read.
    """
    uri = files.join(folder, name)
    try:
        size = _size(uri)
        if size != expected["bytes"]:
            raise UserError(f"{shown(uri)}: {size} bytes, the manifest says {expected['bytes']}")
        data = files.read_bytes(uri)
    except FileNotFoundError as error:
        raise UserError(f"{shown(uri)}: missing, though the manifest lists it") from error
    except OSError as error:
        raise UserError(f"{shown(uri)}: cannot be read: {short(error)}") from error
    if not checked and files.sha256(data) != expected["sha256"]:
        raise UserError(f"{shown(uri)}: damaged: its SHA-256 is not the manifest's")
    return data


def _size(uri: str) -> int:
    """Raises FileNotFoundError, and UserError for a pipe, a device or a folder: reading them may never end."""
    if files.is_local(uri) and os.path.exists(path := files.absolute(uri)) and not os.path.isfile(path):
        raise UserError(f"{shown(uri)}: is no regular file")
    return files.entry(uri).size
