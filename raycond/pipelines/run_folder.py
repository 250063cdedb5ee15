"""The folder of a run while the run is at work: nobody else writes there, and what is logged goes into it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from raycond.core import files
from raycond.core.lock import locked
from raycond.core.log import run_log


@contextlib.contextmanager
def at_work(out: str, command: str, *, verbose: bool = False, shared: str | None = None) -> Iterator[None]:
    """Lock the run folder, remove what killed runs have left half-written, and log into it.

    command: for the message of a second run. shared: another folder that the run writes to, which is locked too. Raises
    UserError if another run is at work there.
    """
    with contextlib.ExitStack() as stack:
        for folder in dict.fromkeys([out, *([shared] if shared else [])]):
            stack.enter_context(locked(folder, command))
            files.sweep(folder)
        stack.enter_context(run_log(out, verbose))
        yield
