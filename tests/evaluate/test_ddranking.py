from __future__ import annotations

import math

import pytest

from raycond.core.errors import UserError
from raycond.evaluate import ddranking
from raycond.evaluate.table import Row
from tests.support.methods import UNIFORM

# the CIFAR-10 rows of the leaderboard (Hugging Face space logits/DD-Ranking): HLR, IOR in percent, and LRS where it is
# known, computed from fractions
LEADERBOARD = [
    ("DC", 1, 52.66, 12.40, 19.1),
    ("DSA", 1, 58.93, 13.16, 18.2),
    ("DM", 1, 61.37, 8.73, 17.0),
    ("MTT", 1, 42.21, 27.62, 23.9),
    ("MTT", 10, 23.73, 30.90, 28.4),
    ("MTT", 50, 16.52, 20.52, 27.8),
    ("DATM", 10, 26.84, 35.05, 28.7),
    ("DATM", 50, 18.89, 23.89, 28.0),
    ("SRe2L", 1, 69.86, -0.27, 14.3),
    ("SRe2L", 10, 67.82, -5.77, 13.8),
    ("RDED", 1, 60.58, 2.38, 16.2),
    ("RDED", 10, 50.65, 1.11, 17.6),
    ("D4M", 1, 51.06, 6.68, 18.4),
]


def row(method: str, top1: float, seed: int = 0, labeler: str = "hard", variant: str = "own", ipc: int = 10) -> Row:
    return Row(
        method,
        None if method == "full" else ipc,
        "convnet3",
        seed,
        top1,
        top1 + 1,
        200,
        0.5,
        100,
        "quick",
        labeler=labeler,
        variant=variant,
    )


@pytest.mark.parametrize(("hlr", "ior", "expected"), [entry[2:] for entry in LEADERBOARD])
def test_leaderboard(hlr: float, ior: float, expected: float) -> None:
    assert 100 * ddranking.lrs(hlr / 100, ior / 100) == pytest.approx(expected, abs=0.05)


def test_formulas() -> None:
    assert ddranking.hlr(0.9, 0.3) == pytest.approx(0.6)
    assert ddranking.ior(0.9, 0.3) == pytest.approx(0.6)
    assert 100 * ddranking.lrs(0.5266, 0.1240) == pytest.approx(19.1, abs=0.05)  # DC, CIFAR-10, IPC 1
    assert 100 * ddranking.lrs(0, 0) == pytest.approx(26.9, abs=0.05)
    assert (ddranking.lrs(1, -1), ddranking.lrs(-1, 1)) == (pytest.approx(0), pytest.approx(1))
    assert ddranking.lrs(0.2, 0.7, weight=1) == pytest.approx(ddranking.lrs(0.9, 0.7, weight=1))
    assert ddranking.ars(0, 0) == pytest.approx(ddranking.lrs(0, 0))
    assert ddranking.ars(0.3, 0.1) == pytest.approx((math.exp(0.2) - math.exp(-1)) / (math.e - math.exp(-1)))


def test_hard_labels_seed_by_seed() -> None:
    rows = [
        *(row("full", top1, seed) for seed, top1 in enumerate((90.0, 92.0))),
        *(row("random", top1, seed) for seed, top1 in enumerate((40.0, 44.0))),
        *(row(UNIFORM, top1, seed) for seed, top1 in enumerate((50.0, 56.0))),
        *(row("random", 30.0, seed, variant="plain") for seed in (0, 1)),
        *(row(UNIFORM, 35.0 + seed, seed, variant="plain") for seed in (0, 1)),
        row("herding", 45.0),
    ]
    d4m, herding = sorted(ddranking.scores(rows), key=lambda s: s.method)
    assert [s.method for s in ddranking.scores(rows)] == ["herding", UNIFORM]
    assert (d4m.student, d4m.protocol, d4m.ipc, d4m.labeler) == ("convnet3", "quick", 10, "hard")
    assert d4m.hlr == (pytest.approx(0.38), pytest.approx(0.04 / 2))  # 0.40 and 0.36
    assert d4m.ior == (pytest.approx(0.11), pytest.approx(0.02 / 2))  # 0.10 and 0.12
    each = [ddranking.lrs(0.40, 0.10), ddranking.lrs(0.36, 0.12)]
    assert d4m.lrs is not None
    assert d4m.lrs.mean == pytest.approx(sum(each) / 2)
    assert d4m.lrs.text == f"{50 * sum(each):.1f} ± {100 * (each[1] - each[0]) / 2:.1f}"
    assert d4m.ars is not None
    assert d4m.ars.mean == pytest.approx((ddranking.ars(0.10, 0.05) + ddranking.ars(0.12, 0.06)) / 2)
    assert herding.hlr == (pytest.approx(0.45), None)
    assert herding.lrs is not None
    assert herding.lrs.text == f"{100 * ddranking.lrs(0.45, 0.05):.1f}"
    assert herding.ars is None


