"""Completion records: what makes a run resumable.

A unit of work (a class at one IPC, an evaluation cell) writes its output under a temporary name, renames it, and then
writes a record beside it with the fingerprint of everything the output depends on. A unit is done when its record has
the expected fingerprint and the output is there in full; anything else is computed again, to the same bytes.
"""

from __future__ import annotations

import json
from typing import Any

from raycond import files
from raycond.config import FORMAT


def fingerprint(**parts: Any) -> str:
    """Digest of all that an output depends on, and of the format version of the files."""
    return files.digest({"format": FORMAT, **parts})


def finish(output: str, expected: str, data: bytes | None, **facts: Any) -> dict[str, Any]:
    """Write `data` to `output` (None: there is only a record), then the record with `facts`; returns the facts."""
    entry: dict[str, Any] = {"fingerprint": expected, "facts": facts}
    if data is not None:
        files.write_bytes(output, data)
        entry |= {"size": len(data), "sha256": files.sha256(data)}
    files.write_json(record_of(output), entry)
    return facts


def find(output: str, expected: str) -> dict[str, Any] | None:
    """The facts of a finished unit, or None if it is missing, stale, unreadable or its output was cut short."""
    try:
        entry = files.read_json(record_of(output))
        if entry["fingerprint"] != expected:
            return None
        if "size" in entry and files.entry(output).size != entry["size"]:
            return None
        facts: dict[str, Any] = entry["facts"]
    except (OSError, json.JSONDecodeError, KeyError, TypeError):
        return None
    return facts


def record_of(output: str) -> str:
    return f"{output}.done.json"
