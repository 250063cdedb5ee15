from __future__ import annotations

import random
import re
from dataclasses import replace
from typing import Any

import pytest
from scipy import stats

from raycond.core.errors import UserError
from raycond.evaluate import Row, table
from tests.support.methods import DENSITY, MEDOIDS_SQRT, MEDOIDS_UNIFORM, SQRT, UNIFORM


def row(method: str, ipc: int | None, seed: int, top1: float, student: str = "convnet3") -> Row:
    return Row(method, ipc, student, seed, top1, top1 + 0.1, 200, 0.5, 10 * (ipc or 144), "quick")


ROWS = [
    *(row(SQRT, 10, seed, top1) for seed, top1 in enumerate((93.0, 94.0, 95.0))),
    *(row(UNIFORM, 10, seed, top1) for seed, top1 in enumerate((93.0, 92.8, 94.7))),
    *(row("random", 10, seed, top1) for seed, top1 in enumerate((80.0, 81.0, 82.0))),
    *(row("random", 1, seed, top1) for seed, top1 in enumerate((60.0, 64.0, 1 / 3))),
    row("full", None, 0, 97.0),
    row("zeta", 10, 0, 50.0),
]


def test_summary_is_mean_and_sample_deviation_in_table_order() -> None:
    found = table.summarize(random.Random(0).sample(ROWS, len(ROWS)))
    assert [(s.method, s.ipc) for s in found] == [
        ("random", 1), ("random", 10), (UNIFORM, 10), (SQRT, 10), ("zeta", 10), ("full", None)
    ]  # fmt: skip
    by_method = {(s.method, s.ipc): s for s in found}
    assert by_method[SQRT, 10].mean == 94.0
    assert by_method[SQRT, 10].std == 1.0
    assert by_method[SQRT, 10].text == "94.0 ± 1.0"
    assert by_method["full", None].std is None
    assert by_method["full", None].text == "97.0"


def test_the_same_seed_twice_is_an_error() -> None:
    with pytest.raises(UserError, match=r"\(vae, sqrt\), IPC 10.*seed 1 stands twice"):
        table.summarize([*ROWS, row(SQRT, 10, 1, 90.0)])


def test_differences_are_tested_in_pairs_of_equal_seeds() -> None:
    found = {(c.method, c.other): c for c in table.compare(table.summarize(ROWS))}
    assert set(found) == {(UNIFORM, "random"), (SQRT, "random"), (SQRT, UNIFORM), ("zeta", "random")}
    clear = found[SQRT, "random"]
    assert (clear.difference, clear.pairs, clear.p, clear.clear) == (13.0, 3, 0.0, True)
    assert clear.spread == pytest.approx(2**0.5)
    doubtful = found[SQRT, UNIFORM]
    assert doubtful.difference == pytest.approx(0.5)
    expected = stats.ttest_rel((93.0, 94.0, 95.0), (93.0, 92.8, 94.7)).pvalue
    assert doubtful.p == pytest.approx(expected)
    assert doubtful.clear is False
    assert (found["zeta", "random"].pairs, found["zeta", "random"].clear) == (1, None)


def test_seeds_that_only_one_side_has_are_no_pairs() -> None:
    rows = [row("random", 10, seed, 50.0 + seed) for seed in (0, 1, 2, 5)]
    rows += [row(SQRT, 10, seed, top1) for seed, top1 in ((1, 60.0), (2, 60.5), (3, 70.0), (5, 66.0))]
    (found,) = table.compare(table.summarize(rows))
    assert found.pairs == 3
    assert found.p == pytest.approx(stats.ttest_rel((60.0, 60.5, 66.0), (51.0, 52.0, 55.0)).pvalue)


@pytest.mark.parametrize(("noise", "clear"), [(0.1, True), (3.0, False)])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_difference_is_clear_below_the_level(noise: float, clear: bool, sign: int) -> None:
    rows = [row("random", 10, seed, 50.0 + 4 * seed) for seed in range(3)]
    rows += [row(SQRT, 10, seed, 50.0 + 4 * seed + 2 * sign + noise * (seed - 1)) for seed in range(3)]
    (found,) = table.compare(table.summarize(rows))
    assert found.clear is clear
    assert table.sentences([found])[0].partition(" points, ")[2].startswith("clear: p" if clear else "not clear: p")


@pytest.mark.parametrize(("seeds", "clear"), [(1, None), (2, None), (3, True)])
def test_better_is_said_from_three_equal_seeds_on(seeds: int, clear: bool | None) -> None:
    """Two seeds may agree by chance."""
    rows = [row("random", 10, seed, 50.0 + 0.01 * seed) for seed in range(seeds)]
    rows += [row(SQRT, 10, seed, 90.0 + 0.01 * seed**2) for seed in range(3)]
    (found,) = table.compare(table.summarize(rows))
    assert found.clear is clear
    assert (found.spread is None) == (seeds == 1)
    assert ("no verdict" in table.sentences([found])[0]) == (clear is None)


