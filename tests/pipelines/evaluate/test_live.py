"""The live table: on a terminal what runs and what has ended, elsewhere plain lines."""

from __future__ import annotations

import io
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from raycond.evaluate.table import Row
from raycond.pipelines.evaluate import live
from raycond.pipelines.evaluate.live import LiveTable
from raycond.pipelines.evaluate.trial import Trial
from tests.pipelines.evaluate.trial import Broken, cell
from tests.support.methods import UNIFORM
from tests.support.terminal import Terminal


@pytest.fixture(autouse=True)
def _size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("LINES", "24")
    monkeypatch.setenv("TERM", "xterm")


def trial(method: str, seed: int = 0, student: str = "mlp-w4") -> Trial:
    training = cell(Path(), train=Broken(), method=method, seed=seed, student=student)
    return Trial.of(training, training.slug, "data", "test")


def row(of: Trial, top1: float) -> Row:
    c = of.cell
    return Row(c.method, c.ipc, c.student, c.seed, top1, top1, 4, 1.0, 4, "quick")


def result(of: Trial, top1: float) -> dict[str, Any]:
    """What a finished trial returns."""
    return asdict(row(of, top1))


def shown(stream: io.StringIO, table: LiveTable) -> list[str]:
    """The picture that a terminal has now, without escape sequences."""
    stream.seek(0)
    stream.truncate()
    table._live.refresh()
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", stream.getvalue())
    return [line.rstrip() for line in text.replace("\r", "").splitlines()]


def play(stream: io.StringIO) -> tuple[LiveTable, list[str]]:
    """Four trainings, of which one was finished before, and what a terminal shows in the end."""
    one, two, three = trial("random"), trial("medoid"), trial(UNIFORM)
    with LiveTable(4, [row(trial("random", seed=1), 40.0)], stream) as table:
        for each in (one, two, three):
            table.started(each)
        table.checked(one, {"step": 2, "epoch": 1.0, "top1": 31.25, "loss": 0.5})
        table.done(two, result(two, 43.75))
        table.failed(three, "out of memory")
        picture = shown(stream, table) if stream.isatty() else []
    return table, picture


def test_a_terminal_shows_the_table_what_runs_and_what_failed() -> None:
    table, lines = play(Terminal())
    assert "mlp-w4, protocol quick: top-1 %, last step over 1 seed" in lines
    assert "random   40.0" in lines
    assert "medoid   43.8" in lines
    (progress,) = (line for line in lines if line.startswith("train "))
    assert re.fullmatch(r"train      2/4 trainings  .* left  medoid ipc1 mlp-w4 seed0 43\.8 %", progress)
    assert "  random ipc1 mlp-w4 seed0: 31.2 % after epoch 1" in lines
    assert "1 failed, the last: decoded centroids (vae, uniform) ipc1 mlp-w4 seed0: out of memory" in lines
    assert not any("against" in line for line in lines)  # differences are for the end
    assert [r.method for r in table.rows] == ["random", "medoid"]
    assert table.failures == ["decoded centroids (vae, uniform) ipc1 mlp-w4 seed0: out of memory"]


def test_in_the_end_only_progress_is_left_for_the_summary_to_follow() -> None:
    stream = Terminal()
    before = [row(trial("random", student=f"mlp-w{k}"), 10.0) for k in range(30)]
    with LiveTable(30, before, stream) as table:
        shown(stream, table)
        stream.truncate(0)
    assert "train      30/30 trainings" in stream.getvalue()
    assert "mlp-w" not in stream.getvalue()


def test_elsewhere_there_are_lines() -> None:
    stream = io.StringIO()
    table, _ = play(stream)
    assert "\x1b" not in stream.getvalue()
    assert "\r" not in stream.getvalue()
    lines = stream.getvalue().splitlines()
    assert lines[0].startswith("train      1/4 trainings")
    assert "decoded centroids (vae, uniform) ipc1 mlp-w4 seed0 failed: out of memory" in lines
    assert lines[-1].startswith("train      2/4 trainings")
    assert (len(table.rows), len(table.failures)) == (2, 1)


def test_many_running_are_cut_and_a_long_table_hides_neither_progress_nor_failures() -> None:
    stream = Terminal()
    trials = [trial("random", seed) for seed in range(live.SHOWN + 3)]
    before = [row(trial("random", student=f"mlp-w{k}"), 10.0) for k in range(30)]
    with LiveTable(100, before, stream) as table:
        for each in trials:
            table.started(each)
        table.failed(trials[0], "bad")
        lines = shown(stream, table)
    assert sum(line.startswith("  random") for line in lines) == live.SHOWN
    assert any(line.startswith("train      30/100 trainings") for line in lines)
    assert "1 failed, the last: random ipc1 mlp-w4 seed0: bad" in lines
    assert len(lines) <= 24


def test_before_anything_has_ended_there_is_no_table() -> None:
    stream = Terminal()
    with LiveTable(2, [], stream) as table:
        assert shown(stream, table)[0].startswith("train      0/2 trainings")


def test_a_method_in_brackets_is_no_markup() -> None:
    stream, named = Terminal(), trial("decoded centroids (vae, uniform) [bold]")
    with LiveTable(1, [], stream) as table:
        table.done(named, result(named, 50.0))
        assert any(line.startswith("decoded centroids (vae, uniform) [bold]") for line in shown(stream, table))


def test_an_interrupt_passes_and_gives_the_terminal_back() -> None:
    stream = Terminal()
    with pytest.raises(KeyboardInterrupt), LiveTable(2, [], stream):
        raise KeyboardInterrupt
    assert "\x1b[?25h" in stream.getvalue()  # the cursor is seen again
