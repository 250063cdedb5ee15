"""One run in one place at a time: a lock file that shows its owner, outlives no killed one, and works on object stores.

The file holds who owns it and a sign of life that the owner renews every few seconds. On the owner's machine a lock is
stale as soon as that process is gone, whatever ended it; from elsewhere, when the sign of life has not changed for a
minute. Two that try at the same moment are kept apart by `flock` on local disks. On object stores the file is created
on the condition that there is none, where the store knows such a condition, and read again a moment after it was
written: the last of those who wrote keeps the lock.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import platform
import secrets
import sys
import threading
import time
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import asdict, dataclass, replace
from typing import IO

from raycond.core import files
from raycond.core.errors import UserError
from raycond.core.remote import filesystem, reached
from raycond.core.text import shown

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

NAME = ".lock"
BEAT_SECONDS = 10.0
"""Between two signs of life."""

STALE_SECONDS = 60.0
"""Without a sign of life, after which the owner on another machine counts as gone."""

SETTLE_SECONDS = 1.0
"""Between writing a lock to an object store and reading it again."""

_POLL_SECONDS = 1.0
_YEAR_3000 = 32_503_680_000

log = logging.getLogger(__name__)
_HELD: ContextVar[dict[str, Lock]] = ContextVar("raycond_locks")


@dataclass(frozen=True)
class Owner:
    """Who holds a lock."""

    token: str
    """Random: two locks of one process are told apart by it."""

    host: str
    """The machine's name."""

    system: str
    """What must be equal for process numbers to mean the same: the machine's boot and the process namespace."""

    pid: int
    started: str
    """When the process started, in the system's own count, so that a number used again is noticed; "" if unknown."""

    what: str
    """What it does, for people."""

    since: float
    """When it took the lock, in seconds since 1970."""

    alive: float
    """Its latest sign of life, by its own clock."""

    @property
    def is_here(self) -> bool:
        """Whether its process can be looked for on this machine."""
        return (self.host, self.system) == (platform.node(), _system())

    @property
    def is_running(self) -> bool:
        """Whether its process is there; for owners that are here."""
        return files.is_running(self.pid) and self.started in ("", _started(self.pid))


def current(what: str) -> Owner:
    """This process as the owner of a new lock."""
    now, pid = time.time(), os.getpid()
    return Owner(secrets.token_hex(8), platform.node(), _system(), pid, _started(pid), what, now, now)


