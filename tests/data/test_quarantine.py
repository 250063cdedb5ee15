"""Quarantine files and the limit of bad images."""

from __future__ import annotations

from pathlib import Path

import pytest

from raycond.core.errors import UserError
from raycond.data import quarantine
from raycond.data.quarantine import BadRecord, Limit
from raycond.data.refs import ImageRef

RECORDS = [
    BadRecord("b.png", 1, "n2", "/x/b.png", "empty (0 bytes)"),
    BadRecord.of(ImageRef("a.png", 0, "/x/a.png"), "n1", "missing file"),
    BadRecord("c", -1, "", "/x/c.tar", "no label"),
]


def test_same_records_same_bytes_in_any_order(tmp_path: Path) -> None:
    one, two = str(tmp_path / "1.parquet"), str(tmp_path / "sub" / "2.parquet")
    quarantine.write(one, RECORDS)
    quarantine.write(two, [*reversed(RECORDS), RECORDS[0]])
    assert Path(one).read_bytes() == Path(two).read_bytes()
    assert quarantine.read(one) == sorted(RECORDS)


def test_no_records_are_a_table_with_the_same_columns(tmp_path: Path) -> None:
    import pandas as pd

    quarantine.write(str(tmp_path / "q.parquet"), iter([]))
    assert quarantine.read(str(tmp_path / "q.parquet")) == []
    assert list(pd.read_parquet(tmp_path / "q.parquet").columns) == list(BadRecord._fields)


def test_an_older_file_does_not_outlive_its_reason(tmp_path: Path) -> None:
    place = tmp_path / "q.parquet"
    quarantine.update(str(place), set())
    assert not place.exists()
    quarantine.update(str(place), set(RECORDS))
    assert quarantine.read(str(place)) == sorted(RECORDS)
    quarantine.update(str(place), set())
    assert quarantine.read(str(place)) == []


def test_too_many() -> None:
    quarantine.require_few("q.parquet", RECORDS, 7, "30%")
    with pytest.raises(UserError, match=r"3 bad images, more than --max-bad 2 allows; .* q.parquet. The first:\n  /x/"):
        quarantine.require_few("q.parquet", RECORDS, 7, "2")


def test_remote() -> None:
    quarantine.write("memory://test-quarantine/q.parquet", RECORDS)
    assert quarantine.read("memory://test-quarantine/q.parquet") == sorted(RECORDS)


@pytest.mark.parametrize(
    ("text", "bad", "total", "over"),
    [
        ("10", 10, 10, False),
        ("10", 11, 1000, True),
        ("0", 1, 1000, True),
        ("0", 0, 0, False),
        ("1%", 1, 100, False),
        ("1%", 2, 100, True),
        ("0.1%", 1, 1000, False),  # exactly the limit, which binary floats would miss
        ("0.1%", 2, 1000, True),
        ("0%", 1, 10**9, True),
        ("100%", 9, 9, False),
        ("none", 10**9, 10**9, False),
        (None, 5, 5, False),
        (3, 4, 10, True),
    ],
)
def test_limit(text: str | int | None, bad: int, total: int, over: bool) -> None:
    assert Limit.parse(text).exceeded(bad, total) is over


@pytest.mark.parametrize("text", ["", "ten", "-1", "1.5", "101%", "-1%", "%", "1%%", ".%", "1e3", "nan%", "²"])
def test_nonsense_limits(text: str) -> None:
    with pytest.raises(UserError, match="limit of bad images"):
        Limit.parse(text)


@pytest.mark.parametrize(
    ("text", "shown"), [(" 10 ", "10"), ("1 %", "1%"), ("0.5%", "0.5%"), ("None", "none"), (7, "7")]
)
def test_text_parses_to_the_same_limit(text: str | int, shown: str) -> None:
    limit = Limit.parse(text)
    assert limit.text == shown
    assert Limit.parse(limit.text) == limit


@pytest.mark.parametrize(
    ("image_id", "uri", "place"),
    [
        ("a/1.jpg", "/data/a/1.jpg", "/data/a/1.jpg"),
        ("x.tar/1.jpg", "/data/x.tar", "x.tar/1.jpg in /data/x.tar"),
        ("train.parquet/00000004", "packs/12.bin", "train.parquet/00000004 in packs/12.bin"),
    ],
)
def test_where_to_look_for_a_bad_image(image_id: str, uri: str, place: str) -> None:
    assert BadRecord(image_id, 0, "a", uri, "empty").place == place
