from __future__ import annotations

import random
import re
from dataclasses import replace
from typing import Any

import pytest

from raycond.core.errors import UserError
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
    found = table.summarize(random.Random(0).sample(ROWS, len(ROWS)))
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
        table.summarize([*ROWS, row("ddoq", 10, 1, 90.0)])


def test_differences_beyond_two_deviations() -> None:
    found = {(c.method, c.other): c for c in table.compare(table.summarize(ROWS))}
    assert set(found) == {("d4m", "random"), ("ddoq", "random"), ("ddoq", "d4m"), ("zeta", "random")}
    clear = found["ddoq", "random"]
    assert (clear.difference, clear.clear) == (13.0, True)
    assert clear.spread == pytest.approx(2**0.5)
    assert found["ddoq", "d4m"].difference == 0.5
    assert found["ddoq", "d4m"].clear is False
    assert found["zeta", "random"].clear is None


@pytest.mark.parametrize(("factor", "clear"), [(1.6, False), (1.99, False), (2.01, True), (2.4, True)])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_difference_is_clear_beyond_two_deviations_of_a_difference(factor: float, clear: bool, sign: int) -> None:
    """Both sides deviate by 1, so a difference of two runs deviates by the square root of 2."""
    apart = sign * factor * 2**0.5
    rows = [row("random", 10, seed, 79.0 + seed) for seed in range(3)]
    rows += [row("ddoq", 10, seed, 79.0 + seed + apart) for seed in range(3)]
    (found,) = table.compare(table.summarize(rows))
    assert found.spread == pytest.approx(2**0.5)
    assert found.clear is clear
    assert ("beyond" if clear else "within") + " two standard deviations (2.8)" in table.sentences([found])[0]


@pytest.mark.parametrize(("seeds", "clear"), [(1, None), (2, None), (3, True)])
def test_better_is_said_from_three_seeds_on(seeds: int, clear: bool | None) -> None:
    """Two seeds may agree by chance: their deviation says too little."""
    rows = [row("random", 10, seed, 50.0 + 0.01 * seed) for seed in range(seeds)]
    rows += [row("ddoq", 10, seed, 90.0 + 0.01 * seed) for seed in range(3)]
    (found,) = table.compare(table.summarize(rows))
    assert found.clear is clear
    assert (found.spread is None) == (seeds == 1)
    assert ("no verdict" in table.sentences([found])[0]) == (clear is None)


def test_best_of_checks_is_summarized_beside_the_last() -> None:
    found = next(s for s in table.summarize(ROWS) if s.method == "ddoq")
    assert (found.best_mean, found.best_std) == (pytest.approx(94.1), pytest.approx(1.0))
    assert found.best_text == "94.1 ± 1.0"
    assert found.n == 3


def test_groups_do_not_mix_and_a_seed_may_stand_once_in_each() -> None:
    changes: list[dict[str, Any]] = [
        {}, {"labeler": "teacher:r18"}, {"variant": "plain"}, {"variant": "hard"}, {"protocol": "rded"}
    ]  # fmt: skip
    rows = [replace(r, top1=r.top1 - k, **change) for k, change in enumerate(changes) for r in ROWS[:3]]
    found = table.summarize(rows)
    assert [s.group[:3] for s in found] == [
        ("quick", "hard", "own"),
        ("quick", "hard", "hard"),
        ("quick", "hard", "plain"),
        ("quick", "teacher:r18", "own"),
        ("rded", "hard", "own"),
    ]
    assert [s.mean for s in found] == [94.0, 91.0, 92.0, 93.0, 90.0]
    random_elsewhere = [replace(r, variant="hard") for r in ROWS if r.method == "random"]
    assert table.compare(table.summarize([*ROWS[:3], *random_elsewhere])) == []


