"""Joins the Ray cluster there is, or starts Ray on this machine."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import ray
from ray._private import services

from raycond.core.errors import RaycondError, UserError, short
from raycond.core.log import carry

_LOGS = "its logs are in /tmp/ray/session_latest/logs"
CONNECT_SECONDS = 10  # to wait for an answer before the cluster is taken for gone


def connect(dashboard: bool) -> bool:
    """Join the cluster there is, or start Ray here; whether this call started it, so that the caller shuts it down.

    dashboard: of a Ray started here. Raises UserError if the cluster cannot be reached, RaycondError if Ray does not
    start.
    """
    if ray.is_initialized():
        return False
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "WARNING"}
    address = _address()
    if address == "local":
        # None: Ray starts it, and goes on without it where it does not come up, as on a machine that is very busy
        options |= {"include_dashboard": None if dashboard else False, "dashboard_host": "127.0.0.1"}
        if "RAY_worker_niceness" not in os.environ:
            # Ray's 15 leaves the workers a twentieth of a processor that another program keeps busy
            options["_system_config"] = {"worker_niceness": 0}
    carry("ray")
    with _sigterm_as_interrupt():
        try:
            url = ray.init(address=address, **options).dashboard_url
        except (ConnectionError, ValueError) as error:
            raise UserError(f"Ray at {address}: {error}") from error
        except Exception as error:  # Ray's own start raises any type
            raise RaycondError(f"Ray did not start: {short(error)}; {_LOGS}") from error
    carry("ray")  # again: Ray sets its handlers anew when it starts
    if url:
        token = os.environ.get("RAY_AUTH_MODE", "token") == "token"
        how = "  (asks for a token: `ray get-auth-token` prints it)" if token else ""
        print(f"dashboard  http://{url}{how}", file=sys.stderr)
    elif dashboard and address == "local":
        print(f"Ray's dashboard did not come up; going on without it ({_LOGS})", file=sys.stderr)
    return True


def _address() -> str:
    """RAY_ADDRESS, or the cluster that `ray start` left on this machine, or "local" for one of our own.

    Ray's "auto" would also join the private Ray of any other program on the machine. Raises UserError if no Ray
    answers at RAY_ADDRESS, where Ray would try for ten minutes.
    """
    given = os.environ.get("RAY_ADDRESS")
    if given:
        client = given.removeprefix("ray://")  # Ray Client would try for half a minute, and say little
        answers = _is_ray if client == given else _listens
        if re.fullmatch(r"[^/]+:\d+", client) and not answers(client):
            raise UserError(
                f"RAY_ADDRESS={given}: no Ray cluster answers there; start one, or give RAY_ADDRESS=local for one here"
            )
        return given
    recorded = services.find_bootstrap_address(None)
    return recorded if recorded and _is_ray(recorded) else "local"


def _is_ray(address: str) -> bool:
    """Whether a Ray head answers at HOST:PORT: any other program there answers otherwise, or not within ten seconds."""
    if not _listens(address):
        return False
    if os.environ.get("RAY_USE_TLS", "0") not in ("", "0"):
        return True  # a call without the certificates would say nothing
    with grpc.insecure_channel(address) as channel:
        check_alive = channel.unary_unary("/ray.rpc.NodeInfoGcsService/CheckAlive", request_serializer=bytes)
        try:
            check_alive(b"", timeout=CONNECT_SECONDS, wait_for_ready=True)
        except grpc.RpcError as error:
            foreign = (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNIMPLEMENTED)
            return error.code() not in foreign  # a Ray that asks for a token answers too
    return True


def _listens(address: str) -> bool:
    """Whether anything takes connections at HOST:PORT."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, ValueError, OverflowError):
        return False
    return True


@contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """While Ray starts, turn SIGTERM into KeyboardInterrupt, and give the signal back to the program afterwards.

    Ray takes SIGTERM over and answers it with SystemExit, which it also raises where it cannot start. Python's wakeup
    descriptor tells the two apart: it hears of every signal, whoever handles it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    heard, wakeup = socket.socketpair()
    heard.setblocking(False)
    wakeup.setblocking(False)
    previous = signal.set_wakeup_fd(wakeup.fileno(), warn_on_full_buffer=False)
    try:
        yield
    except SystemExit as stopped:
        if _received(heard, signal.SIGTERM):
            raise KeyboardInterrupt(signal.SIGTERM) from None
        raise RaycondError(f"Ray did not start: {stopped}; {_LOGS}") from stopped
    finally:
        signal.set_wakeup_fd(previous)
        heard.close()
        wakeup.close()
        signal.signal(signal.SIGTERM, before)


def _received(heard: socket.socket, number: int) -> bool:
    try:
        return number in heard.recv(4096)
    except BlockingIOError:
        return False
