"""Put the tables of a finished run into benchmarks/RESULTS-GPU.md: python -m benchmarks.gpu.results DIR

The page has one section for each device, that of its last run. A run of miniature models is refused.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from benchmarks.gpu import page
from benchmarks.gpu.record import Record

PAGE = Path(__file__).resolve().parents[1] / "RESULTS-GPU.md"
NONE_YET = "**No run was made yet: nothing of raycond has been checked or measured on a GPU.**"
SECTION = "## "


def kept(text: str, record: Record) -> str:
    """The page `text` with the section of the record's device replaced, or added at the end."""
    head, *sections = _split(text.replace(NONE_YET, ""))
    title = f"{SECTION}{record.about['device']}"
    lines = ("#" + line if line.startswith("#") else line for line in page.body(record))
    new = "\n".join((title, "", *lines))
    sections = [section for section in sections if section.splitlines()[0] != title] + [new]
    return "\n\n".join(part.strip() for part in (head, *sections)) + "\n"


def _split(text: str) -> list[str]:
    """What comes before the first section, and the sections, each with its heading."""
    parts: list[list[str]] = [[]]
    for line in text.splitlines():
        if line.startswith(SECTION):
            parts.append([])
        parts[-1].append(line)
    return ["\n".join(part) for part in parts]


def read(folder: Path) -> Record:
    """The record that a run has written into its folder."""
    plain = json.loads((folder / "gpu.json").read_text())
    plain.pop("projected")
    return Record.from_dict(plain)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.results", description=__doc__)
    parser.add_argument("folder", type=Path, help="that benchmarks.gpu was given as --out")
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args(arguments)
    record = read(options.folder)
    if record.tiny:
        raise SystemExit(f"{options.folder}: a run of miniature models on the CPU measures nothing")
    options.page.write_text(kept(options.page.read_text(), record))


if __name__ == "__main__":
    main()