def test_weighted_sets_are_compared_with_their_uniform_twins() -> None:
    names = ("random", "d4m vae", "ddoq vae sqrt", "ddoq vae density", "d4m medoid [b]", "ddoq medoid sqrt [b]", "dm")
    rows = [row(name, 1, seed, 50.0 + k) for k, name in enumerate(names) for seed in range(2)]
    found = {(c.method, c.other): c.difference for c in table.compare(table.summarize(rows))}
    assert {pair: d for pair, d in found.items() if pair[1] != "random"} == {
        ("ddoq vae sqrt", "d4m vae"): 1.0,
        ("ddoq vae density", "d4m vae"): 2.0,
        ("ddoq medoid sqrt [b]", "d4m medoid [b]"): 1.0,
    }
    assert {method for method, other in found if other == "random"} == set(names[1:])


def test_text_is_aligned_and_shows_the_full_data_once() -> None:
    text = table.text([*ROWS, row("random", 1, 0, 55.0, student="resnet18")])
    legend, first, second = text.split("\n\n")
    lines = first.splitlines()
    assert legend.splitlines()[0] == "IPC: images per class. The methods are"
    assert re.split(r"  +", legend.splitlines()[1]) == ["", "random", "real images drawn at random"]
    assert "codebook" in legend  # what d4m is
    assert "zeta" not in legend  # nobody knows what that is
    assert lines[0] == "convnet3, protocol quick: top-1 %, last step, mean ± standard deviation over 1 to 3 seeds"
    assert lines[1].split() == ["method", "IPC", "1", "IPC", "10", "all", "images"]
    assert [line.split()[0] for line in lines[2:7]] == ["random", "d4m", "ddoq", "zeta", "full"]
    assert len(lines[1]) == len(lines[6])  # the last column is right-aligned
    assert lines[2].index("81.0 ± 1.0") == lines[4].index("94.0 ± 1.0")
    assert first.count("97.0") == 1
    assert "ddoq against random, IPC 10: +13.0 points, beyond two standard deviations (2.8)" in lines
    assert "ddoq against d4m, IPC 10: +0.5 points, within two standard deviations (2.8)" in lines
    assert "zeta against random, IPC 10: -31.0 points, no verdict: needs at least 3 seeds of each" in lines
    assert second.startswith("resnet18")
    assert "55.0" in second


def test_text_shows_the_own_variant_and_names_the_labeler() -> None:
    rows = [replace(r, labeler="once:r18") for r in ROWS[:3]]
    text = table.text([*rows, *(replace(r, variant="hard", top1=1.0) for r in rows)])
    assert text.split("\n\n")[1].startswith("convnet3, protocol quick, labels once:r18: top-1 %")
    assert table.text(rows, differences=False).startswith("convnet3, protocol quick, labels once:r18: top-1 %")
    assert "94.0 ± 1.0" in text
    assert "1.0 ± 0.0" not in text
    assert "1.0 ± 0.0" in table.text([replace(r, variant="hard", top1=1.0) for r in rows], variant="hard")
    assert table.text([]) == ""


def test_many_differences_are_a_table() -> None:
    names = ("random", "d4m vae", "ddoq vae sqrt", "ddoq vae density")
    rows = [
        row(name, ipc, seed, 50.0 + 10 * k + seed)
        for k, name in enumerate(names) for ipc in (1, 10, 50) for seed in range(3)
    ]  # fmt: skip
    lines = table.text(rows).split("\n\n")[1].splitlines()
    assert re.split(r"  +", lines[6]) == ["points; * beyond two standard deviations", "IPC 1", "IPC 10", "IPC 50"]
    assert lines[7].split() == ["d4m", "vae", "against", "random", "+10.0*", "+10.0*", "+10.0*"]
    assert lines[9].startswith("ddoq vae sqrt against d4m vae")
    assert len(lines) == 12


def test_names_from_folders_are_shown_on_one_line() -> None:
    name = "d4m vae [a\x1b[31m\nb]"
    rows = [row(method, ipc, seed, 50.0 + seed) for method in ("random", name) for ipc in (1, 2) for seed in range(2)]
    lines = table.text([replace(r, student="x\ny", labeler="\u202e") for r in rows]).splitlines()
    assert len(lines) == 10
    assert all(line.isprintable() for line in lines)
    assert "d4m vae [a\\x1b[31m\\nb]" in lines[2]
    assert "d4m vae [a\\x1b[31m\\nb]" in lines[7]
