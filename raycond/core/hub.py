"""Names of the Hugging Face hub: its cache alone where the hub cannot be reached."""

from __future__ import annotations

import contextlib
import socket
import urllib.request
from collections.abc import Iterator
from urllib.parse import urlsplit


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
