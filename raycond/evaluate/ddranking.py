"""DD-Ranking's scores from the rows of a grid: what is left of a method without its labels and its augmentation.

The formulas are those of arXiv 2505.13300. Its package (0.2.0) feeds percent into the exponential, where they saturate;
here everything is a fraction, as in the paper. Bytes of labels or teachers are in no score.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from raycond.core.errors import UserError
from raycond.core.text import shown
from raycond.evaluate.results import AT_RATE
from raycond.evaluate.table import FULL, Row, in_order

RANDOM = "random"
HARD = "hard"


class Spread(NamedTuple):
    """Mean and standard deviation (n, np.std as in DD-Ranking) over seeds, as fractions; no deviation for one seed."""

    mean: float
    std: float | None

    @property
    def text(self) -> str:
        """In percent, with one decimal."""
        return f"{100 * self.mean:.1f}" + ("" if self.std is None else f" ± {100 * self.std:.1f}")


@dataclass(frozen=True)
class Score:
    """The scores of one method at one IPC, of one student under one protocol; None where rows are missing."""

    method: str
    student: str
    protocol: str
    ipc: int
    labeler: str
    """What the method's own trainings learn."""

    hlr: Spread | None
    """Hard-label recovery: what the set lacks of all real images; smaller is better."""

    ior: Spread | None
    """Improvement over as many random real images."""

    lrs: Spread | None
    """Label-robust score in [0, 1], larger is better; 0.269 is a method that gains and loses nothing."""

    ars: Spread | None
    """Augmentation-robust score, on the same scale."""

    def to_dict(self) -> dict[str, str | int | None]:
        """A line of a table, with the scores as text in percent."""
        spreads = {"HLR %": self.hlr, "IOR %": self.ior, "LRS %": self.lrs, "ARS %": self.ars}
        return {
            "method": self.method,
            "IPC": self.ipc,
            "student": self.student,
            "labels": self.labeler,
            "protocol": self.protocol,
            **{name: spread and spread.text for name, spread in spreads.items()},
        }


def hlr(full: float, hard: float) -> float:
    """Accuracy of all real images minus that of the set, both with hard labels."""
    return full - hard


def ior(own: float, random: float) -> float:
    """Accuracy of the set minus that of as many random real images, both under the set's own protocol and labels."""
    return own - random


def lrs(hlr: float, ior: float, weight: float = 0.5) -> float:
    """Label-robust score of α = weight · IOR − (1 − weight) · HLR."""
    return _normalized(weight * ior - (1 - weight) * hlr)


def ars(augmented: float, plain: float, weight: float = 0.5) -> float:
    """Augmentation-robust score of β: the improvements over random with and without augmentation, weighted."""
    return _normalized(weight * augmented + (1 - weight) * plain)


def _normalized(value: float) -> float:
    """[−1, 1] → [0, 1], steeper where a method gains than where it loses."""
    return (math.exp(value) - math.exp(-1)) / (math.exp(1) - math.exp(-1))


def scores(rows: Iterable[Row], full: float | None = None) -> list[Score]:
    """A score for every method with an IPC but random, in table order, from `top1` of the rows.

    HLR takes rows with hard labels (variant hard, or else labeler hard), the rest those of the method's own labeler;
    ARS takes variant plain for what happens without augmentation. Where hard rows or those of random images were
    trained at a grid of learning rates, the best of each seed counts: it is chosen on the test images, as DD-Ranking
    chooses it. full: accuracy of all images with hard labels in percent, where no row has it. Seeds are compared with
    the same seed of the other side, or with its mean where it lacks that seed. Raises UserError where a cell has a seed
    twice.
    """
    cells = _Cells(rows, full)
    rank = {m: k for k, m in enumerate(in_order(key.method for key in cells.own))}
    scored = [_score(cells, key, key.ipc) for key in cells.own if key.method != RANDOM and key.ipc is not None]
    return sorted(scored, key=lambda s: (s.protocol, s.labeler, s.student, rank[s.method], s.ipc))


def text(scores: Iterable[Score]) -> str:
    """Tables for the terminal, one per protocol, labeler and student."""
    groups: dict[tuple[str, str, str], list[Score]] = {}
    for score in scores:
        groups.setdefault((score.student, score.protocol, score.labeler), []).append(score)
    return "\n\n".join("\n".join(_table(*key, group)) for key, group in groups.items())


