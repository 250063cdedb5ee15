"""Test accuracies as rows, summaries, differences, CSV and plain text."""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from raycond import files
from raycond.errors import UserError

METHODS = ("random", "medoid", "d4m", "ddoq")  # in tables; others follow by name, "full" comes last
FULL = "full"
COLUMNS = ("method", "ipc", "student", "seed", "top1", "best", "steps", "seconds", "images", "protocol")


@dataclass(frozen=True)
class Row:
    """One training: `top1` after the last step and `best` of all checks in percent, `images` trained on.

    `ipc` is None for the whole training data (method "full").
    """

    method: str
    ipc: int | None
    student: str
    seed: int
    top1: float
    best: float
    steps: int
    seconds: float
    images: int
    protocol: str


@dataclass(frozen=True)
class Summary:
    """All seeds of one method, IPC and student: mean and sample standard deviation (None for one seed)."""

    method: str
    ipc: int | None
    student: str
    protocol: str
    n: int
    mean: float
    std: float | None

    @property
    def text(self) -> str:
        return f"{self.mean:.1f}" if self.std is None else f"{self.mean:.1f} ± {self.std:.1f}"


@dataclass(frozen=True)
class Comparison:
    """`method` minus `other` in points. `spread` is √(std² + std²), the deviation of a difference of two runs.

    `clear` says that the difference exceeds two spreads; both are None where either side has one seed.
    """

    method: str
    other: str
    ipc: int
    student: str
    protocol: str
    difference: float
    spread: float | None
    clear: bool | None


def in_order(methods: Iterable[str]) -> list[str]:
    """Method names once each, in the order of every table: baselines first, the whole data last."""
    unique = set(methods)
    known = [m for m in METHODS if m in unique]
    others = sorted(unique - set(METHODS) - {FULL})
    return known + others + ([FULL] if FULL in unique else [])


def summarise(rows: Iterable[Row]) -> list[Summary]:
    """Mean ± sample standard deviation over seeds, by protocol, student, method (table order), IPC.

    Raises UserError where a cell has a seed twice: the spread would be too small.
    """
    cells: dict[tuple[str, str, str, int | None], dict[int, float]] = {}
    for row in rows:
        cell = cells.setdefault((row.protocol, row.student, row.method, row.ipc), {})
        if row.seed in cell:
            what = "all images" if row.ipc is None else f"IPC {row.ipc}"
            raise UserError(f"{row.method}, {what}, {row.student}: seed {row.seed} stands twice in the results")
        cell[row.seed] = row.top1
    rank = {m: k for k, m in enumerate(in_order(method for _, _, method, _ in cells))}
    order = sorted(cells, key=lambda c: (c[0], c[1], rank[c[2]], math.inf if c[3] is None else c[3]))
    result = []
    for protocol, student, method, ipc in order:
        by_seed = cells[protocol, student, method, ipc]
        values = [by_seed[seed] for seed in sorted(by_seed)]
        std = statistics.stdev(values) if len(values) > 1 else None
        result.append(Summary(method, ipc, student, protocol, len(values), math.fsum(values) / len(values), std))
    return result


def compare(summaries: Sequence[Summary]) -> list[Comparison]:
    """Every method against random, and ddoq against d4m, per protocol, student and IPC."""
    cells = {(s.protocol, s.student, s.ipc, s.method): s for s in summaries}
    result = []
    for s in summaries:
        if s.ipc is None:
            continue
        others = [] if s.method == "random" else ["random"]
        for other in [*others, "d4m"] if s.method == "ddoq" else others:
            o = cells.get((s.protocol, s.student, s.ipc, other))
            if o is None:
                continue
            spread = None if s.std is None or o.std is None else math.hypot(s.std, o.std)
            difference = s.mean - o.mean
            clear = None if spread is None else abs(difference) > 2 * spread
            result.append(Comparison(s.method, other, s.ipc, s.student, s.protocol, difference, spread, clear))
    return result


