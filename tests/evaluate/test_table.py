from __future__ import annotations

import random
from pathlib import Path

import pytest

from raycond.errors import UserError
from raycond.evaluate import Row, table


def row(method: str, ipc: int | None, seed: int, top1: float, student: str = "convnet3") -> Row:
    return Row(method, ipc, student, seed, top1, top1 + 0.1, 200, 0.5, 10 * (ipc or 144), "quick")


ROWS = [
    *(row("ddoq", 10, seed, top1) for seed, top1 in enumerate((93.0, 94.0, 95.0))),
    *(row("d4m", 10, seed, top1) for seed, top1 in enumerate((92.5, 93.5, 94.5))),
    *(row("random", 10, seed, top1) for seed, top1 in enumerate((80.0, 81.0, 82.0))),
    *(row("random", 1, seed, top1) for seed, top1 in enumerate((60.0, 64.0, 1 / 3))),
    row("full", None, 0, 97.0),
    row("zeta", 10, 0, 50.0),
]


def test_summary_is_mean_and_sample_deviation_in_table_order() -> None:
    found = table.summarise(random.Random(0).sample(ROWS, len(ROWS)))
    assert [(s.method, s.ipc) for s in found] == [
        ("random", 1), ("random", 10), ("d4m", 10), ("ddoq", 10), ("zeta", 10), ("full", None)
    ]  # fmt: skip
    by_method = {(s.method, s.ipc): s for s in found}
    assert by_method["ddoq", 10].mean == 94.0
    assert by_method["ddoq", 10].std == 1.0
    assert by_method["ddoq", 10].text == "94.0 ± 1.0"
    assert by_method["full", None].std is None
    assert by_method["full", None].text == "97.0"


def test_the_same_seed_twice_is_an_error() -> None:
    with pytest.raises(UserError, match=r"ddoq, IPC 10.*seed 1 stands twice"):
        table.summarise([*ROWS, row("ddoq", 10, 1, 90.0)])


def test_differences_beyond_two_deviations() -> None:
    found = {(c.method, c.other): c for c in table.compare(table.summarise(ROWS))}
    assert set(found) == {("d4m", "random"), ("ddoq", "random"), ("ddoq", "d4m"), ("zeta", "random")}
    clear = found["ddoq", "random"]
    assert (clear.difference, clear.clear) == (13.0, True)
    assert clear.spread == pytest.approx(2**0.5)
    assert found["ddoq", "d4m"].difference == 0.5
    assert found["ddoq", "d4m"].clear is False
    assert found["zeta", "random"].clear is None


def test_csv_reads_back_exactly_and_does_not_depend_on_order(tmp_path: Path) -> None:
    uri = str(tmp_path / "results.csv")
    table.write(uri, ROWS)
    first = Path(uri).read_bytes()
    assert sorted(table.read(uri), key=repr) == sorted(ROWS, key=repr)
    table.write(uri, reversed(ROWS))
    assert Path(uri).read_bytes() == first
    assert first.decode().splitlines()[0] == "method,ipc,student,seed,top1,best,steps,seconds,images,protocol"
    assert first.decode().splitlines()[-1].startswith("full,,convnet3,0,97.0")


def test_an_empty_csv_still_has_its_header(tmp_path: Path) -> None:
    uri = str(tmp_path / "results.csv")
    table.write(uri, [])
    assert Path(uri).read_text() == ",".join(table.COLUMNS) + "\n"
    assert table.read(uri) == []


def test_a_broken_csv_is_named(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    path.write_text("method,ipc\nrandom,1\n")
    with pytest.raises(UserError, match=r"results\.csv.*no column student"):
        table.read(str(path))
    table.write(str(path), ROWS[:2])
    path.write_text(path.read_text().replace("94.0,", "ninety,", 1))
    with pytest.raises(UserError, match=r"results\.csv, line 3.*ninety"):
        table.read(str(path))


def test_text_is_aligned_and_shows_the_full_data_once() -> None:
    text = table.text([*ROWS, row("random", 1, 0, 55.0, student="resnet18")])
    first, second = text.split("\n\n")
    lines = first.splitlines()
    assert lines[0] == "convnet3, protocol quick: top-1 %, last step, mean ± standard deviation over 1 to 3 seeds"
    assert lines[1].split() == ["method", "IPC", "1", "IPC", "10", "all", "images"]
    assert [line.split()[0] for line in lines[2:7]] == ["random", "d4m", "ddoq", "zeta", "full"]
    assert len(lines[1]) == len(lines[6])  # the last column is right-aligned
    assert lines[2].index("81.0 ± 1.0") == lines[4].index("94.0 ± 1.0")
    assert first.count("97.0") == 1
    assert "ddoq against random, IPC 10: +13.0 points, beyond two standard deviations (2.8)" in lines
    assert "ddoq against d4m, IPC 10: +0.5 points, within two standard deviations (2.8)" in lines
    assert "zeta against random, IPC 10: -31.0 points, no verdict: needs at least two seeds of each" in lines
    assert second.startswith("resnet18")
    assert "55.0" in second
