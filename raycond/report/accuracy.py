"""The accuracy section that all reports share: per student tables, a plot and differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from raycond.core.text import shown
from raycond.evaluate.method_names import METHODS, UNIFORM, WEIGHTED, condensed, kind_of, meaning
from raycond.evaluate.table import (
    ENOUGH_SEEDS,
    FULL,
    Comparison,
    Row,
    Summary,
    compare,
    divisor_of,
    in_order,
    p_text,
    summarize,
)
from raycond.report.numbers import signed
from raycond.report.plots import Look, accuracy_svg, is_wide

OWN = "own"
LAST = "Top-1 in percent after the last step; mean ± standard deviation ({}), n seeds."
BEST = "Top-1 in percent, best of all checks: chosen on the test images, so higher than can be expected."
LAST_TASK = "Top-1 in percent after the last task; mean ± standard deviation ({}), n seeds."
TASKS_MEAN = "Top-1 in percent, mean of the accuracies after each task."


def own_groups(rows: Sequence[Row]) -> list[list[Summary]]:
    """Summaries of the protocol's own variant, one list per protocol, labeler and student."""
    groups: dict[tuple[str, str, str, str], list[Summary]] = {}
    for s in summarize(row for row in rows if row.variant == OWN):
        groups.setdefault(s.group, []).append(s)
    return list(groups.values())


def students(rows: Sequence[Row], looks: Mapping[str, Look] | None = None, incremental: bool = False) -> list[Any]:
    """What the template shows of each student."""
    from markupsafe import Markup

    result = []
    for k, group in enumerate(own_groups(rows)):
        ipcs = sorted({s.ipc for s in group if s.ipc is not None})
        full = any(s.ipc is None for s in group)
        plot = Markup(accuracy_svg(group, f"accuracy {k}", looks)) if ipcs else ""
        result.append(
            {
                "name": heading(group),
                "ipcs": ipcs,
                "full": full,
                "lines": _lines(group, [*ipcs, *([None] if full else [])]),
                "caption": (LAST_TASK if incremental else LAST).format(divisor_of(group[0].protocol)),
                "best": TASKS_MEAN if incremental else BEST,
                "best_differs": any(abs(s.best_mean - s.mean) > 1e-9 for s in group),
                "best_summary": "Mean over the tasks" if incremental else "Best of all checks",
                "differences": _differences(compare(group), ipcs),
                "plot": plot,
                "wide": is_wide(group),
            }
        )
    return result


def heading(group: Sequence[Summary]) -> str:
    first = group[0]
    labels = "" if first.labeler == "hard" else f", labels {first.labeler}"
    return f"{first.student}, protocol {first.protocol}{labels}"


def _lines(group: Sequence[Summary], columns: Sequence[int | None]) -> list[dict[str, Any]]:
    """A line per method; style `part` where the next kind of method begins."""
    cells = {(s.method, s.ipc): s for s in group}
    weighted = {s.method for s in group if kind_of(s.method) == WEIGHTED}
    own = weighted.pop() if len(weighted) == 1 else ""  # of several sets or weights none is the page's own
    lines: list[dict[str, Any]] = []
    before = None
    for method in in_order(s.method for s in group):
        parts = condensed(method)
        kind = parts.generator if parts else "baseline" if method in METHODS else "whole" if method == FULL else "other"
        lines.append(
            {
                "method": method,
                "style": "own" if method == own else "part" if before not in (None, kind) else "",
                "cells": [cells.get((method, column)) for column in columns],
            }
        )
        before = kind
    return lines


def _differences(comparisons: Sequence[Comparison], ipcs: Sequence[int]) -> list[dict[str, Any]]:
    known = {(c.method, c.other, c.ipc): c for c in comparisons}
    pairs = dict.fromkeys((c.method, c.other) for c in comparisons)
    return [
        {"method": method, "other": other, "cells": [_difference(known.get((method, other, ipc))) for ipc in ipcs]}
        for method, other in pairs
    ]


def _difference(c: Comparison | None) -> dict[str, str] | None:
    if c is None:
        return None
    verdict = f"fewer than {ENOUGH_SEEDS} equal seeds" if c.clear is None else "not clear"
    if c.clear:
        verdict = "better" if c.difference > 0 else "worse"
    return {
        "points": signed(c.difference),
        "two": "" if c.spread is None else f"± {2 * c.spread:.1f}",
        "verdict": verdict,
        "test": "" if c.clear is None or c.p is None else f"{p_text(c.p)}, {c.pairs} seeds",
        "style": verdict if c.clear else "soft",
    }


def tile(rows: Sequence[Row]) -> dict[str, str] | None:
    """The run's own method at its largest IPC, for the first student: fixed by rule, not the best number."""
    groups = own_groups(rows)
    if not groups:
        return None
    first = groups[0]
    small = [s for s in first if s.ipc is not None] or first
    methods = in_order(s.method for s in small)
    own = (m for kind in (WEIGHTED, UNIFORM) for m in methods if kind_of(m) == kind)
    others = (m for m in methods if m not in (*METHODS, FULL))  # of runs that quantize nothing
    method = next(own, next(others, methods[0]))
    cell = max((s for s in small if s.method == method), key=lambda s: s.ipc or 0)
    full = next((s for s in first if s.ipc is None), None)
    against = f"; all images {full.mean:.1f} %" if full and cell.ipc is not None else ""
    where = "all images" if cell.ipc is None else f"{cell.ipc:,} images per class"
    return {"value": f"{cell.mean:.1f} %", "label": f"top-1 accuracy, {shown(method)}, {where}{against}"}


def meanings(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Each method of the tables with what it is, in table order; those without a known meaning are left out."""
    methods = in_order(row.method for row in rows if row.variant == OWN)
    return [(shown(method), text) for method in methods if (text := meaning(method))]
