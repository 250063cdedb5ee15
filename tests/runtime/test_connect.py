"""Which Ray is joined, that programs that are no Ray are noticed in time, and what a start that fails is called."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from raycond.cli.main import guarded
from raycond.core.errors import RaycondError, UserError
from raycond.runtime import connect as module
from raycond.runtime.background import in_thread
from raycond.runtime.connect import _address, _is_ray, _sigterm_as_interrupt, connect


@pytest.fixture(autouse=True)
def _no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a new process of a machine without Ray, and without much patience."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(module, "CONNECT_SECONDS", 0.3)
    monkeypatch.setattr(module.services, "find_bootstrap_address", lambda _: None)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)


@contextlib.contextmanager
def server(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """The address of a program that `answer`s every connection in a thread of its own."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    threading.Thread(target=talk, args=(connection,), daemon=True).start()

        def talk(connection: socket.socket) -> None:
            with connection, contextlib.suppress(OSError):
                answer(connection)

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield f"127.0.0.1:{listening.getsockname()[1]}"
        finally:
            listening.shutdown(socket.SHUT_RDWR)  # else the thread that waits in accept keeps it open


def silent(connection: socket.socket) -> None:
    """Takes everything and says nothing."""
    while connection.recv(4096):
        pass


def redis(connection: socket.socket) -> None:
    """Answers every line as Redis answers a command that it does not know."""
    while connection.recv(4096):
        connection.sendall(b"-ERR unknown command\r\n")


def closes(connection: socket.socket) -> None:
    """Hangs up at once."""


@pytest.mark.parametrize("answer", [silent, redis, closes])
def test_a_program_that_is_no_ray_is_noticed_in_time(answer: Callable[[socket.socket], None]) -> None:
    with server(answer) as address:
        asked = in_thread(lambda: _is_ray(address))
        assert asked.result(timeout=60) is False  # Ray itself would go on for minutes


def test_a_web_server_is_no_ray() -> None:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        assert not _is_ray(f"127.0.0.1:{http.server_address[1]}")
        http.shutdown()


def test_nothing_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert not _is_ray(f"127.0.0.1:{port}")


@pytest.mark.ray
def test_a_ray_is_one(ray_cluster: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONNECT_SECONDS", 10)
    assert _is_ray(ray_cluster)


def test_an_address_where_no_ray_answers_is_an_error_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with server(silent) as address:
        monkeypatch.setenv("RAY_ADDRESS", address)
        expected = f"RAY_ADDRESS={address}: no Ray cluster answers there; start one, or give RAY_ADDRESS=local"
        with pytest.raises(UserError, match=re.escape(expected)):
            connect(dashboard=False)


@pytest.mark.parametrize("given", ["local", "auto", "ray://head/x"])
def test_an_address_that_is_no_port_of_a_machine_is_for_ray_to_judge(
    monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", given)
    assert _address() == given


def test_a_client_address_is_tried_before_ray_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with server(silent) as address:
        monkeypatch.setenv("RAY_ADDRESS", f"ray://{address}")
        assert _address() == f"ray://{address}"
    for given in (f"ray://{address}", "127.0.0.1:99999"):
        monkeypatch.setenv("RAY_ADDRESS", given)
        with pytest.raises(UserError, match=f"RAY_ADDRESS={given}: no Ray cluster answers there"):
            _address()


def test_a_cluster_of_this_machine_is_joined_only_while_it_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _address() == "local"
    with server(silent) as address:
        monkeypatch.setattr(module.services, "find_bootstrap_address", lambda _: address)
        assert _address() == "local"
        monkeypatch.setattr(module, "_is_ray", lambda _: True)
        assert _address() == address


def test_a_ray_that_was_there_before_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "init", lambda **_: pytest.fail("started another"))
    assert connect(dashboard=True) is False


# ---- the start of Ray and SIGTERM


@pytest.fixture
def stop() -> Iterator[Callable[..., None]]:
    """The program's own way with SIGTERM, which must be in place again afterwards."""

    def handler(*_: object) -> None:
        raise AssertionError("not while Ray starts")

    before = signal.signal(signal.SIGTERM, handler)
    yield handler
    after = signal.signal(signal.SIGTERM, before)
    assert after is handler
    assert signal.set_wakeup_fd(-1) == -1


def _as_ray(*_: object) -> None:
    """What Ray does at SIGTERM."""
    raise SystemExit(1)


@pytest.mark.usefixtures("stop")
def test_a_signal_while_ray_starts_is_an_interrupt() -> None:
    def start() -> None:
        with _sigterm_as_interrupt():
            signal.signal(signal.SIGTERM, _as_ray)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)  # until the handler is called

    with pytest.raises(KeyboardInterrupt) as stopped:
        start()
    assert stopped.value.args == (signal.SIGTERM,)


