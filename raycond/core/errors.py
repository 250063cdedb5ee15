"""The errors raycond raises on purpose; anything else that escapes is a bug."""

from __future__ import annotations

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


class BadImage(RaycondError):  # noqa: N818 - one image, quarantined; not a failure of the job
    """One image that cannot be used; `reason` goes into the quarantine file."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@contextmanager
def named(option: str) -> Iterator[None]:
    """Errors about a value begin with the option that it came from."""
    try:
        yield
    except UserError as error:
        raise type(error)(f"{option}: {error}") from error
