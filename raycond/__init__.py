"""raycond: condense a large labelled image set into a small weighted one that trains nearly as well."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raycond.sets.reader import CondensedSet

__version__ = "0.1.0"


def open(
    path: str,
    ipc: int | None = None,
    *,
    weights: str | None = None,
    transform: Callable[[Any], Any] | None = None,
) -> CondensedSet:
    """Open a condensed set as a torch Dataset of (image, label, weight); see `raycond.sets.reader.open_set`."""
    from raycond.sets.reader import open_set

    return open_set(path, ipc, weights=weights, transform=transform)