def to_csv(rows: Iterable[Row]) -> str:
    """CSV, sorted, always with its header; `ipc` is empty for the whole data; numbers read back exactly."""
    rows = list(rows)
    rank = {m: k for k, m in enumerate(in_order(r.method for r in rows))}
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in sorted(
        rows,
        key=lambda r: (r.protocol, r.student, rank[r.method], math.inf if r.ipc is None else r.ipc, r.seed),
    ):
        writer.writerow(["" if (v := getattr(row, c)) is None else v for c in COLUMNS])
    return out.getvalue()


def write(uri: str, rows: Iterable[Row]) -> None:
    """Write the rows as CSV at a local path or a remote address, all or nothing."""
    files.write_bytes(uri, to_csv(rows).encode())


def read(uri: str) -> list[Row]:
    """The rows that `write` wrote. Raises UserError naming the file and line that cannot be read."""
    reader = csv.DictReader(io.StringIO(files.read_bytes(uri).decode()))
    missing = [c for c in COLUMNS if c not in (reader.fieldnames or [])]
    if missing:
        raise UserError(f"{uri}: not a table of results: no column {', '.join(missing)}")
    rows = []
    for record in reader:
        try:
            rows.append(
                Row(
                    method=record["method"],
                    ipc=int(record["ipc"]) if record["ipc"] else None,
                    student=record["student"],
                    seed=int(record["seed"]),
                    top1=float(record["top1"]),
                    best=float(record["best"]),
                    steps=int(record["steps"]),
                    seconds=float(record["seconds"]),
                    images=int(record["images"]),
                    protocol=record["protocol"],
                )
            )
        except (TypeError, ValueError) as error:
            raise UserError(f"{uri}, line {reader.line_num}: {error}") from error
    return rows


def text(rows: Iterable[Row]) -> str:
    """Tables for the terminal, one per student and protocol, each followed by its differences."""
    summaries = summarise(rows)
    groups: dict[tuple[str, str], list[Summary]] = {}
    for s in summaries:
        groups.setdefault((s.protocol, s.student), []).append(s)
    return "\n\n".join(
        "\n".join([_title(*key, group), *_grid(group), *sentences(compare(group))]) for key, group in groups.items()
    )


def _title(protocol: str, student: str, group: Sequence[Summary]) -> str:
    counts = sorted({s.n for s in group})
    seeds = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    noun = "seed" if counts == [1] else "seeds"
    spread = "" if counts == [1] else ", mean ± standard deviation"
    return f"{student}, protocol {protocol}: top-1 %, last step{spread} over {seeds} {noun}"


def _grid(group: Sequence[Summary]) -> list[str]:
    cells = {(s.method, s.ipc): s.text for s in group}
    ipcs = sorted({s.ipc for s in group if s.ipc is not None})
    full = any(s.ipc is None for s in group)
    columns: list[int | None] = [*ipcs, *([None] if full else [])]
    table = [["method", *("all images" if c is None else f"IPC {c}" for c in columns)]]
    table += [[m, *(cells.get((m, c), "") for c in columns)] for m in in_order(s.method for s in group)]
    widths = [max(len(line[k]) for line in table) for k in range(len(table[0]))]
    lines = []
    for name, *values in table:
        cells_of_line = [v.rjust(w) for v, w in zip(values, widths[1:], strict=True)]
        lines.append("  ".join([name.ljust(widths[0]), *cells_of_line]).rstrip())
    return lines


def sentences(comparisons: Sequence[Comparison]) -> list[str]:
    """One line per comparison: the difference in points and whether it exceeds two standard deviations."""
    return [
        f"{c.method} against {c.other}, IPC {c.ipc}: {c.difference:+.1f} points, {_verdict(c)}" for c in comparisons
    ]


def _verdict(c: Comparison) -> str:
    if c.spread is None:
        return "no verdict: needs at least two seeds of each"
    relation = "beyond" if c.clear else "within"
    return f"{relation} two standard deviations ({2 * c.spread:.1f})"
