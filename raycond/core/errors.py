"""The errors raycond raises on purpose; anything else that escapes is a bug."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager


class RaycondError(Exception):
    """Base of every error that raycond raises on purpose."""


class UserError(RaycondError):
    """A bad option or input: the message names it, says what was expected and what to do."""


class OptionError(UserError):
    """An option that does not exist or has a wrong value; the command line adds where the options are listed."""


class ClassMismatch(UserError):  # noqa: N818 - reads as the thing it reports
    """Two class lists that must be the same are not."""


class NoSplit(UserError):  # noqa: N818 - reads as the thing it reports
    """A source has no part for the split that was asked for; the caller knows what to offer instead."""


class BadImage(RaycondError):  # noqa: N818 - one image, quarantined; not a failure of the job
    """One image that cannot be used; `reason` goes into the quarantine file."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class RemoteError(OSError):
    """An object store, hub or server that could not be reached or refused the request.

    An OSError, so that it is tried again and handled like every other failure to read.
    """


@contextmanager
def named(option: str) -> Iterator[None]:
    """Errors about a value begin with the option that it came from."""
    try:
        yield
    except UserError as error:
        raise type(error)(f"{option}: {error}") from error


@contextmanager
def parsing(where: str, what: str, remedy: str = "copy it again") -> Iterator[None]:
    """Turn whatever a parser raises on damaged input into a UserError that names the file.

    where: the file. what: its format, as in "cannot be read as Parquet". Parsers of damaged files raise errors of any
    type (struct.error, KeyError, MemoryError, …), so all of them are taken; the original stays attached as the cause.
    """
    try:
        yield
    except RaycondError:
        raise
    except Exception as error:
        raise UserError(f"{where}: cannot be read as {what} ({short(error)}); {remedy}") from error


def is_full(error: BaseException) -> bool:
    """Whether an error says that a disk is full, or a quota used up: whatever else is tried would fail too."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def explained(error: OSError) -> str:
    """An error of the system in one line, with what to do about a full disk."""
    if not is_full(error):
        return f"{type(error).__name__}: {error}"
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}no space is left on the disk; free some, and the same command goes on from here"


def short(error: BaseException) -> str:
    """An error in one line of at most 200 characters: its text, or the name of its type."""
    text = getattr(error, "strerror", None) or str(error)
    lines = text.split("\n") if isinstance(text, str) else []
    first = next((line.strip() for line in lines if line.strip()), "")
    return (first or type(error).__name__)[:200]
