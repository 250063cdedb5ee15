"""Test accuracies summarized over seeds, compared, and as plain text; rows and their files are in `results`."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from scipy.special import stdtr

from raycond.core.errors import UserError
from raycond.core.text import shown
from raycond.evaluate.method_names import FULL, METHODS, in_order, meaning, method_name, uniform_twin
from raycond.evaluate.protocol import preset, presets
from raycond.evaluate.results import (
    COLUMNS,
    MORE_COLUMNS,
    Check,
    Row,
    read,
    read_parquet,
    to_csv,
    variant_rank,
    write,
    write_parquet,
)
from raycond.evaluate.settings import Divisor

__all__ = [
    "COLUMNS",
    "FULL",
    "METHODS",
    "MORE_COLUMNS",
    "Check",
    "Comparison",
    "Row",
    "Summary",
    "compare",
    "in_order",
    "method_name",
    "read",
    "read_parquet",
    "sentences",
    "summarize",
    "text",
    "to_csv",
    "uniform_twin",
    "write",
    "write_parquet",
]

MOST_SENTENCES = 12  # more differences than these are a table
ENOUGH_SEEDS = 3  # with fewer, nothing is called better or worse
LEVEL = 0.05  # of the test of a difference


@dataclass(frozen=True)
class Summary:
    """All seeds of one cell."""

    method: str
    ipc: int | None
    student: str
    protocol: str
    n: int
    """How many seeds there are."""

    mean: float
    """Mean accuracy after the last step, in percent."""

    std: float | None
    """Standard deviation over the seeds, see `divisor`; None for one seed."""

    best_mean: float
    """As `mean`, of the best check of each training."""

    best_std: float | None
    labeler: str = "hard"
    variant: str = "own"
    values: tuple[tuple[int, float], ...] = ()
    """Seed and accuracy of each training."""

    @property
    def text(self) -> str:
        return _with_deviation(self.mean, self.std)

    @property
    def best_text(self) -> str:
        return _with_deviation(self.best_mean, self.best_std)

    @property
    def group(self) -> tuple[str, str, str, str]:
        """Protocol, labeler, variant and student: what must be the same for numbers to compare."""
        return self.protocol, self.labeler, self.variant, self.student


@dataclass(frozen=True)
class Comparison:
    """One method minus another, of the same student under the same protocol."""

    method: str
    other: str
    ipc: int
    student: str
    protocol: str
    difference: float
    """In points of accuracy."""

    spread: float | None
    """√(std² + std²), the standard deviation of a difference of two trainings; None where either side has one seed."""

    pairs: int
    """Seeds that both have."""

    p: float | None
    """Of a two-sided paired t-test on the equal seeds; None with fewer than two."""

    clear: bool | None
    """Whether p is below `LEVEL`; None with fewer than `ENOUGH_SEEDS` equal seeds."""

    labeler: str = "hard"
    variant: str = "own"


def _with_deviation(mean: float, std: float | None) -> str:
    return f"{mean:.1f}" if std is None else f"{mean:.1f} ± {std:.1f}"


def summarize(rows: Iterable[Row]) -> list[Summary]:
    """Mean ± standard deviation over seeds, by protocol, labeler, variant, student, method (table order), IPC.

    Raises UserError where a cell has a seed twice: the spread would be too small.
    """
    cells: dict[tuple[str, str, str, str, str, int | None], dict[int, Row]] = {}
    for row in rows:
        key = (row.protocol, row.labeler, row.variant, row.student, row.method, row.ipc)
        cell = cells.setdefault(key, {})
        if row.seed in cell:
            what = "all images" if row.ipc is None else f"IPC {row.ipc}"
            raise UserError(f"{row.method}, {what}, {row.student}: seed {row.seed} stands twice in the results")
        cell[row.seed] = row
    rank = {m: k for k, m in enumerate(in_order(key[4] for key in cells))}
    order = sorted(
        cells,
        key=lambda c: (c[0], c[1], *variant_rank(c[2]), c[3], rank[c[4]], math.inf if c[5] is None else c[5]),
    )
    return [_summary([cells[key][seed] for seed in sorted(cells[key])]) for key in order]


def _summary(rows: Sequence[Row]) -> Summary:
    first = rows[0]
    divisor = divisor_of(first.protocol)
    mean, std = _moments([row.top1 for row in rows], divisor)
    best_mean, best_std = _moments([row.best for row in rows], divisor)
    return Summary(
        method=first.method,
        ipc=first.ipc,
        student=first.student,
        protocol=first.protocol,
        n=len(rows),
        mean=mean,
        std=std,
        best_mean=best_mean,
        best_std=best_std,
        labeler=first.labeler,
        variant=first.variant,
        values=tuple((row.seed, row.top1) for row in rows),
    )


@lru_cache(maxsize=64)
def divisor_of(name: str) -> Divisor:
    """What a protocol divides the sum of squares by: that of its source, for protocols that come with raycond."""
    if name not in presets():
        return "n - 1"
    divisor: Divisor = preset(name).divisor
    return divisor


def _moments(values: Sequence[float], divisor: Divisor) -> tuple[float, float | None]:
    deviation = statistics.pstdev if divisor == "n" else statistics.stdev
    return math.fsum(values) / len(values), deviation(values) if len(values) > 1 else None


def compare(summaries: Sequence[Summary]) -> list[Comparison]:
    """Every method against random, and every weighted one against its uniform twin, within one group and IPC."""
    cells = {(s.group, s.ipc, s.method): s for s in summaries}
    return [
        _comparison(s, o, s.ipc)
        for s in summaries
        for other in (None if s.method == "random" else "random", uniform_twin(s.method))
        if s.ipc is not None and other is not None and (o := cells.get((s.group, s.ipc, other))) is not None
    ]


def _comparison(s: Summary, o: Summary, ipc: int) -> Comparison:
    spread = None if s.std is None or o.std is None else math.hypot(s.std, o.std)
    pairs, p = _paired(dict(s.values), dict(o.values))
    clear = None if p is None or pairs < ENOUGH_SEEDS else p < LEVEL
    return Comparison(
        method=s.method,
        other=o.method,
        ipc=ipc,
        student=s.student,
        protocol=s.protocol,
        difference=s.mean - o.mean,
        spread=spread,
        pairs=pairs,
        p=p,
        clear=clear,
        labeler=s.labeler,
        variant=s.variant,
    )


def _paired(one: Mapping[int, float], other: Mapping[int, float]) -> tuple[int, float | None]:
    """How many seeds both have, and p of the two-sided paired t-test of their differences."""
    differences = [one[seed] - other[seed] for seed in one if seed in other]
    count = len(differences)
    if count < 2:
        return count, None
    mean, deviation = statistics.fmean(differences), statistics.stdev(differences)
    if deviation == 0:
        return count, 1.0 if mean == 0 else 0.0
    return count, 2 * float(stdtr(count - 1, -abs(mean) / deviation * count**0.5))


def text(rows: Iterable[Row], variant: str = "own", *, differences: bool = True) -> str:
    """Tables for the terminal, one per protocol, labeler and student.

    differences: begin with what the names mean, and end each table with its differences.
    """
    summaries = summarize(row for row in rows if row.variant == variant)
    groups: dict[tuple[str, str, str, str], list[Summary]] = {}
    for s in summaries:
        groups.setdefault(s.group, []).append(s)
    tables = [
        "\n".join([_title(group), *_grid(group), *(_differences(compare(group)) if differences else [])])
        for group in groups.values()
    ]
    return "\n\n".join([*(_legend(summaries) if differences and summaries else []), *tables])


def _legend(summaries: Sequence[Summary]) -> list[str]:
    """What the names in the tables mean."""
    methods = in_order(s.method for s in summaries)
    width = max(len(shown(method)) for method in methods)
    known = [(shown(method), meaning(method)) for method in methods]
    lines = [f"  {name:{width}}  {text}" for name, text in known if text]
    return ["\n".join(["IPC: images per class. The methods are", *lines])] if lines else []


def _title(group: Sequence[Summary]) -> str:
    first = group[0]
    counts = sorted({s.n for s in group})
    seeds = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    noun = "seed" if counts == [1] else "seeds"
    spread = "" if counts == [1] else f", mean ± standard deviation ({divisor_of(first.protocol)})"
    what = f"{shown(first.student)}, protocol {shown(first.protocol)}"
    what += f", labels {shown(first.labeler)}" if first.labeler != "hard" else ""
    what += f", variant {shown(first.variant)}" if first.variant != "own" else ""
    return f"{what}: top-1 %, last step{spread} over {seeds} {noun}"


def _grid(group: Sequence[Summary]) -> list[str]:
    cells = {(s.method, s.ipc): s.text for s in group}
    ipcs = sorted({s.ipc for s in group if s.ipc is not None})
    columns: list[int | None] = [*ipcs, *([None] if any(s.ipc is None for s in group) else [])]
    head = ["method", *("all images" if c is None else f"IPC {c}" for c in columns)]
    return _aligned(
        [head, *([shown(m), *(cells.get((m, c), "") for c in columns)] for m in in_order(s.method for s in group))]
    )


def _aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    """Columns of one width each, the first to the left and the others to the right."""
    widths = [max(len(line[k]) for line in lines) for k in range(len(lines[0]))]
    return [
        "  ".join([name.ljust(widths[0]), *(v.rjust(w) for v, w in zip(values, widths[1:], strict=True))]).rstrip()
        for name, *values in lines
    ]


def _differences(comparisons: Sequence[Comparison]) -> list[str]:
    if len(comparisons) <= MOST_SENTENCES:
        return sentences(comparisons)
    ipcs = sorted({c.ipc for c in comparisons})
    cells = {(c.method, c.other, c.ipc): f"{c.difference:+.1f}{'*' if c.clear else ' '}" for c in comparisons}
    pairs = dict.fromkeys((c.method, c.other) for c in comparisons)
    head = [f"points; * p below {LEVEL} in a paired t-test on equal seeds", *(f"IPC {ipc}" for ipc in ipcs)]
    return _aligned(
        [head, *([f"{shown(m)} against {shown(o)}", *(cells.get((m, o, i), "") for i in ipcs)] for m, o in pairs)]
    )


def sentences(comparisons: Sequence[Comparison]) -> list[str]:
    """One line per comparison: the difference in points and what a paired t-test on equal seeds says of it."""
    return [
        f"{shown(c.method)} against {shown(c.other)}, IPC {c.ipc}: {c.difference:+.1f} points, {_verdict(c)}"
        for c in comparisons
    ]


def _verdict(c: Comparison) -> str:
    if c.clear is None or c.spread is None or c.p is None:
        return f"no verdict: needs at least {ENOUGH_SEEDS} equal seeds of both"
    verdict = "clear" if c.clear else "not clear"
    test = f"{p_text(c.p)} in a paired t-test on {c.pairs} seeds"
    return f"{verdict}: {test}; two standard deviations are {2 * c.spread:.1f}"


def p_text(p: float) -> str:
    """A probability as it stands in sentences."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"
