from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raycond.core.errors import UserError
from raycond.evaluate import Row, results, table
from raycond.evaluate.results import Check
from tests.support.methods import SQRT

CURVE = (Check(100, 0.5, 81.0, 1 / 3), Check(200, 1.0, 93.0, 0.125))
ROWS = [
    Row(
        SQRT, 10, "convnet3", 1, 93.0, 93.5, 200, 0.5, 100, "quick",
        set="runs", weights="sqrt", labeler="once:r18", variant="own", memory=7, curve=CURVE,
    ),
    *(Row(SQRT, 10, "convnet3", seed, top1, 94.5, 200, 0.5, 100, "quick") for seed, top1 in enumerate((94.0, 1 / 3))),
    Row("random", 10, "convnet3", 0, 80.0, 80.0, 200, 0.5, 100, "quick", variant="plain"),
    Row("random", 10, "convnet3", 0, 80.0, 80.0, 200, 0.5, 100, "quick", variant="hard"),
    Row("random", 10, "convnet3", 0, 80.0, 80.0, 200, 0.5, 100, "quick"),
    Row("full", None, "convnet3", 0, 97.0, 97.0, 200, 0.5, 1440, "quick"),
]  # fmt: skip
HEADER = "method,ipc,student,seed,top1,best,steps,seconds,images,protocol,set,weights,labeler,variant,memory"


def without_curve(rows: list[Row]) -> list[Row]:
    return sorted((replace(row, curve=()) for row in rows), key=repr)


def test_csv_reads_back_exactly_and_does_not_depend_on_order(tmp_path: Path) -> None:
    uri = str(tmp_path / "results.csv")
    results.write(uri, ROWS)
    first = Path(uri).read_bytes()
    assert sorted(results.read(uri), key=repr) == without_curve(ROWS)
    results.write(uri, reversed(ROWS))
    assert Path(uri).read_bytes() == first
    lines = first.decode().splitlines()
    assert lines[0] == HEADER
    assert [row[0] for row in csv.reader(lines[1:])] == [
        "random", SQRT, SQRT, "full", "random", "random", SQRT
    ]  # fmt: skip
    assert [line.split(",")[-2] for line in lines[5:7]] == ["hard", "plain"]
    assert lines[4] == "full,,convnet3,0,97.0,97.0,200,0.5,1440,quick,,,hard,own,0"


def test_the_table_module_reads_and_writes_too(tmp_path: Path) -> None:
    uri = str(tmp_path / "results.csv")
    table.write(uri, ROWS)
    assert sorted(table.read(uri), key=repr) == without_curve(ROWS)


def test_a_file_without_the_newer_columns_is_read(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    path.write_text(
        "method,ipc,student,seed,top1,best,steps,seconds,images,protocol\nd4m,1,mlp,2,50.5,51,9,1.5,4,quick\n"
    )
    assert results.read(str(path)) == [Row("centroids (uniform)", 1, "mlp", 2, 50.5, 51.0, 9, 1.5, 4, "quick")]


def test_an_empty_csv_still_has_its_header(tmp_path: Path) -> None:
    uri = str(tmp_path / "results.csv")
    results.write(uri, [])
    assert Path(uri).read_text() == HEADER + "\n"
    assert results.read(uri) == []


def test_a_broken_csv_is_named(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    path.write_text("method,ipc\nrandom,1\n")
    with pytest.raises(UserError, match=r"results\.csv.*no column student, seed"):
        results.read(str(path))
    results.write(str(path), ROWS[1:3])
    path.write_text(path.read_text().replace("94.0,", "ninety,", 1))
    with pytest.raises(UserError, match=r"results\.csv, line 2.*ninety"):
        results.read(str(path))


def test_parquet_keeps_the_curves_and_is_the_same_bytes(tmp_path: Path) -> None:
    uri = str(tmp_path / "results.parquet")
    results.write_parquet(uri, ROWS)
    first = Path(uri).read_bytes()
    assert sorted(results.read_parquet(uri), key=repr) == sorted(ROWS, key=repr)
    results.write_parquet(uri, reversed(ROWS))
    assert Path(uri).read_bytes() == first
    schema = pq.read_schema(uri)
    assert schema.names == [*HEADER.split(","), "curve"]
    assert str(schema.field("ipc").type) == "int64"
    assert (
        str(schema.field("curve").type.value_type) == "struct<step: int64, epoch: double, top1: double, loss: double>"
    )


def test_an_empty_parquet_has_its_columns(tmp_path: Path) -> None:
    uri = str(tmp_path / "results.parquet")
    results.write_parquet(uri, [])
    assert results.read_parquet(uri) == []
    assert pq.read_schema(uri).names == [*HEADER.split(","), "curve"]


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: path.write_text("method,ipc"), "cannot be read as Parquet of results"),
        (lambda path: pq.write_table(pa.table({"method": ["a"]}), path), "no column ipc, student"),
    ],
)
def test_what_is_no_parquet_of_results_is_named(tmp_path: Path, write: Callable[[Path], None], message: str) -> None:
    write(tmp_path / "other.parquet")
    with pytest.raises(UserError, match=rf"other\.parquet.*{message}"):
        results.read_parquet(str(tmp_path / "other.parquet"))


