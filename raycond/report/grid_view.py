"""From the report of an evaluation grid to what its template prints."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from raycond.core.progress import clock
from raycond.core.text import shown
from raycond.evaluate.method_names import FULL, in_order
from raycond.evaluate.settings import RENAMED
from raycond.evaluate.table import Check, Row, Summary, compare
from raycond.report import accuracy, plots
from raycond.report.contents import GridReport, Size, compression
from raycond.report.numbers import digits, human, plain_yaml, times

ABOUT = ("name", "source", "reported", "assumed", "rules")  # of a protocol, told apart from its settings


def context(report: GridReport) -> dict[str, Any]:
    looks = plots.looks(row.method for row in report.rows)
    groups = accuracy.own_groups(report.rows)
    parts: dict[str, Any] = {
        "accuracy": accuracy.students(report.rows, looks, report.incremental),
        "meanings": accuracy.meanings(report.rows),
        "weights": _weights(groups, looks),
        "distortion": _distortion(report, groups, looks),
        "training": [] if report.incremental else _training(report, groups, looks),
        "tasks": _tasks(report, groups, looks) if report.incremental else [],
        "scores": _scores(report.scores),
        "sizes": _sizes(report.sizes, report.source_bytes),
        "failures": list(report.failures),
        "protocol": _protocol(report.protocol, report.changed) if report.protocol else None,
        "environment": report.environment,
        "configuration": plain_yaml(report.config),
    }
    names = {"training": "Learning curves", "tasks": "Tasks", "scores": "Scores", "failures": "Not made"}
    navigation = {key: names.get(key, key.capitalize()) for key, part in parts.items() if part and key != "meanings"}
    return {"report": report, "navigation": navigation, "tiles": _tiles(report), **parts}


def _tiles(report: GridReport) -> list[dict[str, str]]:
    rows = report.rows
    tiles = []
    if rows:
        ipcs = sorted({row.ipc for row in rows if row.ipc is not None})
        students = sorted({row.student for row in rows})
        tiles.append({"value": f"{len({row.method for row in rows} - {FULL})}", "label": "methods"})
        if ipcs:
            tiles.append({"value": " · ".join(f"{ipc:,}" for ipc in ipcs), "label": "images per class"})
        tiles.append({"value": f"{len(students)}", "label": f"students: {', '.join(students)}"})
        if top1 := accuracy.tile(rows):
            tiles.append(top1)
        seeds = len({row.seed for row in rows})
        label = f"trainings, {seeds} {'seeds' if seeds > 1 else 'seed'}, {clock(sum(row.seconds for row in rows))}"
        if memory := max(row.memory for row in rows):
            label += f", at most {human(memory)} of memory"
        tiles.append({"value": f"{len(rows):,}", "label": label})
    if report.failures:
        tiles.append({"value": f"{len(report.failures):,}", "label": "failed and are missing below"})
    return tiles


def _weights(groups: Sequence[Sequence[Summary]], looks: Mapping[str, plots.Look]) -> list[dict[str, Any]]:
    figures = [
        (accuracy.heading(group), plots.weights_svg(compare(group), f"weights {k}", looks))
        for k, group in enumerate(groups)
    ]
    return [{"name": name, "plot": Markup(svg)} for name, svg in figures if svg]


def _distortion(
    report: GridReport, groups: Sequence[Sequence[Summary]], looks: Mapping[str, plots.Look]
) -> dict[str, Any] | None:
    values = {method: by_ipc for method, by_ipc in report.distortion.items() if by_ipc}
    if not values:
        return None
    looks = {**plots.looks(values), **looks}
    figures = [
        (accuracy.heading(group), plots.distortion_svg(group, values, f"distortion {k}", looks))
        for k, group in enumerate(groups)
    ]
    ipcs = sorted({ipc for by_ipc in values.values() for ipc in by_ipc})
    return {
        "plots": [{"name": name, "plot": Markup(svg)} for name, svg in figures if svg],
        "ipcs": ipcs,
        "lines": [
            (method, [digits(values[method][ipc]) if ipc in values[method] else "" for ipc in ipcs])
            for method in in_order(values)
        ],
    }


def _training(
    report: GridReport, groups: Sequence[Sequence[Summary]], looks: Mapping[str, plots.Look]
) -> list[dict[str, Any]]:
    """One plot per group at its largest IPC, against epochs where the protocol counts them."""
    what = "epoch" if report.protocol.get("epochs") else "step"
    place: Callable[[Check], float] = lambda check: check.epoch if what == "epoch" else check.step  # noqa: E731
    result = []
    for k, group in enumerate(groups):
        rows = [row for row in _rows(report, group) if row.ipc is not None and len(row.curve) > 1]
        if not rows:
            continue
        ipc = max(row.ipc for row in rows if row.ipc is not None)
        lines = _by_method([row for row in rows if row.ipc == ipc], place)
        svg = plots.progress_svg(lines, f"training {k}", looks, what=what)
        result.append({"name": f"{accuracy.heading(group)}, IPC {ipc}", "plot": Markup(svg)})
    return result


def _tasks(
    report: GridReport, groups: Sequence[Sequence[Summary]], looks: Mapping[str, plots.Look]
) -> list[dict[str, Any]]:
    """One plot per group and IPC: accuracy on the classes so far, after each task."""
    result = []
    for k, group in enumerate(groups):
        rows = [row for row in _rows(report, group) if row.curve]
        for ipc in sorted({row.ipc for row in rows if row.ipc is not None}):
            lines = _by_method([row for row in rows if row.ipc in (ipc, None)], lambda check: check.epoch)
            svg = plots.progress_svg(lines, f"tasks {k} {ipc}", looks, what="task", whole=True)
            result.append({"name": f"{accuracy.heading(group)}, IPC {ipc}", "plot": Markup(svg)})
    return result


def _rows(report: GridReport, group: Sequence[Summary]) -> list[Row]:
    return [row for row in report.rows if (row.protocol, row.labeler, row.variant, row.student) == group[0].group]


def _by_method(rows: Sequence[Row], place: Callable[[Check], float]) -> dict[str, plots.Line]:
    return {
        method: line
        for method in in_order(row.method for row in rows)
        if (line := _line([row for row in rows if row.method == method], place)).x
    }


def _line(rows: Sequence[Row], place: Callable[[Check], float]) -> plots.Line:
    """Means over the seeds, at the places that all of them were tested at."""
    values: dict[float, list[float]] = {}
    for row in sorted(rows, key=lambda row: row.seed):
        for check in row.curve:
            values.setdefault(place(check), []).append(check.top1)
    places = [x for x in sorted(values) if len(values[x]) == len(rows)]
    deviations = tuple(statistics.stdev(values[x]) if len(rows) > 1 else 0.0 for x in places)
    return plots.Line(tuple(places), tuple(statistics.fmean(values[x]) for x in places), deviations)


def _scores(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Plain rows as they come; a column without letters is one of numbers."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    if not columns:
        return None
    lines = [[_plain(row.get(column)) for column in columns] for row in rows]
    numeric = [not any(char.isalpha() for line in lines for char in line[k]) for k in range(len(columns))]
    return {"columns": list(zip(columns, numeric, strict=True)), "lines": lines, "numeric": numeric}


def _plain(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(_plain(v) for v in value)
    return str(value)


def _sizes(sizes: Mapping[str, Sequence[Size]], source: int | None) -> dict[str, Any] | None:
    """A line per set and a column per part, with their sum and how many times smaller than the source it is."""
    parts = list(dict.fromkeys(size.name for listed in sizes.values() for size in listed))
    if not parts:
        return None
    lines = []
    for name, listed in sizes.items():
        by_part = {size.name: size for size in listed}
        known = [size.bytes for size in listed if size.bytes is not None]
        total = {"human": human(sum(known)) if known else "", "small": f"{sum(known):,}" if known else ""}
        if known and len(known) < len(listed):
            total["small"] += " known"
        ratio = compression(source, sum(known))
        cells = [_size(by_part.get(part)) for part in parts]
        lines.append((shown(name), cells, total, times(ratio) if ratio else ""))
    return {"parts": parts, "lines": lines, "source": human(source) if source else ""}


def _size(size: Size | None) -> dict[str, str] | None:
    if size is None:
        return None
    exact = "" if size.bytes is None else f"{size.bytes:,}"
    return {
        "human": "unknown" if size.bytes is None else human(size.bytes),
        "small": ", ".join(part for part in (exact, size.note) if part),
    }


def _protocol(protocol: Mapping[str, Any], changed: Sequence[str]) -> dict[str, Any]:
    """Settings with what the source leaves open about them; a setting that the user fixed is no assumption."""
    assumed = protocol.get("assumed") or {}
    changed = [RENAMED.get(name, name) for name in changed]
    lines = []
    for name, value in protocol.items():
        if name in ABOUT:
            continue
        mark = "changed" if name in changed else "assumed" if name in assumed else ""
        note = assumed[name] if mark == "assumed" else "set for this run" if mark else ""
        off = value is None or value == () or value == []
        lines.append({"name": name, "value": "–" if off else _plain(value), "mark": mark, "note": note})
    return {
        "name": _plain(protocol.get("name")),
        "source": _plain(protocol.get("source")),
        "reported": _plain(protocol.get("reported")),
        "lines": lines,
        "rules": [(_condition(rule["if"]), _settings(rule["set"])) for rule in protocol.get("rules") or ()],
    }


def _condition(bounds: Mapping[str, Any]) -> str:
    parts = []
    for what in ("IPC", "classes"):
        low, high = (bounds.get(f"{what.lower()}_{end}") for end in ("min", "max"))
        if low is not None or high is not None:
            parts.append(f"{what} {_range(low, high)}")
    if students := bounds.get("students"):
        parts.append(f"students {_plain(students)}")
    return ", ".join(parts)


def _range(low: int | None, high: int | None) -> str:
    if low == high:
        return f"{low:,}"
    if low is not None and high is not None:
        return f"{low:,} to {high:,}"
    return f"up to {high:,}" if high is not None else f"from {low:,}"


def _settings(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_plain(value)}" for name, value in values.items())
