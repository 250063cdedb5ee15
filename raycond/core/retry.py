"""Try again what a network or a remote disk may fail at once and then do."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from typing import TypeVar

from raycond.core.errors import RaycondError

T = TypeVar("T")

# Asking again cannot change these answers.
_PERMANENT_NUMBERS = {
    errno.EINVAL,
    errno.EFBIG,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOSPC,
    errno.EROFS,
    errno.EDQUOT,
}
_PERMANENT = (
    FileNotFoundError,
    PermissionError,
    IsADirectoryError,
    NotADirectoryError,
    MemoryError,
    RaycondError,
)


def retrying(action: Callable[[], T], *, attempts: int = 4, first_wait: float = 0.2) -> T:
    """`action()`, tried up to `attempts` times, waiting `first_wait` seconds and then twice as long each time.

    A missing file, a refused permission, a full disk and our own errors are raised at once. The last error is raised as
    it is. Any other exception counts as passing: object-store clients have their own types, few of them OSError."""
    for attempt in range(attempts):
        try:
            return action()
        except _PERMANENT:
            raise
        except Exception as error:
            if attempt == attempts - 1 or getattr(error, "errno", None) in _PERMANENT_NUMBERS:
                raise
            time.sleep(first_wait * 2**attempt)
    raise ValueError(f"attempts must be at least 1, not {attempts}")
