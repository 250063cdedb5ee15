"""A fixed number of damaged inputs for every reader; `python -m tests.fuzz` runs as many as one likes."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from raycond.core.errors import UserError
from tests.fuzz.damage import damaged
from tests.fuzz.reader import Reader, all_readers
from tests.fuzz.run import input_of, run


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("reader", all_readers().values(), ids=lambda reader: reader.name)
def test_damage_is_an_error_of_ours_or_no_harm(reader: Reader, tmp_path: Path) -> None:
    for seed in reader.seeds():
        reader.read(seed, tmp_path)  # sound inputs are read
    findings = list(run(reader, range(reader.in_tests), 0, tmp_path))
    assert findings == []


@pytest.mark.parametrize(("name", "seed", "number"), [("parquet", 27, 891), ("idx", 27, 23178)])
def test_inputs_on_which_a_reader_failed_once(name: str, seed: int, number: int, tmp_path: Path) -> None:
    assert list(run(all_readers()[name], range(number, number + 1), seed, tmp_path)) == []


def test_inputs_are_the_same_on_every_machine_and_differ(tmp_path: Path) -> None:
    reader = Reader("x", lambda: [b"abcdefgh" * 20], lambda data, folder: None)
    assert input_of(reader, 1, 7) == input_of(reader, 1, 7) == damaged(reader.seeds(), Random("1 x 7"))
    assert len({input_of(reader, 1, k) for k in range(200)}) > 150


def test_what_is_found(tmp_path: Path) -> None:
    def read(data: bytes, folder: Path) -> None:
        if len(data) % 3 == 0:
            raise KeyError("x")
        if len(data) % 3 == 1:
            raise UserError("known")

    reader = Reader("x", lambda: [b"abcdefgh" * 20], read)
    found = list(run(reader, range(60), 0, tmp_path))
    assert 0 < len(found) < 60
    assert all("KeyError" in finding.error for finding in found)


def test_what_takes_too_long_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.fuzz.run.SECONDS", 0.05)

    def read(data: bytes, folder: Path) -> None:
        while True:
            try:
                while True:
                    pass
            except Exception:
                pass

    reader = Reader("x", lambda: [b"abc"], read)
    assert [finding.error for finding in run(reader, range(1), 0, tmp_path)] == ["takes more than 0 s"]