def test_deviations_are_divided_as_the_source_of_the_protocol_does() -> None:
    published = [replace(r, protocol="minimax-hard") for r in ROWS[:3]]
    (found,) = table.summarize(published)
    assert found.std == pytest.approx((2 / 3) ** 0.5)
    assert "mean ± standard deviation (n) over 3 seeds" in table.text(published)
    assert table.divisor_of("/somewhere/own.yaml") == "n - 1"


def test_best_of_checks_is_summarized_beside_the_last() -> None:
    found = next(s for s in table.summarize(ROWS) if s.method == SQRT)
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
    names = ("random", UNIFORM, SQRT, DENSITY, f"{MEDOIDS_UNIFORM} [b]", f"{MEDOIDS_SQRT} [b]", "dm")
    rows = [row(name, 1, seed, 50.0 + k) for k, name in enumerate(names) for seed in range(2)]
    found = {(c.method, c.other): c.difference for c in table.compare(table.summarize(rows))}
    assert {pair: d for pair, d in found.items() if pair[1] != "random"} == {
        (SQRT, UNIFORM): 1.0,
        (DENSITY, UNIFORM): 2.0,
        (f"{MEDOIDS_SQRT} [b]", f"{MEDOIDS_UNIFORM} [b]"): 1.0,
    }
    assert {method for method, other in found if other == "random"} == set(names[1:])


def test_text_is_aligned_and_shows_the_full_data_once() -> None:
    text = table.text([*ROWS, row("random", 1, 0, 55.0, student="resnet18")])
    legend, first, second = text.split("\n\n")
    lines = first.splitlines()
    assert legend.splitlines()[0] == "IPC: images per class. The methods are"
    assert re.split(r"  +", legend.splitlines()[1]) == ["", "random", "real images drawn at random"]
    assert "codebook" in legend  # what decoded centroids are
    assert "zeta" not in legend  # nobody knows what that is
    assert (
        lines[0] == "convnet3, protocol quick: top-1 %, last step, mean ± standard deviation (n - 1) over 1 to 3 seeds"
    )
    assert lines[1].split() == ["method", "IPC", "1", "IPC", "10", "all", "images"]
    assert [re.split(r"  +", line)[0] for line in lines[2:7]] == ["random", UNIFORM, SQRT, "zeta", "full"]
    assert len(lines[1]) == len(lines[6])  # the last column is right-aligned
    assert lines[2].index("81.0 ± 1.0") == lines[4].index("94.0 ± 1.0")
    assert first.count("97.0") == 1
    test = "in a paired t-test on 3 seeds; two standard deviations are"
    assert f"{SQRT} against random, IPC 10: +13.0 points, clear: p < 0.001 {test} 2.8" in lines
    assert f"{SQRT} against {UNIFORM}, IPC 10: +0.5 points, not clear: p = 0.3 {test} 2.9" in lines
    assert "zeta against random, IPC 10: -31.0 points, no verdict: needs at least 3 equal seeds of both" in lines
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
    names = ("random", UNIFORM, SQRT, DENSITY)
    rows = [
        row(name, ipc, seed, 50.0 + 10 * k + seed)
        for k, name in enumerate(names) for ipc in (1, 10, 50) for seed in range(3)
    ]  # fmt: skip
    lines = table.text(rows).split("\n\n")[1].splitlines()
    assert re.split(r"  +", lines[6]) == [
        "points; * p below 0.05 in a paired t-test on equal seeds",
        "IPC 1",
        "IPC 10",
        "IPC 50",
    ]
    assert re.split(r"  +", lines[7]) == [f"{UNIFORM} against random", "+10.0*", "+10.0*", "+10.0*"]
    assert lines[9].startswith(f"{SQRT} against {UNIFORM}")
    assert len(lines) == 12


def test_names_from_folders_are_shown_on_one_line() -> None:
    name = "decoded centroids (vae, uniform) [a\x1b[31m\nb]"
    rows = [row(method, ipc, seed, 50.0 + seed) for method in ("random", name) for ipc in (1, 2) for seed in range(2)]
    lines = table.text([replace(r, student="x\ny", labeler="\u202e") for r in rows]).splitlines()
    assert len(lines) == 10
    assert all(line.isprintable() for line in lines)
    assert "decoded centroids (vae, uniform) [a\\x1b[31m\\nb]" in lines[2]
    assert "decoded centroids (vae, uniform) [a\\x1b[31m\\nb]" in lines[7]
