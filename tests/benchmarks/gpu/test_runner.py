from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.gpu import __main__ as program
from benchmarks.gpu import results, runner
from benchmarks.gpu.__main__ import main
from benchmarks.gpu.context import Context
from benchmarks.gpu.part import Part
from benchmarks.gpu.record import PartRecord, Record
from benchmarks.gpu.runner import Run, load, recorded, summary

Work = Callable[[Context], None]


@pytest.fixture(autouse=True)
def _just_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """The budget runs from the start of the program, which for these tests is that of the whole test run."""
    monkeypatch.setattr(program, "BEGAN", time.perf_counter())


def good(context: Context) -> None:
    context.check("sum", 0.5, 1.0, "error")
    context.figure("speed", "m/s", [1.0, 2.0, 4.0], {"size": 3})


def bad(context: Context) -> None:
    context.check("product", 2.0, 1.0, "error")


def broken(context: Context) -> None:
    good(context)
    raise ZeroDivisionError("in the middle")


def needy(_: Context) -> None:
    raise ModuleNotFoundError("No module named 'elsewhere'", name="elsewhere.inside")


def torn(_: Context) -> None:
    raise ModuleNotFoundError("No module named 'raycond.moved'", name="raycond.moved")


def run(
    out: Path, works: Mapping[str, Work], *, budget: float = 100, least: float = 1, spent: float = 0, tiny: bool = False
) -> Record:
    context = Context(torch.device("cpu"), tiny=tiny, scratch=out)

    def find(record: PartRecord) -> Part:
        record.title = f"title of {record.name}"
        return Part(record.title, seconds=10, least=least, run=works[record.name])

    return Run(list(works), context, out, budget, time.perf_counter() - spent).all(find)


def states(record: Record) -> dict[str, str]:
    return {part.name: part.state for part in record.parts}


def test_a_part_that_raises_keeps_what_it_had_and_the_next_goes_on(tmp_path: Path) -> None:
    record = run(tmp_path, {"first": broken, "second": good})
    assert states(record) == {"first": "failed", "second": "done"}
    assert record.failed
    kept = results.read(tmp_path).parts
    assert [(len(part.checks), len(part.figures)) for part in kept] == [(1, 1), (1, 1)]
    assert kept[0].reason.startswith("Traceback")
    assert kept[0].reason.endswith("ZeroDivisionError: in the middle")
    page = (tmp_path / "GPU.md").read_text()
    assert "ZeroDivisionError: in the middle" in page
    assert "title of second" in page
    assert "part failed: first: ZeroDivisionError: in the middle" in summary(record)


def test_a_failed_check_fails_the_run(tmp_path: Path) -> None:
    assert not run(tmp_path / "a", {"first": good}).failed
    record = run(tmp_path / "b", {"first": good, "second": bad})
    assert states(record) == {"first": "done", "second": "done"}
    assert record.failed
    assert "Failed: product." in (tmp_path / "b" / "GPU.md").read_text()
    assert "check failed: product: error 2, limit 1" in summary(record)


def test_a_missing_package_is_named_and_fails_nothing_but_a_missing_module_of_ours_does(tmp_path: Path) -> None:
    record = run(tmp_path, {"first": needy})
    assert states(record) == {"first": "skipped"}
    assert not record.failed
    assert "Part `first` is skipped: needs elsewhere.inside, which is not here." in (tmp_path / "GPU.md").read_text()
    assert states(run(tmp_path, {"first": torn})) == {"first": "failed"}


def test_what_does_not_fit_into_the_budget_is_named(tmp_path: Path) -> None:
    lefts: list[float] = []

    def work(context: Context) -> None:
        lefts.append(context.left)

    works = dict.fromkeys(("first", "second", "third"), work)
    record = run(tmp_path, works, budget=300, least=90)
    assert states(record) == dict.fromkeys(works, "done")
    assert lefts == pytest.approx([100, 150, 300], abs=15)  # what a part leaves is shared by those that follow
    record = run(tmp_path, works, budget=300, least=90, spent=100)
    assert states(record) == {"first": "skipped", "second": "done", "third": "done"}
    record = run(tmp_path, works, budget=300, least=90, spent=400)
    assert states(record) == dict.fromkeys(works, "skipped")
    assert not record.failed
    assert "Part `first` is skipped: the budget leaves 0 s, and it needs 90 s." in (tmp_path / "GPU.md").read_text()
    assert "part skipped: third: the budget leaves 0 s, and it needs 90 s" in summary(record)


def test_files_are_written_before_and_after_every_part(tmp_path: Path) -> None:
    seen: list[dict[str, str]] = []

    def look(_: Context) -> None:
        parts = json.loads((tmp_path / "gpu.json").read_text())["parts"]
        seen.append({part["name"]: part["state"] for part in parts})

    run(tmp_path, {"first": look, "second": look})
    assert seen == [{"first": "running", "second": "waiting"}, {"first": "done", "second": "running"}]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["GPU.md", "gpu.json"]


@pytest.mark.parametrize(("work", "code"), [(good, 0), (bad, 1), (broken, 1), (needy, 0)])
def test_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: Work, code: int) -> None:
    monkeypatch.setattr(runner, "load", lambda _: Part("", seconds=1, least=0, run=work))
    assert main(["--tiny", "--out", str(tmp_path), "--only", "device"]) == code
    assert [part.name for part in results.read(tmp_path).parts] == ["device"]


def test_a_budget_that_is_too_small_names_what_was_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(runner, "load", lambda _: Part("", seconds=1, least=0, run=good))
    assert main(["--tiny", "--out", str(tmp_path), "--only", "device", "codec", "--budget", "0"]) == 0
    assert "part skipped: device" in (printed := capsys.readouterr().out)
    assert "part skipped: codec" in printed


def test_parts_that_cannot_be_imported_fail_alone() -> None:
    record = PartRecord("no_such_part")
    assert load(record) is None
    assert record.state == "failed"
    assert "No module named 'benchmarks.gpu.parts.no_such_part'" in record.reason


def test_a_keyboard_interrupt_ends_the_run() -> None:
    with pytest.raises(KeyboardInterrupt), recorded(PartRecord("x")):
        raise KeyboardInterrupt