@pytest.mark.usefixtures("stop")
def test_a_start_that_fails_is_a_failure_and_no_interrupt() -> None:
    def start() -> None:
        with _sigterm_as_interrupt():
            signal.signal(signal.SIGTERM, _as_ray)
            raise SystemExit("no memory")

    with pytest.raises(RaycondError, match=r"Ray did not start: no memory; its logs are in"):
        start()


@pytest.mark.usefixtures("stop")
def test_another_signal_does_not_make_a_failure_an_interrupt() -> None:
    def start() -> None:
        with _sigterm_as_interrupt():
            os.kill(os.getpid(), signal.SIGWINCH)
            raise SystemExit(1)

    with pytest.raises(RaycondError, match="Ray did not start"):
        start()


@pytest.mark.usefixtures("stop")
def test_a_start_gives_the_signal_back() -> None:
    with _sigterm_as_interrupt():
        signal.signal(signal.SIGTERM, _as_ray)


def test_off_the_main_thread_signals_are_not_touched() -> None:
    outcome: list[BaseException | None] = []

    def start() -> None:
        try:
            with _sigterm_as_interrupt():
                raise ValueError("from inside")
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert [repr(error) for error in outcome] == ["ValueError('from inside')"]


@pytest.mark.usefixtures("stop")
@pytest.mark.parametrize(("given", "niceness"), [(None, {"worker_niceness": 0}), ("5", None)])
def test_workers_have_the_priority_of_other_programs(
    monkeypatch: pytest.MonkeyPatch, given: str | None, niceness: dict[str, int] | None
) -> None:
    received: dict[str, Any] = {}

    def init(**options: Any) -> None:
        received.update(options)
        raise ValueError

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.delenv("RAY_worker_niceness", raising=False)
    if given is not None:
        monkeypatch.setenv("RAY_worker_niceness", given)
    with pytest.raises(UserError):
        connect(dashboard=False)
    assert received.get("_system_config") == niceness


@pytest.mark.usefixtures("stop")
@pytest.mark.parametrize(
    ("raised", "expected", "text"),
    [
        (SystemExit(1), RaycondError, "Ray did not start: 1"),
        (ConnectionError("gone"), UserError, "Ray at local: gone"),
        (ValueError("wrong"), UserError, "Ray at local: wrong"),
        (
            RuntimeError("The node timed out.\nMore"),
            RaycondError,
            "^Ray did not start: The node timed out.; its logs are",
        ),
        (Exception("\nno GCS"), RaycondError, "^Ray did not start: no GCS; its logs are"),
    ],
)
def test_what_ray_raises_at_its_start(
    monkeypatch: pytest.MonkeyPatch, raised: BaseException, expected: type[Exception], text: str
) -> None:
    def init(**_: object) -> None:
        raise raised

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(expected, match=text):
        connect(dashboard=False)


@pytest.mark.usefixtures("stop")
@pytest.mark.parametrize(
    ("dashboard", "url", "said"),
    [
        (True, "127.0.0.1:8265", "dashboard  http://127.0.0.1:8265"),
        (True, None, "Ray's dashboard did not come up; going on without it"),
        (False, "", ""),
    ],
)
def test_a_dashboard_that_does_not_come_up_is_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    dashboard: bool,
    url: str | None,
    said: str,
) -> None:
    given: list[object] = []

    def init(**options: object) -> SimpleNamespace:
        given.append(options["include_dashboard"])
        return SimpleNamespace(dashboard_url=url)

    monkeypatch.setattr(ray, "init", init)
    assert connect(dashboard)
    assert given == [None if dashboard else False]  # True would have Ray end where it does not come up
    assert capsys.readouterr().err.startswith(said)


def test_the_command_says_that_ray_did_not_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def init(**_: object) -> None:
        raise SystemExit(1)

    monkeypatch.setattr(ray, "init", init)
    assert guarded("quantize", lambda: int(connect(dashboard=False))) == 2
    error = capsys.readouterr().err
    assert error.startswith("raycond: Ray did not start: 1; its logs are in")
    assert "stopped" not in error
