"""How near the presets are to their sources, docs/fidelity.md, from the presets and from what the sources do.

python -m raycond.cli.fidelity > docs/fidelity.md
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from typing import Any

import yaml

from raycond.core.errors import RaycondError
from raycond.core.options import command_line
from raycond.evaluate.protocol import Recipe, presets, recipe
from raycond.pipelines.quantize.config import QuantizeConfig, load_config

HEAD = """\
# Fidelity

How near the presets are to the papers whose names they have, written by
`python -m raycond.cli.fidelity > docs/fidelity.md` from the presets and from
[presets/fidelity](../raycond/presets/fidelity), which says what each source does and in which file. "Same" is found by
comparison; where a value differs, the last column says why. Values of raycond that a source leaves open are listed as
assumed.

"""
COLUMNS = ("field", "source's file", "source", "raycond", "")
CELL = {"ipc": 10, "classes": 10, "student": "resnet18", "size": 224}


def fidelity() -> str:
    """The page as Markdown. Raises RaycondError for a value that differs from its source without a reason."""
    parts = [HEAD, "## Evaluation protocols\n\n"]
    known = _known("protocols")
    for name in presets():
        parts += _protocol(name, recipe(name), known.get(name, {}))
    parts.append("## Methods and generators\n\n")
    for name, about in _known("methods").items():
        parts += _method(name, about)
    return "".join(parts).rstrip("\n") + "\n"


def _known(kind: str) -> dict[str, Any]:
    text = resources.files("raycond").joinpath("presets", "fidelity", f"{kind}.yaml").read_text("utf-8")
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def _protocol(name: str, one: Recipe, about: Mapping[str, Any]) -> Iterator[str]:
    yield f"### {name}\n\n{one.fields['source']}.\n\n"
    if about:
        yield f"Compared with {about['repository']}.\n\n"
        yield _table(name, about["rows"], [_line_of_protocol(one, row) for row in about["rows"]])
    assumed = one.fields.get("assumed", {})
    if assumed:
        yield "".join(f"- assumed, `{setting}`: {text}\n" for setting, text in assumed.items()) + "\n"


def _line_of_protocol(one: Recipe, row: Mapping[str, Any]) -> tuple[str, Any, Any]:
    """What is compared, the source's value and raycond's."""
    if "what" in row:
        return row["what"], row["source"], row["raycond"]
    at = row.get("at", {})
    protocol = one.resolve(**{**CELL, **at})
    where = ", ".join(f"{key} {value}" for key, value in at.items())
    name, value = "side of resized test images", protocol.test_side(at.get("size", CELL["size"]))
    if "setting" in row:
        name, value = f"`{row['setting']}`", getattr(protocol, row["setting"])
    return name + (f" ({where})" if where else ""), row["source"], value


def _method(name: str, about: Mapping[str, Any]) -> Iterator[str]:
    yield f"### {about.get('title', f'Preset {name}')}\n\nCompared with {about['repository']}.\n\n"
    values = {} if "title" in about else _options(name)
    yield _table(name, about["rows"], [_line_of_method(values, row) for row in about["rows"]])


def _options(name: str) -> dict[str, Any]:
    """Name of an option → its value in the preset."""
    plain = load_config({"data": "digits:"}, preset=name).to_dict()
    found = {}
    for one in command_line(QuantizeConfig):
        value: Any = plain
        for part in one.path:
            value = value[part]
        found[one.name] = value
    return found


def _line_of_method(values: Mapping[str, Any], row: Mapping[str, Any]) -> tuple[str, Any, Any]:
    if "what" in row:
        return row["what"], row["source"], row["raycond"]
    source = row["source"] if row.get("known", True) else "not published"
    return f"`{row['option']}`", source, values[row["option"]]


def _table(name: str, rows: Sequence[Mapping[str, Any]], lines: Sequence[tuple[str, Any, Any]]) -> str:
    text = [COLUMNS, ("---",) * len(COLUMNS)]
    for row, (field, source, value) in zip(rows, lines, strict=True):
        why, alike = row.get("why", ""), _alike(source, value, row)
        if not alike and not why:
            raise RaycondError(f"presets/fidelity: {name}, {field}: the source has {source}, raycond {value}: say why")
        text.append((field, row["file"], _shown(source), _shown(value), "same" if alike else why))
    return "".join("| " + " | ".join(cells) + " |\n" for cells in text) + "\n"


def _alike(source: Any, value: Any, row: Mapping[str, Any]) -> bool:
    """Whether the two are the same; in words they are where no reason is given for a difference."""
    if "what" in row:
        return "why" not in row
    return (list(value) if isinstance(value, tuple) else value) == source


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(_shown, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    print(fidelity(), end="")