def _table(student: str, protocol: str, labeler: str, group: Sequence[Score]) -> list[str]:
    labels = "" if labeler == HARD else f", labels {shown(labeler)}"
    lines = [("method", "IPC", "HLR", "IOR", "LRS", "ARS")]
    for s in group:
        hlr, ior, lrs, ars = (spread.text if spread else "" for spread in (s.hlr, s.ior, s.lrs, s.ars))
        lines.append((shown(s.method), str(s.ipc), hlr, ior, lrs, ars))
    first, *others = [max(len(line[k]) for line in lines) for k in range(len(lines[0]))]
    title = (
        f"{shown(student)}, protocol {shown(protocol)}{labels}: DD-Ranking's scores in percent, "
        "mean ± standard deviation (n) over seeds (HLR: smaller is better)"
    )
    return [title] + [
        "  ".join([name.ljust(first), *(v.rjust(w) for v, w in zip(values, others, strict=True))]).rstrip()
        for name, *values in lines
    ]


class _Key(NamedTuple):
    method: str
    ipc: int | None
    student: str
    protocol: str
    labeler: str


_Seeds = Mapping[int, float]


class _Cells:
    """Accuracies by seed, as fractions, of each cell: as it is, without augmentation, and with hard labels."""

    def __init__(self, rows: Iterable[Row], full: float | None) -> None:
        self.full = None if full is None else full / 100
        self.tuned: dict[_Key, dict[int, float]] = {}
        """As they are, at the best learning rate of a grid."""
        self.own: dict[_Key, dict[int, float]] = {}
        self.plain: dict[_Key, dict[int, float]] = {}
        self.hard: dict[_Key, dict[int, float]] = {}
        for row in rows:
            key = _Key(row.method, row.ipc, row.student, row.protocol, row.labeler)
            kinds = {"own": self.own, "plain": self.plain, "hard": self.hard}
            variant, _, rate = row.variant.partition(AT_RATE)
            if rate:
                best = self.hard if variant == "hard" else self.tuned
                seeds = best.setdefault(key._replace(labeler=HARD) if variant == "hard" else key, {})
                seeds[row.seed] = max(seeds.get(row.seed, 0.0), row.top1 / 100)
            elif row.variant in kinds:
                seeds = kinds[row.variant].setdefault(key._replace(labeler=HARD) if row.variant == "hard" else key, {})
                if row.seed in seeds:
                    raise UserError(f"{row.method}, IPC {row.ipc}, {row.student}: seed {row.seed} stands twice")
                seeds[row.seed] = row.top1 / 100
        for key, seeds in self.own.items():
            if key.labeler == HARD and key not in self.hard:  # already trained as the variant would be
                self.hard[key] = seeds

    def all_images(self, key: _Key) -> dict[int, float]:
        """Of all images with hard labels; the same for every seed where it was given."""
        if self.full is not None:
            return dict.fromkeys(self.own[key], self.full)
        return self.hard.get(key._replace(method=FULL, ipc=None, labeler=HARD), {})

    def random(self, key: _Key) -> dict[int, float]:
        """Of as many random images."""
        key = key._replace(method=RANDOM)
        return self.tuned.get(key) or self.own.get(key, {})


def _score(cells: _Cells, key: _Key, ipc: int) -> Score:
    own, hard = cells.own[key], cells.hard.get(key._replace(labeler=HARD), {})
    full, other = cells.all_images(key), cells.random(key)
    plain, other_plain = cells.plain.get(key, {}), cells.plain.get(key._replace(method=RANDOM), {})
    losses = [hlr(_at(full, seed), a) for seed, a in hard.items()] if full else []
    gains = [ior(a, _at(other, seed)) for seed, a in own.items()] if other else []
    label, augmentation = [], []
    if losses and gains:
        label = [lrs(hlr(_at(full, s), _at(hard, s)), ior(a, _at(other, s))) for s, a in own.items()]
    if gains and plain and other_plain:
        augmentation = [ars(a - _at(other, s), _at(plain, s) - _at(other_plain, s)) for s, a in own.items()]
    return Score(
        method=key.method,
        student=key.student,
        protocol=key.protocol,
        ipc=ipc,
        labeler=key.labeler,
        hlr=_spread(losses),
        ior=_spread(gains),
        lrs=_spread(label),
        ars=_spread(augmentation),
    )


def _at(seeds: _Seeds, seed: int) -> float:
    return seeds[seed] if seed in seeds else math.fsum(seeds.values()) / len(seeds)


def _spread(values: Sequence[float]) -> Spread | None:
    if not values:
        return None
    std = statistics.pstdev(values) if len(values) > 1 else None
    return Spread(math.fsum(values) / len(values), std)
