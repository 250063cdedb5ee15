"""A job keeps the state of its training when one is due, and at its end, early or not."""

from __future__ import annotations

from pathlib import Path

from tests.support.jobs import CountingJob


def saved(job: CountingJob, rank: int = 0) -> list[tuple[int, str]]:
    """(step, what is kept) after each step, and at the end."""
    training = job.start("cpu", rank)
    place = Path(job.place)
    states = [(step, place.read_text() if place.exists() else "") for step in job.steps(training)]
    return [*states, (-1, place.read_text() if place.exists() else "")]


def test_states_are_kept_when_due_and_at_the_end(tmp_path: Path) -> None:
    states = saved(CountingJob(str(tmp_path)))
    assert [kept for _, kept in states] == ["", "", "", "4", "4", "4", "4", "8", "8", "10", "10"]


def test_a_training_that_stops_early_is_kept_as_it_ended(tmp_path: Path) -> None:
    states = saved(CountingJob(str(tmp_path), until=6))
    assert states[-2:] == [(6, "4"), (-1, "6")]
    again = CountingJob(str(tmp_path), until=6).start("cpu")
    assert again.began_at == 6
    assert list(again.run()) == []


def test_only_the_first_worker_writes(tmp_path: Path) -> None:
    assert {kept for _, kept in saved(CountingJob(str(tmp_path)), rank=1)} == {""}
