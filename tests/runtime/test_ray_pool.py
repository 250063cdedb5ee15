"""The pool of actors: a job or a worker that dies time after time is told in one sentence, and the rest is done."""

from __future__ import annotations

import os
from collections.abc import Sequence

import pytest

from raycond.core.errors import RaycondError, UserError
from raycond.runtime.ray_pool import MAX_DEATHS, _Ledger
from raycond.runtime.ray_runner import RayRunner
from raycond.runtime.resources import Resources


class Upper:
    """Gives a job back in capitals; "poison" kills its process, as the kernel does for want of memory."""

    def __init__(self, device: str) -> None:
        self.device = device

    def run(self, jobs: Sequence[str]) -> list[str]:
        if "poison" in jobs:
            os._exit(1)
        return [job.upper() for job in jobs]


class Stillborn(Upper):
    def __init__(self, device: str) -> None:
        os._exit(1)


def test_the_ledger_counts_deaths_of_what_was_begun_and_not_left() -> None:
    ledger = _Ledger(patience=2)
    assert ledger.begin([1, 2]) == [0, 0]
    assert ledger.begin([1, 2]) == [1, 1]  # begun again, so the worker died
    ledger.leave([1, 2], finished=False)
    assert ledger.begin([1]) == [1]
    ledger.leave([1], finished=True)
    assert ledger.begin([2]) == [1]
    assert ledger.begin([2]) == [2]


def test_workers_may_die_until_one_finishes_a_job() -> None:
    ledger = _Ledger(patience=2)
    assert [ledger.starting() for _ in range(3)] == [True, True, False]
    ledger.begin([1])
    ledger.leave([1], finished=True)
    assert ledger.starting()


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_one_poison_job_is_given_up_and_the_others_are_done() -> None:
    jobs = ["a", "b", "poison", "c", "d"]
    results = dict(RayRunner().pool(Upper, jobs, Resources(), batch=2))
    failure = results.pop(2)
    assert isinstance(failure, RaycondError)
    assert str(failure).startswith(f"its worker died {MAX_DEATHS} times, probably for want of memory")
    assert results == {0: "A", 1: "B", 3: "C", 4: "D"}


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_workers_that_always_die_end_the_run() -> None:
    with pytest.raises(UserError, match="one worker after another died before it had finished anything"):
        list(RayRunner().pool(Stillborn, ["a", "b"], Resources(), workers=1))
