"""Joins the Ray cluster there is, or starts Ray on this machine."""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray._private import services

from raycond.core.errors import UserError


def connect(dashboard: bool) -> bool:
    """Join the cluster there is, or start Ray here; whether this call did, so that the caller shuts it down.

    dashboard: of a Ray started here. Raises UserError if the cluster cannot be reached.
    """
    if ray.is_initialized():
        return False
    for chatty in ("execution.streaming_executor", "progress"):  # our own progress lines say as much
        logging.getLogger(f"ray.data._internal.{chatty}").setLevel(logging.ERROR)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "WARNING"}
    address = _address()
    if address == "local":
        options |= {"include_dashboard": dashboard, "dashboard_host": "127.0.0.1"}
    with _own_sigterm(), _quiet_core():
        try:
            url = ray.init(address=address, **options).dashboard_url
        except (ConnectionError, ValueError) as error:
            raise UserError(f"Ray at {address}: {error}") from error
    if url:
        print(f"dashboard  http://{url}", file=sys.stderr)
    return True


def _address() -> str:
    """RAY_ADDRESS, or the cluster that `ray start` left on this machine, or "local" for one of our own.

    Ray's "auto" would also join the private Ray of any other program on the machine. Raises UserError if nothing
    answers at RAY_ADDRESS, where Ray would try for ten minutes.
    """
    given = os.environ.get("RAY_ADDRESS")
    if given:
        if re.fullmatch(r"[^/]+:\d+", given) and not _answers(given):
            raise UserError(
                f"RAY_ADDRESS={given}: no Ray cluster answers there; start one, or give RAY_ADDRESS=local for one here"
            )
        return given
    recorded = services.find_bootstrap_address(None)
    return recorded if recorded and _answers(recorded) else "local"


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except OSError:
        return False
    return True


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Ray takes SIGTERM over, to end without a word; give it back to the program."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit:  # Ray's handler: it was while Ray started
        raise KeyboardInterrupt(signal.SIGTERM) from None
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


@contextmanager
def _quiet_core() -> Iterator[None]:
    """Keep two harmless lines of Ray's C++ core off stderr.

    At every start of an actor pool it prints an error about constructor arguments though nothing is wrong (#53727);
    the only switch is a log level, and the core prints a line about the level itself. What fails is raised as well.
    """
    level = "RAY_BACKEND_LOG_LEVEL"
    if level in os.environ:
        yield
        return
    os.environ[level] = "fatal"
    sys.stderr.flush()
    shown = os.dup(2)
    with tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(shown, 2)
            os.close(shown)
            del os.environ[level]
            caught.seek(0)
            for line in caught:
                if level.encode() not in line:
                    os.write(2, line)
