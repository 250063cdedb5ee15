"""One run in one place: locks that outlive no owner, on disks and in object stores."""

from __future__ import annotations

import contextlib
import contextvars
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from raycond.core import files, lock
from raycond.core.errors import UserError
from raycond.core.lock import Owner, current, locked


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "SETTLE_SECONDS", 0.02)
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(lock, "_POLL_SECONDS", 0.02)


@pytest.fixture(params=["local", "remote"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "run") if request.param == "local" else f"memory://test-lock{tmp_path}/run"


def elsewhere(action: Callable[[], Any]) -> Any:
    """As another run does it: in a thread of its own, which knows nothing of the locks of this one."""
    results: list[Any] = []

    def work() -> None:
        try:
            results.append(contextvars.Context().run(action))
        except BaseException as error:
            results.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if isinstance(results[0], BaseException):
        raise results[0]
    return results[0]


def take(place: str, wait: float = 0.0) -> str:
    with locked(place, "another", wait=wait) as held:
        return held.owner.token


def test_a_second_run_stops_with_a_message_that_names_the_first(place: str) -> None:
    with locked(place, "raycond quantize --data x\n"):
        with pytest.raises(UserError) as caught:
            elsewhere(lambda: take(place))
        text = str(caught.value)
        assert text.startswith(
            f"{place}: another run is at work here (raycond quantize --data x\\n, process {os.getpid()} on"
        )
        assert "wait for it, stop it, or give another --out" in text
    assert elsewhere(lambda: take(place))
    assert not files.exists(files.join(place, lock.NAME))


def test_a_second_run_waits_if_it_is_asked_to(place: str) -> None:
    with locked(place, "first"), pytest.raises(UserError, match="first"):
        elsewhere(lambda: take(place, wait=0.1))
    results: list[str] = []
    with locked(place, "first"):
        thread = threading.Thread(target=lambda: results.append(take(place, wait=20)))
        thread.start()
        time.sleep(0.1)
        assert results == []
    thread.join()
    assert len(results) == 1


def test_a_pipeline_inside_another_takes_the_same_lock(place: str) -> None:
    with locked(place, "outer") as outer:
        with locked(place, "inner") as inner:
            assert inner is outer
        with pytest.raises(UserError, match="outer"):
            elsewhere(lambda: take(place))
        with locked(f"{place}/other", "beside"):
            pass


HOLD = """
import sys, time
from raycond.core.lock import locked
with locked(sys.argv[1], "victim"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_killed_owner_does_not_keep_its_lock(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=f"victim, process {process.pid}"):
            take(str(tmp_path))
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert (tmp_path / lock.NAME).exists()
    assert take(str(tmp_path))
    assert not (tmp_path / lock.NAME).exists()


def put(place: str, owner: Owner | bytes) -> None:
    files.write_bytes(
        files.join(place, lock.NAME), owner if isinstance(owner, bytes) else json.dumps(asdict(owner)).encode()
    )


def test_a_process_number_used_again_is_noticed(place: str) -> None:
    put(place, replace(current("old"), started="1"))
    assert take(place)


def test_an_owner_on_another_machine_lives_by_its_sign_of_life(place: str) -> None:
    other = replace(current("far away"), host="elsewhere", pid=1)
    put(place, other)
    with pytest.raises(UserError, match="far away, process 1 on elsewhere"):
        take(place)
    put(place, replace(other, alive=time.time() - 2 * lock.STALE_SECONDS))
    assert take(place)


def test_a_clock_that_is_wrong_does_not_make_an_owner_stale(place: str) -> None:
    other = replace(current("late clock"), host="elsewhere", alive=time.time() - 10_000)
    put(place, other)
    stop = threading.Event()

    def beat() -> None:
        count = 0
        while not stop.wait(0.02):
            count += 1
            put(place, replace(other, alive=other.alive + count))

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with pytest.raises(UserError, match="late clock"):
            take(place)
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"token": 1}', b"\xff\xfe", b"[" * 50_000])
def test_a_damaged_lock_is_nobodys(place: str, data: bytes) -> None:
    put(place, data)
    assert take(place)


def test_the_sign_of_life_is_renewed(place: str) -> None:
    with locked(place, "x"):
        seen: set[float] = set()
        until = time.monotonic() + 10
        while len(seen) < 2:
            assert time.monotonic() < until
            with contextlib.suppress(json.JSONDecodeError):  # the file is being rewritten
                seen.add(json.loads(files.read_bytes(files.join(place, lock.NAME)))["alive"])
            time.sleep(0.01)


def test_an_owner_whose_lock_was_taken_hears_of_it_and_leaves_it_alone(place: str) -> None:
    thief = replace(current("thief"), token="other")
    with locked(place, "slept too long") as held:
        held.check()
        put(place, thief)
        until = time.monotonic() + 10
        with pytest.raises(UserError, match="another run has taken this place over"):
            while time.monotonic() < until:
                held.check()
                time.sleep(0.01)
    assert json.loads(files.read_bytes(files.join(place, lock.NAME)))["token"] == "other"


CONTEST = """
import os, sys, time
from raycond.core import lock
lock._POLL_SECONDS = 0.002
folder = sys.argv[1]
for _ in range(15):
    with lock.locked(folder, "contest", wait=60):
        inside = os.path.join(folder, "inside")
        os.close(os.open(inside, os.O_CREAT | os.O_EXCL))  # fails if anybody else is in
        time.sleep(0.001)
        os.unlink(inside)
"""


def test_many_at_once_on_a_disk(tmp_path: Path) -> None:
    processes = [subprocess.Popen([sys.executable, "-c", CONTEST, str(tmp_path)]) for _ in range(4)]
    assert [process.wait() for process in processes] == [0] * 4


def test_many_at_once_in_a_store(tmp_path: Path) -> None:
    place, inside, failures = f"memory://test-lock{tmp_path}/many", threading.Lock(), []

    def contest() -> None:
        for _ in range(3):
            with locked(place, "contest", wait=60):
                if not inside.acquire(blocking=False):
                    failures.append("two at once")
                    return
                time.sleep(0.005)
                inside.release()

    threads = [threading.Thread(target=lambda: contextvars.Context().run(contest)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_lock_deleted_by_hand_comes_back(place: str) -> None:
    with locked(place, "x"):
        with suppress(FileNotFoundError):
            files.delete(files.join(place, lock.NAME))
        until = time.monotonic() + 10
        while not files.exists(files.join(place, lock.NAME)):
            assert time.monotonic() < until
            time.sleep(0.01)


@pytest.fixture(scope="module", autouse=True)
def no_threads_left() -> Iterator[None]:
    yield
    assert [thread.name for thread in threading.enumerate() if thread.name == "raycond-lock"] == []
