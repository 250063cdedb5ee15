"""Runs that are killed at a known moment: in place of a rename, so with a file half made and no record of it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

from tests.support.distributed import fork_server


def killed_at_rename(count: int, function: Callable[..., Any], *arguments: Any) -> bool:
    """Call the function in another process, which ends itself with SIGKILL in place of its `count`-th rename.

    Whether it came to that: False if the function returned or raised before.
    """
    process = fork_server().Process(target=_until, args=(count, function, arguments))
    process.start()
    process.join()
    return process.exitcode == -signal.SIGKILL


def _until(count: int, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    rename, left = os.replace, count

    def replace(source: str, target: str) -> None:
        nonlocal left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        rename(source, target)

    os.replace = replace  # type: ignore[assignment]
    function(*arguments)
