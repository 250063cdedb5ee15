"""Completion records: what makes a run resumable.

A unit of work (a class at one IPC, an evaluation cell) writes its output under a temporary name, renames it, and then
writes a record beside it with the fingerprint of everything the output depends on. A unit is done when its record has
the expected fingerprint and the output has the recorded digest; anything else is computed again, to the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import partial
from typing import Any

from raycond.core import files, stream
from raycond.core.retry import retrying

IO_THREADS = 32  # requests in flight where thousands of small files are looked at, most of them far away


def fingerprint(**parts: Any) -> str:
    """Digest of all that an output depends on, and of the format version of the files."""
    return files.digest({"format": FORMAT, **parts})


def finish(output: str, expected: str, data: bytes | None, **facts: Any) -> dict[str, Any]:
    """Write `data` to `output`, then the record with `facts`; returns the facts, with the output's bytes and sha256.

    data: None if there is only a record, or the output is there already and `facts` say its bytes and sha256.
    """
    if data is not None:
        files.write_bytes(output, data)
        facts |= {"bytes": len(data), "sha256": files.sha256(data)}
    files.write_json(record_of(output), {"fingerprint": expected, "facts": facts})
    return facts


def find(output: str, expected: str) -> dict[str, Any] | None:
    """The facts of a finished unit, or None if it is missing, stale or damaged."""
    try:
        entry = files.parse_json(retrying(partial(files.read_bytes, record_of(output))))
        if entry["fingerprint"] != expected:
            return None
        facts: dict[str, Any] = dict(entry["facts"])
        return facts if "sha256" not in facts or whole(output, facts) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def whole(uri: str, facts: Mapping[str, Any]) -> bool:
    """Whether a file is there with the `bytes` and `sha256` that `facts` say."""
    try:
        return files.entry(uri).size == facts["bytes"] and measured(uri)["sha256"] == facts["sha256"]
    except OSError:
        return False


def all_whole(folder: str, listed: Mapping[str, Mapping[str, Any]]) -> bool:
    """`whole` for files of a folder, by name."""
    return all(whole(files.join(folder, name), facts) for name, facts in listed.items())


def measured(uri: str) -> dict[str, Any]:
    """`bytes` and `sha256` of a file that may not fit into memory. Raises OSError."""
    with stream.reader(uri) as file:
        sha = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    return {"bytes": files.entry(uri).size, "sha256": sha}


def record_of(output: str) -> str:
    return f"{output}.done.json"


FORMAT = 3  # of the files a run leaves behind; a change makes older work stale