class Lock:
    """A lock that is held. Made by `locked`."""

    def __init__(self, place: _Local | _Remote, owner: Owner) -> None:
        self._place, self.owner = place, owner
        self._lost = False
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="raycond-lock", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise UserError if another run has taken the lock, as it may after this machine slept; call it now and
        then."""
        if self._lost:
            raise UserError(
                f"{self._place.folder}: another run has taken this place over, because this one gave no sign of life "
                f"for {STALE_SECONDS:.0f} s; start it again when the other is done"
            )

    def release(self) -> None:
        self._released.set()
        self._thread.join()
        with contextlib.suppress(OSError):
            self._place.remove(self.owner)

    def _beat(self) -> None:
        while not self._released.wait(BEAT_SECONDS):
            try:
                renewed = replace(self.owner, alive=time.time())
                if not self._place.renew(self.owner, renewed):
                    self._lost = True
                    log.error("%s: another run has taken the lock of this one", self._place.folder)
                    return
                self.owner = renewed
            except Exception:  # the next try may reach the place again
                log.warning("%s: the lock could not be renewed", self._place.folder, exc_info=True)


@contextlib.contextmanager
def locked(folder: str, what: str, *, wait: float = 0.0) -> Iterator[Lock]:
    """Hold the lock of a folder, local or remote, for the length of the block.

    what: for people, such as the command. wait: seconds to wait for another run to end. Within the block the same
    thread may take the same lock again, as a pipeline does that runs inside another. Raises UserError, naming the other
    run, if it is still at work.
    """
    folder = files.absolute(folder)
    held = _HELD.get({})
    if folder in held:
        yield held[folder]
        return
    place = _Local(folder) if files.is_local(folder) else _Remote(folder)
    lock = Lock(place, _acquire(place, what, wait))
    token = _HELD.set({**held, folder: lock})
    try:
        yield lock
    finally:
        _HELD.reset(token)
        lock.release()


def _acquire(place: _Local | _Remote, what: str, wait: float) -> Owner:
    until = time.monotonic() + wait
    while True:
        mine = current(what)
        other = place.take(mine, stale=None)
        if other is not None and not _is_alive(place, other):
            log.info("%s: the run that held the lock is gone: %s", place.folder, other)
            other = place.take(mine, stale=other)
        if other is None:
            return mine
        if time.monotonic() >= until:
            raise UserError(_occupied(place.folder, other))
        time.sleep(min(_POLL_SECONDS, max(0.0, until - time.monotonic())))


def _is_alive(place: _Local | _Remote, other: Owner) -> bool:
    """Whether the owner is at work. Clocks of two machines may differ, so an old sign of life is watched for a
    change."""
    if other.is_here:
        return other.is_running
    if abs(time.time() - other.alive) < STALE_SECONDS:
        return True
    until = time.monotonic() + 2.5 * BEAT_SECONDS
    while time.monotonic() < until:
        time.sleep(min(_POLL_SECONDS, BEAT_SECONDS))
        if place.read() != other:
            return True
    return False


def _occupied(folder: str, other: Owner) -> str:
    since = time.strftime("%d %b %H:%M", time.localtime(other.since))
    return (
        f"{folder}: another run is at work here ({shown(other.what)}, process {other.pid} on {shown(other.host)}, "
        f"since {since}); wait for it, stop it, or give another --out"
    )


class _Local:
    """A lock file on a local disk, read and written under `flock`."""

    def __init__(self, folder: str) -> None:
        self.folder, self._path = folder, os.path.join(folder, NAME)

    def take(self, mine: Owner, stale: Owner | None) -> Owner | None:
        """Write `mine` unless somebody other than `stale` holds the lock; gives who does."""
        os.makedirs(self.folder, exist_ok=True)
        with self._opened(create=True) as file:
            other = _parsed(file.read())
            if other is not None and other != stale:
                return other
            _rewrite(file, mine)
            return None

    def read(self) -> Owner | None:
        try:
            with self._opened(create=False) as file:
                return _parsed(file.read())
        except FileNotFoundError:
            return None

    def renew(self, mine: Owner, renewed: Owner) -> bool:
        try:
            with self._opened(create=False) as file:
                other = _parsed(file.read())
                if other is None or other.token != mine.token:
                    return False
                _rewrite(file, renewed)
                return True
        except FileNotFoundError:  # somebody has deleted it, or the folder
            return self.take(renewed, stale=None) is None if os.path.isdir(self.folder) else True

    def remove(self, mine: Owner) -> None:
        with self._opened(create=False) as file:
            other = _parsed(file.read())
            if other is not None and other.token == mine.token:
                os.unlink(self._path)

    @contextlib.contextmanager
    def _opened(self, create: bool) -> Iterator[IO[bytes]]:
        """The file, with nobody else in it. Raises FileNotFoundError where it is not to be created."""
        while True:
            handle = os.open(self._path, os.O_RDWR | (os.O_CREAT if create else 0), 0o644)
            with os.fdopen(handle, "r+b") as file:
                if fcntl is not None:
                    with contextlib.suppress(OSError):  # a disk without locks
                        fcntl.flock(file, fcntl.LOCK_EX)
                try:
                    if os.stat(self._path).st_ino == os.fstat(handle).st_ino:
                        yield file
                        return
                except FileNotFoundError:
                    if not create:
                        raise
                # the owner removed it while we waited: try the one that is there now


class _Remote:
    """A lock file in an object store."""

    def __init__(self, folder: str) -> None:
        self.folder, self._uri = folder, files.join(folder, NAME)

    def take(self, mine: Owner, stale: Owner | None) -> Owner | None:
        other = self.read()
        if other is not None and other != stale:
            return other
        if other is None:
            try:
                self._create(mine)
            except FileExistsError:
                return self.read()
        else:
            files.write_bytes(self._uri, _content(mine))
        time.sleep(SETTLE_SECONDS)
        last = self.read()
        if last is None:  # deleted by hand
            return self.take(mine, stale)
        return None if last.token == mine.token else last

    def read(self) -> Owner | None:
        try:
            return _parsed(files.read_bytes(self._uri))
        except FileNotFoundError:
            return None

    def renew(self, mine: Owner, renewed: Owner) -> bool:
        other = self.read()
        if other is not None and other.token != mine.token:
            return False
        files.write_bytes(self._uri, _content(renewed))
        return True

    def remove(self, mine: Owner) -> None:
        other = self.read()
        if other is not None and other.token == mine.token:
            files.delete(self._uri)

    def _create(self, mine: Owner) -> None:
        """Raises FileExistsError if the store knows the condition and the file is there."""
        fs, path = filesystem(self._uri)
        with reached(self._uri):
            try:
                fs.pipe_file(path, _content(mine), mode="create")
            except TypeError:  # of a store that does not know the mode
                fs.pipe_file(path, _content(mine))


def _content(owner: Owner) -> bytes:
    return json.dumps(asdict(owner)).encode()


def _parsed(data: bytes) -> Owner | None:
    """None for a file that is empty or damaged, as a writer leaves it that was killed in the middle."""
    try:
        owner = Owner(**files.parse_json(data))
        texts = all(
            isinstance(part, str) for part in (owner.token, owner.host, owner.system, owner.started, owner.what)
        )
        times = all(0 < seconds < _YEAR_3000 for seconds in (owner.since, owner.alive))
        return owner if texts and times and type(owner.pid) is int and 0 < owner.pid < 2**31 else None
    except (ValueError, TypeError):
        return None


def _rewrite(file: IO[bytes], owner: Owner) -> None:
    file.seek(0)
    file.truncate()
    file.write(_content(owner))
    file.flush()
    os.fsync(file.fileno())


def _system() -> str:
    """Names what process numbers belong to; "" where the system does not say."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return f"{file.read().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _started(pid: int) -> str:
    if not sys.platform.startswith("linux"):
        return ""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
