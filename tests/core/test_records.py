"""A unit is done if its record has the expected fingerprint and its output the recorded digest."""

from __future__ import annotations

from pathlib import Path

import pytest

from raycond.core import files, records


@pytest.fixture(params=["local", "memory"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "a" / "unit.bin") if request.param == "local" else f"memory://{tmp_path.name}/unit.bin"


def test_facts_come_back_with_what_the_output_is(output: str) -> None:
    facts = records.finish(output, "f", b"data", images=3, share=0.1)
    assert facts == {"bytes": 4, "sha256": files.sha256(b"data"), "images": 3, "share": 0.1}
    assert records.find(output, "f") == facts
    assert files.read_bytes(output) == b"data"


def test_other_fingerprint_is_not_done(output: str) -> None:
    records.finish(output, "f", b"data")
    assert records.find(output, "g") is None
    assert records.find(output + "2", "f") is None


@pytest.mark.parametrize("data", [b"dat", b"", b"date", b"data and more"])
def test_other_output_is_not_done(output: str, data: bytes) -> None:
    records.finish(output, "f", b"data")
    files.write_bytes(output, data)
    assert records.find(output, "f") is None


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'"f"', b"null", b"\xff\xfe\x00", b'{"fingerprint": "f"}'])
def test_damaged_record_is_not_done(output: str, data: bytes) -> None:
    records.finish(output, "f", b"data")
    files.write_bytes(records.record_of(output), data)
    assert records.find(output, "f") is None


def test_output_without_record_is_not_done(output: str) -> None:
    records.finish(output, "f", b"data")
    files.delete(records.record_of(output))
    assert records.find(output, "f") is None


def test_record_without_output_stands_for_itself(output: str) -> None:
    records.finish(output, "f", None, row={"top1": 1.5})
    assert records.find(output, "f") == {"row": {"top1": 1.5}}


def test_measured_gives_what_finish_writes(output: str) -> None:
    facts = records.finish(output, "f", b"x" * 100_000)
    assert records.measured(output) == facts
    folder, name = output.rsplit("/", 1)
    assert records.all_whole(folder, {name: facts})
    assert not records.all_whole(folder, {name: facts, "other": facts})


def test_fingerprint_tells_parts_apart() -> None:
    assert records.fingerprint(a=1, b=2) == records.fingerprint(b=2, a=1)
    assert records.fingerprint(a=1) != records.fingerprint(a="1")
    assert records.fingerprint(a=1) != records.fingerprint(b=1)
