"""Addresses that stand in data, such as the path of an image in a Parquet row: they must not lead out of the data."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Collection, Sequence

from raycond.core import files
from raycond.core.text import visible

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


class Refused(ValueError):  # noqa: N818 - reads as the thing it reports
    """A reference that is not followed; the message is the reason, for the record of the image."""


def stays_inside(path: str) -> bool:
    """Whether a relative path leads to a place below the folder that it is relative to."""
    return not (
        path.startswith("/")
        or _SCHEME.match(path)
        or "::" in path
        or "\0" in path
        or ".." in path.split("/")
        or (os.sep != "/" and os.path.isabs(path))
    )


def resolve(path: str, folder: str, roots: Sequence[str], protocols: Collection[str] = ()) -> str:
    """The address that a reference means. Nothing is opened.

    folder: what relative paths are relative to. roots: the source, and any other folder that the user allows; no path
    may lead out of all of them. protocols: those, such as https, that references may name besides the roots' own.
    Raises Refused.
    """
    if "::" in path or "\0" in path:
        raise Refused("its path is a chained address, which is not followed")
    scheme = _SCHEME.match(path)
    if scheme is not None and scheme[1].lower() not in {_protocol(root) for root in roots}:
        if scheme[1].lower() in protocols:
            return path
        raise Refused(f"its path names another protocol than the source's, {visible(scheme[1])}://")
    absolute = scheme is not None or path.startswith("/")
    address = _normal(path if absolute else files.join(folder, path))
    if not any(address.startswith(_normal(root).rstrip("/") + "/") for root in roots):
        raise Refused("its path leads out of the source (--image-root allows a folder)")
    return address


def _protocol(uri: str) -> str:
    scheme = _SCHEME.match(uri)
    return scheme[1].lower() if scheme else "file"


def _normal(uri: str) -> str:
    """Without . and .. in it."""
    if files.is_local(uri):
        return os.path.normpath(uri.removeprefix("file://"))  # links stay: they are the user's own
    scheme, _, path = uri.partition("://")
    return f"{scheme.lower()}://{posixpath.normpath('/' + path).lstrip('/')}"
