from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from raycond.core.progress import Timed
from raycond.data.overlap import Overlap
from raycond.data.quarantine import BadRecord
from raycond.evaluate.table import Row
from raycond.pipelines.ending import MAX_FAILURES, ending, environment
from raycond.pipelines.layout import Layout


@dataclass
class Run(Timed):
    layout: Layout = field(default_factory=lambda: Layout("/runs/x"))
    manifest: dict[str, Any] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    overlap: Overlap | None = None
    bad: list[BadRecord] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    machine: dict[str, Any] = field(default_factory=dict)


def test_places_are_named_once_there_is_a_set() -> None:
    assert ending(Run(), notes=["a note"], places=["curve"]) == "\ntime      \na note"
    lines = ending(Run(manifest={"a": 1}), places=["curve"]).splitlines()
    assert lines[2:] == ["set       /runs/x/set", "report    /runs/x/report.html", "curve"]


@pytest.mark.parametrize(
    ("overlap", "text"),
    [
        (Overlap(10, 2), "2 of 10 validation images are training images too"),
        (Overlap(10, 0, compared=10, alike=9), "9 of 10 validation images look the same as a training image"),
        (Overlap(10, 0, compared=10), None),
    ],
)
def test_validation_images_that_were_trained_on_are_told(overlap: Overlap, text: str | None) -> None:
    run = Run(overlap=overlap)
    told = [line for line in ending(run).splitlines() if line.startswith("overlap")]
    in_report = environment(run, ()).get("overlap")
    if text is None:
        assert (told, in_report) == ([], None)
    else:
        assert in_report is not None
        assert text in in_report
        assert told == [f"overlap   {in_report}"]


def test_environment() -> None:
    run = Run(machine={"nodes": 2, "gpus": 0.5}, seconds={"write": 1.26})
    found = environment(run, ("torch",), {"labeler": "hard"})
    assert list(found) == ["raycond", "python", "torch", "nodes", "gpus", "labeler", "seconds: write"]
    assert (found["nodes"], found["gpus"], found["seconds: write"]) == ("2", "0.5", "1.3")


def test_failures_beyond_the_first_are_counted() -> None:
    failures = [f"failure {k}" for k in range(MAX_FAILURES + 3)]
    lines = ending(Run(failures=failures)).splitlines()
    assert f"NOT MADE: {MAX_FAILURES + 3} failed" in "\n".join(lines)
    assert lines[-1] == "… and 3 more"
    assert failures[MAX_FAILURES] not in lines
