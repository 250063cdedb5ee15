"""The log file of a run: what the console is too small for, with the traceback of every worker that failed."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterator

from raycond.core import files

NAME = "raycond.log"
_FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"

log = logging.getLogger("raycond")
_handlers: list[logging.Handler] = []  # of the runs that are open; a pipeline may run inside another one
_carried: set[str] = set()  # names of other libraries' loggers that write to them


@contextlib.contextmanager
def run_log(out: str, verbose: bool = False) -> Iterator[None]:
    """Append what is logged to OUT/raycond.log until the run ends; an error that ends it is logged with its traceback.

    verbose: show everything that is logged on stderr as well. A log in object storage is written when the run ends.
    """
    path, remote = _local(out)
    handler = _LogFile(path, encoding="utf-8", delay=True, errors="backslashreplace")
    handler.setFormatter(logging.Formatter(_FORMAT))
    handler.addFilter(lambda record: record.levelno >= logging.INFO or record.name.startswith("raycond"))
    console = logging.StreamHandler(sys.stderr)
    console.setLevel(logging.DEBUG if verbose else logging.CRITICAL)
    before = log.level
    log.setLevel(logging.DEBUG)
    log.addHandler(handler)
    log.addHandler(console)
    _handlers.append(handler)
    try:
        yield
    except Exception:
        log.exception("the run ended with an error")
        raise
    finally:
        _handlers.remove(handler)
        for name in _carried:
            logging.getLogger(name).removeHandler(handler)
        log.removeHandler(handler)
        log.removeHandler(console)
        log.setLevel(before)
        with contextlib.suppress(OSError):
            handler.close()
        if remote and os.path.exists(path):
            with open(path, "rb") as file, contextlib.suppress(OSError):
                files.write_bytes(remote, file.read())
            os.remove(path)


class _LogFile(logging.FileHandler):
    """A log that cannot be written, because the disk is full, says nothing: the run itself does."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        pass


def carry(*names: str) -> None:
    """Send what other libraries log under these names to the log files of the runs, and only errors to the console."""
    _carried.update(names)
    for name in names:
        logger = logging.getLogger(name)
        for shown in logger.handlers:
            if isinstance(shown, logging.StreamHandler) and not isinstance(shown, logging.FileHandler):
                shown.setLevel(max(shown.level, logging.ERROR))
        for handler in _handlers:
            if handler not in logger.handlers:
                logger.addHandler(handler)


def _local(out: str) -> tuple[str, str]:
    """The local path that is written, and the address it is copied to at the end ("" for none)."""
    uri = files.join(out, NAME)
    if files.is_local(uri):
        path = files.absolute(uri)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return path, ""
    descriptor, path = tempfile.mkstemp(prefix="raycond-", suffix=".log")
    os.close(descriptor)
    if files.exists(uri):
        with open(path, "wb") as file:
            file.write(files.read_bytes(uri))
    return path, uri