def test_rows_come_back_from_plain_data() -> None:
    for row in ROWS:
        plain = json.loads(json.dumps(asdict(row)))
        assert Row.from_dict({**plain, "extra": 1}) == row
    older = {name: value for name, value in asdict(ROWS[-1]).items() if name in results.COLUMNS}
    assert Row.from_dict(older) == ROWS[-1]


FORMULA = "=cmd|' /C calc'!A0"


def test_names_that_a_spreadsheet_would_run_are_kept_from_it_and_read_back(tmp_path: Path) -> None:
    uri = str(tmp_path / "results.csv")
    rows = [
        replace(ROWS[0], method=FORMULA, set="-x", labeler="@y", student="+z", protocol="'q", weights="-5", curve=())
    ]
    results.write(uri, rows)
    assert results.read(uri) == rows
    cells = Path(uri).read_text().splitlines()[1].split(",")
    assert [cell for cell in cells if cell[:1] in "=+-@" and cell[1:] and not cell[1:].isdigit()] == []
    results.write_parquet(str(tmp_path / "results.parquet"), rows)
    assert results.read_parquet(str(tmp_path / "results.parquet")) == rows


def test_names_that_are_no_utf8_are_escaped(tmp_path: Path) -> None:
    uri = str(tmp_path / "results.csv")
    results.write(uri, [replace(ROWS[1], set="caf\udce9")])
    assert results.read(uri)[0].set == "caf\\xe9"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("94.0,", "nan,", 1), "line 2: top1 is nan"),
        (lambda text: text.replace("94.0,", "1e999,", 1), "line 2: top1 is 1e999"),
        (lambda text: text.replace(",convnet3,0", "", 1), "line 2"),
        (lambda text: text + "d4m,1\n", "line 4: no value of student"),
        (lambda text: text.rstrip("\n") + ",1,2\n", "line 3: more values than columns"),
        (lambda text: text + '"unended', "unexpected end of data"),
        (lambda text: text.replace(SQRT, "x" * 200_000, 1), "field larger than field limit"),
        (lambda text: text.replace("100,", "9" * 5000 + ",", 1), "line 2"),
        (lambda text: text.replace(",0,", ",0.5,", 1), "line 2"),
        (lambda _: "", "no column method"),
    ],
)
def test_a_csv_with_something_wrong_in_it_is_named(tmp_path: Path, change: Callable[[str], str], message: str) -> None:
    path = tmp_path / "results.csv"
    results.write(str(path), ROWS[1:3])
    path.write_text(change(path.read_text()))
    with pytest.raises(UserError, match=rf"results\.csv.*{message}"):
        results.read(str(path))


@pytest.mark.parametrize("read", [results.read, results.read_parquet])
def test_places_that_are_no_file_of_results(tmp_path: Path, read: Callable[[str], list[Row]]) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read(str(tmp_path / "none"))
    (tmp_path / "latin").write_bytes(b"caf\xe9")
    with pytest.raises(UserError, match="latin"):
        read(str(tmp_path / "latin"))
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(UserError, match=r"cannot be read: (Is a directory|not a regular file)"):
            read(str(place))


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.set_column(4, "top1", pa.array(["x"] * len(t))),
        lambda t: t.set_column(4, "top1", pa.array([None] * len(t), pa.float64())),
        lambda t: t.set_column(15, "curve", pa.array([[5]] * len(t))),
        lambda t: t.append_column("method", t["method"]),
        lambda t: t.set_column(0, "method", pa.array([b"caf\xe9"] * len(t)).view(pa.string())),
    ],
)
def test_a_parquet_of_other_kinds_is_named(tmp_path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    path = str(tmp_path / "results.parquet")
    results.write_parquet(path, ROWS)
    pq.write_table(change(pq.read_table(path)), path)
    with pytest.raises(UserError, match=r"results\.parquet: cannot be read as Parquet of results"):
        results.read_parquet(path)


def test_accuracy_of_regression_has_a_column_only_where_there_is_one(tmp_path: Path) -> None:
    rows = [replace(ROWS[3], krr_top1=81.5), ROWS[6]]
    uri = str(tmp_path / "results")
    results.write(f"{uri}.csv", rows)
    results.write_parquet(f"{uri}.parquet", rows)
    lines = Path(f"{uri}.csv").read_text().splitlines()
    assert lines[0] == f"{HEADER},krr_top1"
    assert {line.rpartition(",")[2] for line in lines[1:]} == {"81.5", ""}
    assert sorted(results.read(f"{uri}.csv"), key=repr) == without_curve(rows)
    assert sorted(results.read_parquet(f"{uri}.parquet"), key=repr) == sorted(rows, key=repr)
