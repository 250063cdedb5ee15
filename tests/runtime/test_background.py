from __future__ import annotations

import threading

import pytest

from raycond.runtime.background import in_thread


def test_runs_beside_the_caller() -> None:
    go = threading.Event()

    def work() -> str:
        assert go.wait(10)
        return threading.current_thread().name

    done = in_thread(work)
    assert not done.done()
    go.set()
    assert done.result(10) != threading.current_thread().name


def test_whatever_is_raised_is_told() -> None:
    def work() -> None:
        raise KeyboardInterrupt("from inside")

    with pytest.raises(KeyboardInterrupt, match="from inside"):
        in_thread(work).result(10)
