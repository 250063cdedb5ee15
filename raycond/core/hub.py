"""Names of the Hugging Face hub: its cache alone where the hub cannot be reached."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import urllib.request
from collections.abc import Iterator
from urllib.parse import urlsplit

from raycond.core import files
from raycond.core.errors import short
from raycond.core.text import shown

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?(@.+)?")


@contextlib.contextmanager
def reached() -> Iterator[None]:
    """Inside, the hub's client takes what is in its cache, and fails at once for the rest, if the hub's name cannot be
    resolved; by itself it would try for half a minute, for every file."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not _resolved(constants.ENDPOINT)
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _resolved(url: str) -> bool:
    if urllib.request.getproxies():  # a proxy resolves names itself
        return True
    place = urlsplit(url)
    try:
        socket.getaddrinfo(place.hostname, place.port or 443)
    except OSError:
        return False
    return True


def problem(place: str, model: str, holds: str, kind: str, error: BaseException) -> str:
    """Why `model` could not be loaded from a folder, a remote address or a name of the hub, and what to do.

    holds: what its folder must hold. kind: of the option, which is `KIND:FOLDER`. A path that does not exist is not
    taken for a name of the hub, and no network is blamed for what a folder lacks.
    """
    cause = shown(short(error))
    if "://" in place or os.path.isdir(files.absolute(place)):
        return f"cannot load {model} from {place!r}, which must hold {holds}. Cause: {cause}"
    if not _NAME.fullmatch(place):
        return f"{place}: no such folder; give one with {holds}, or a name of the hub (owner/name)"
    return (
        f"cannot load {model} from {place!r}. Without a network, download the model elsewhere, copy its folder "
        f"({holds}) here and give {kind}:FOLDER. Cause: {cause}"
    )
