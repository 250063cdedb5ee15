"""The record of a run as a page of Markdown tables."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from benchmarks.gpu import projection
from benchmarks.gpu.record import Check, Figure, PartRecord, Record


def of(record: Record) -> str:
    """The page of a run."""
    return "\n".join(_page(record)) + "\n"


def _page(record: Record) -> Iterator[str]:
    yield f"# {record.about.get('device', 'unknown device')}"
    yield ""
    if record.tiny:
        yield "Miniature models on the CPU: this run shows that the command works, and its figures mean nothing."
        yield ""
    yield from body(record)


def body(record: Record) -> Iterator[str]:
    """The page without its heading."""
    yield ", ".join(f"{name} {value}" for name, value in record.about.items() if name != "device") + "."
    yield ""
    yield (f"Begun {record.began}; {record.seconds:.0f} s of a budget of {record.budget:g} s. Figures are medians; "
           "in brackets are the least and the greatest of the repeats and their number.")  # fmt: skip
    yield from _absent(record)
    yield from _outcome(record)
    yield from _projection(record)
    for part in record.parts:
        yield from _part(part)


def _absent(record: Record) -> Iterator[str]:
    if record.absent:
        yield f"Not found on this machine: {', '.join(record.absent)}."


def _outcome(record: Record) -> Iterator[str]:
    checks = [check for part in record.parts for check in part.checks]
    yield ""
    yield f"**{sum(check.passed for check in checks)} of {len(checks)} checks passed.**"
    failed = [check.name for check in checks if not check.passed]
    if failed:
        yield f"Failed: {'; '.join(failed)}."
    for part in record.parts:
        if part.state != "done":
            reason = part.reason.splitlines()[-1] if part.reason else ""
            yield f"Part `{part.name}` is {part.state}" + (f": {reason}." if reason else ".")


def _projection(record: Record) -> Iterator[str]:
    rows = list(projection.projected(record))
    if not rows:
        return
    yield ""
    yield "## Projected hours for ImageNet-1K on this device"
    yield ""
    yield "```"
    yield projection.FORMULA.format(photos=projection.photos(record))
    yield "```"
    yield ""
    head = ["generator", "IPC", "decode and encode", "limited by", "quantize", "generate", "total, h"]
    cells = [
        [row.generator, str(row.ipc), f"{row.encode:.2f}", row.bound, f"{row.quantize:.2f}", f"{row.generate:.2f}",
         f"{row.total:.2f}"] for row in rows
    ]  # fmt: skip
    yield from table(head, cells)


def _part(part: PartRecord) -> Iterator[str]:
    if part.state in ("waiting", "skipped") and not (part.checks or part.figures):
        return
    yield ""
    yield f"## {part.name}: {part.title} ({part.seconds:.0f} s)"
    if part.state == "failed":
        yield from ("", "```", part.reason, "```")
    if part.checks:
        yield ""
        head = ["check", "what is compared", "value", "limit", ""]
        yield from table(head, [_check(check) for check in part.checks])
    for name in dict.fromkeys(figure.name for figure in part.figures):
        yield ""
        yield from _figures([figure for figure in part.figures if figure.name == name])
    if part.notes:
        yield ""
        yield from (f"- {note}" for note in part.notes)


def _check(check: Check) -> list[str]:
    return [check.name, check.what, number(check.value), f"{check.limit:g}", "passed" if check.passed else "FAILED"]


def _figures(figures: Sequence[Figure]) -> Iterator[str]:
    """One table of the figures that share a name; a column for each setting that any of them has."""
    settings = list(dict.fromkeys(key for figure in figures for key in figure.setting))
    beside = list(dict.fromkeys(key for figure in figures for key in figure.beside))
    rows = []
    for figure in figures:
        least, greatest, count = min(figure.repeats), max(figure.repeats), len(figure.repeats)
        spread = f" ({number(least)} to {number(greatest)}, {count})" if count > 1 else ""
        rows.append(
            [
                *(str(figure.setting.get(key, "")) for key in settings),
                number(figure.value) + spread,
                *(number(figure.beside[key]) if key in figure.beside else "" for key in beside),
            ]
        )
    yield from table([*settings, f"{figures[0].name}, {figures[0].unit}", *beside], rows)


def number(value: float) -> str:
    """Four significant digits, with an exponent only for very small and very large numbers."""
    if not math.isfinite(value):
        return str(value)
    if value == round(value) and abs(value) < 1e6:
        return f"{value:.0f}"
    if 1e-3 <= abs(value) < 1e6:
        return f"{value:.{max(0, 3 - math.floor(math.log10(abs(value))))}f}"
    return f"{value:.2e}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """The lines of a Markdown table."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    for row in [head, ["-" * width for width in widths], *rows]:
        yield "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
