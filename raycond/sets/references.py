"""Addresses in files of a set or a run, which somebody else may have written: which of them may be opened."""

from __future__ import annotations

import re

from raycond.core import files

_BUILT_IN = re.compile(r"[a-z][a-z0-9-]*:")  # such as digits: - data that comes with a library, no place
_PROTOCOL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


def may_open(reference: str, *, beside: str) -> bool:
    """Whether an address that a file says may be opened though the user did not name it.

    beside: the place, named by the user, of the file that says it. Allowed are data sets that come with a library
    (`digits:`), paths of this machine where `beside` is on this machine, and addresses of the very store of `beside`:
    the same protocol and the same host or bucket. Never allowed is what would send a request to another place
    (`http://…`), and a chained address (`a::b`), whose parts can be of any protocol. What is not allowed, the user can
    still name.
    """
    if "::" in reference or not reference.isprintable():
        return False
    if _BUILT_IN.fullmatch(reference):
        return True
    if files.is_local(beside):
        return ":" not in reference.split("/", 1)[0] or reference.startswith("file://")
    return _store(reference) == _store(beside) is not None


def _store(uri: str) -> tuple[str, str] | None:
    """Protocol and host or bucket of an address; None for what has none."""
    match = _PROTOCOL.match(uri)
    if match is None:
        return None
    return match[1].lower(), uri[match.end() :].split("/", 1)[0]


def source_of(reference: str, *, beside: str) -> str | None:
    """The source of images that a manifest names, if it can be opened without being told where it is.

    A manifest keeps only the last part of a local path, because a set is made to be given away; so what is left is a
    data set that comes with a library, or an address in the set's own store. None where the user has to name it
    (`--data URI`).
    """
    named = ":" in reference
    return reference if named and may_open(reference, beside=beside) else None
