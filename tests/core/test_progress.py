"""Progress lines on a terminal and elsewhere."""

from __future__ import annotations

import io

import pytest

from raycond.core import progress
from raycond.core.progress import Progress, TrainingProgress, clock
from tests.support.terminal import Terminal


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    time = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: time[0])
    return time


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (59.9, "59.9 s"),
        (59.96, "1 min 0 s"),
        (125, "2 min 5 s"),
        (3599.7, "1 h 0 min"),
        (12000, "3 h 20 min"),
    ],
)
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_a_file_gets_a_line_now_and_then(now: list[float]) -> None:
    stream = io.StringIO()
    with Progress("condense", 10, "classes", stream=stream) as shown:
        for _ in range(10):
            now[0] += 2
            shown.step(1, "a name")
    lines = stream.getvalue().splitlines()
    assert lines == [
        "condense   0/10 classes  0.0 s",
        "condense   3/10 classes  6.0 s, 14.0 s left  a name",
        "condense   6/10 classes  12.0 s, 8.0 s left  a name",
        "condense   9/10 classes  18.0 s, 2.0 s left  a name",
        "condense   10/10 classes  20.0 s  a name",
    ]
    assert "\r" not in stream.getvalue()


def test_resumed_units_do_not_make_the_rest_look_short(now: list[float]) -> None:
    stream = io.StringIO()
    with Progress("condense", 100, "classes", done=90, stream=stream) as shown:
        now[0] += 60
        shown.step()
    assert "91/100 classes  1 min 0 s, 9 min 0 s left" in stream.getvalue()


@pytest.mark.usefixtures("now")
def test_nothing_to_do_is_one_line() -> None:
    stream = io.StringIO()
    with Progress("condense", 4, "classes", done=4, stream=stream):
        pass
    assert stream.getvalue() == "condense   4/4 classes  0.0 s  4 resumed\n"


def test_a_terminal_has_one_line_that_never_wraps(now: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    stream = Terminal()
    with Progress("condense", 10, "classes", stream=stream) as shown:
        now[0] += 1
        shown.step(1, "a very long class name " * 5)
        shown.say("class x failed")
    parts = stream.getvalue().replace("\x1b[K", "").split("\r")
    assert parts[0] == ""
    assert all(len(part.split("\n")[0]) < 40 for part in parts)
    assert "class x failed\n" in stream.getvalue()
    assert stream.getvalue().endswith("\n")
    assert stream.getvalue().count("\n") == 2


def test_steps_of_an_earlier_run_are_no_work_of_now(now: list[float]) -> None:
    shown = TrainingProgress(100, stage="fit")
    shown.begin(90)
    now[0] += 10
    shown.show(95, 0.5)
    assert shown.line == "fit        95/100 steps  10.0 s, 10.0 s left  loss 0.5000"
    shown.show(92, 0.5)  # a worker died, and the training goes on from its last state
    assert "92/100" in shown.line
