"""Object stores, hubs and servers through fsspec: nothing remembered between calls, failures in one clear line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import fsspec

from raycond.core.errors import RaycondError, RemoteError, UserError, short

_ABOUT_FILES = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError)


def filesystem(uri: str) -> tuple[Any, str]:
    """The fsspec filesystem of an address, and the path in it. Raises UserError for addresses it does not know.

    fsspec remembers listings for the life of the process, so a file that another process has written since would read
    as missing; what is remembered of this path is therefore dropped first.
    """
    try:
        with reached(uri):
            fs, path = fsspec.core.url_to_fs(uri)
            fs.invalidate_cache(path)
    except ImportError as error:
        raise UserError(f"{uri}: this kind of address needs one more package: {error}") from error
    return fs, path


@contextmanager
def reached(uri: str) -> Iterator[None]:
    """Failures of a remote filesystem as RemoteError, which is an OSError; what it says of files stays as it is.

    Each store's client raises its own types (botocore.NoCredentialsError, aiohttp.ClientError, httpx.ConnectError, …).
    A ValueError is about the address, and becomes a UserError.
    """
    try:
        yield
    except (RaycondError, RemoteError, ImportError, MemoryError):
        raise
    except _ABOUT_FILES:
        raise
    except OSError as error:
        if type(error) is OSError and error.errno is not None:
            raise  # the system's own, such as a full disk
        raise RemoteError(_advice(uri, error)) from error
    except ValueError as error:
        raise UserError(f"{uri}: not an address that can be opened: {short(error)}") from error
    except Exception as error:
        raise RemoteError(_advice(uri, error)) from error


def _advice(uri: str, error: Exception) -> str:
    kind = type(error).__name__
    text = short(error)
    what = text if kind in text else f"{kind}: {text}"
    return (
        f"{uri}: cannot be reached ({what}); check the network, the address and the credentials, or copy the data to a "
        "local folder and give that"
    )