def test_a_seed_that_the_other_side_lacks_is_held_against_its_mean() -> None:
    rows = [
        row("full", 90.0, 7),
        *(row("random", top1, seed) for seed, top1 in ((0, 40.0), (5, 50.0))),
        *(row("dm", top1, seed) for seed, top1 in enumerate((50.0, 60.0))),
    ]
    (score,) = ddranking.scores(rows)
    assert score.hlr == (pytest.approx(0.35), pytest.approx(0.1 / 2))
    assert score.ior == (pytest.approx((0.10 + 0.15) / 2), pytest.approx(0.05 / 2))  # 50 − 40 and 60 − 45


@pytest.mark.parametrize("hard", [{"variant": "hard"}, {"labeler": "hard"}, {"labeler": "t", "variant": "hard"}])
def test_soft_labels_take_the_hard_rows_for_recovery(hard: dict[str, str]) -> None:
    rows = [
        row("full", 90.0, **hard),
        row("dm", 50.0, **hard),
        row("random", 45.0, **hard),
        row("full", 91.0, labeler="t"),
        row("dm", 70.0, labeler="t"),
        row("random", 64.0, labeler="t"),
    ]
    score = next(s for s in ddranking.scores(rows) if s.labeler == "t")
    assert score.hlr == (pytest.approx(0.40), None)
    assert score.ior == (pytest.approx(0.06), None)
    assert score.lrs == (pytest.approx(ddranking.lrs(0.40, 0.06)), None)
    assert score.ars is None


def test_missing_rows_leave_gaps() -> None:
    (score,) = ddranking.scores([row("dm", 50.0), row("random", 40.0, ipc=1), row("dm", 30.0, variant="plain")])
    assert (score.hlr, score.ior, score.lrs, score.ars) == (None, None, None, None)
    (score,) = ddranking.scores([row("dm", 50.0), row("full", 90.0)])
    assert score.hlr == (pytest.approx(0.4), None)
    assert (score.ior, score.lrs, score.ars) == (None, None, None)
    assert ddranking.scores([]) == []


def test_as_text_and_as_lines_of_a_table() -> None:
    rows = [
        *(row("full", 90.0, seed) for seed in (0, 1)),
        *(row("random", 40.0, seed) for seed in (0, 1)),
        *(row("dm", 50.0 + seed, seed) for seed in (0, 1)),
        row("full", 91.0, labeler="t"),
        row("random", 64.0, labeler="t"),
        row("dm", 70.0, labeler="t"),
    ]
    found = ddranking.scores(rows)
    first, second = ddranking.text(found).split("\n\n")
    lines = first.splitlines()
    assert lines[0].startswith(
        "convnet3, protocol quick: DD-Ranking's scores in percent, mean ± standard deviation (n) over seeds"
    )
    assert lines[1].split() == ["method", "IPC", "HLR", "IOR", "LRS", "ARS"]
    assert lines[2].startswith("dm       10  39.5 ± 0.5  10.5 ± 0.5  21.")
    assert second.startswith("convnet3, protocol quick, labels t: ")
    assert found[1].to_dict() == {
        "method": "dm",
        "IPC": 10,
        "student": "convnet3",
        "labels": "t",
        "protocol": "quick",
        "HLR %": "39.5 ± 0.5",
        "IOR %": "6.0",
        "LRS %": f"{100 * ddranking.lrs(0.4, 0.06):.1f}",
        "ARS %": None,
    }
    assert ddranking.text([]) == ""


def test_the_same_seed_twice_is_an_error() -> None:
    with pytest.raises(UserError, match="dm, IPC 10, convnet3: seed 0 stands twice"):
        ddranking.scores([row("dm", 50.0), row("dm", 51.0)])


def test_the_best_learning_rate_of_each_seed_counts() -> None:
    rows = [
        row("full", 90.0),
        row("dm", 60.0),
        row("random", 40.0),
        *(row("dm", top1, variant=f"hard lr {lr}") for lr, top1 in ((0.001, 50.0), (0.01, 58.0), (0.1, 20.0))),
        *(row("random", top1, variant=f"own lr {lr}") for lr, top1 in ((0.001, 30.0), (0.01, 44.0))),
    ]
    (score,) = ddranking.scores(rows)
    assert score.hlr == (pytest.approx(0.90 - 0.58), None)  # not the 60 of another recipe
    assert score.ior == (pytest.approx(0.60 - 0.44), None)


def test_the_accuracy_of_all_images_can_be_given() -> None:
    rows = [row("dm", top1, seed) for seed, top1 in enumerate((50.0, 52.0))]
    rows += [row("random", top1, seed) for seed, top1 in enumerate((40.0, 44.0))]
    (score,) = ddranking.scores(rows, full=69.8)
    assert score.hlr == (pytest.approx(0.188), pytest.approx(0.02 / 2))
    assert score.lrs is not None
    assert ddranking.scores(rows)[0].hlr is None
