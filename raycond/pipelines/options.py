"""Options of a run: read from a preset, a YAML file and the command line, checked, and made absolute."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from importlib import resources
from typing import Any, TypeVar

import pydantic
import yaml

from raycond.core import files
from raycond.core.errors import UserError

T = TypeVar("T")


def presets(folder: str = "") -> dict[str, str]:
    """Name → YAML text of every preset: of a quantization, or of `generators` or `projectors`."""
    found = resources.files("raycond").joinpath("presets", folder)
    entries = sorted(found.iterdir(), key=lambda entry: entry.name)
    return {e.name.removesuffix(".yaml"): e.read_text() for e in entries if e.name.endswith(".yaml")}


def layers(
    options: Mapping[str, Any], known: Mapping[str, str], preset: str | None, config: str | None
) -> list[dict[str, Any]]:
    """What a preset, a YAML file and options say, the strongest last. Raises UserError where one cannot be read."""
    found = []
    if preset is not None:
        if preset not in known:
            raise UserError(f"--preset {preset}: not one of {', '.join(known)}")
        found.append(_yaml(known[preset], f"preset {preset}"))
    if config is not None:
        try:
            text = files.read_bytes(config).decode()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"--config {config}: cannot be read: {error}") from error
        found.append(_yaml(text, f"--config {config}"))
    return [*found, dict(options)]


def merge_layers(found: Sequence[Mapping[str, Any]], section: str, options: Mapping[str, str]) -> dict[str, Any]:
    """One mapping of all layers. options: field of the section → the option of its own that it is."""
    merged: dict[str, Any] = {}
    for layer in found:
        own = {field: layer[option] for field, option in options.items() if option in layer}
        if not isinstance(layer.get(section) or {}, Mapping):
            raise UserError(f"--{section}: expected `field: value` lines, not {layer[section]!r}")
        rest = {key: value for key, value in layer.items() if key not in options.values()}
        merged |= {**rest, section: {**merged.get(section, {}), **(layer.get(section) or {}), **own}}
    return merged


def check_fields(merged: Mapping[str, Any], kind: Any) -> None:
    """Raise UserError for a field that the configuration does not have."""
    known = field_names(kind)
    for key in merged:
        if key not in known:
            raise UserError(f"configuration: unknown field {key!r}; known: {', '.join(sorted(known))}")


def settle(merged: dict[str, Any], kind: Any, addresses: Sequence[str], suffix: str = "") -> None:
    """Give a run without name or folder those of its source (runs/NAME and `suffix`), and make addresses absolute.

    Raises UserError for a field that the configuration does not have.
    """
    check_fields(merged, kind)
    merged.setdefault("name", run_name(str(merged.get("data", ""))))
    merged.setdefault("out", files.join("runs", f"{merged['name']}{suffix}"))
    make_absolute(merged, addresses)


def make_absolute(merged: dict[str, Any], addresses: Sequence[str]) -> None:
    for key in addresses:
        if merged.get(key):
            merged[key] = place(str(merged[key]))


def field_names(kind: Any) -> tuple[str, ...]:
    return tuple(f.name for f in fields(kind))


def validated(kind: type[T], merged: Mapping[str, Any], section: str, options: Mapping[str, str]) -> T:
    """The configuration. Raises UserError that names wrong options; those of a section have names of their own."""

    def told(error: Any) -> str:
        loc = error["loc"]
        if loc[:1] == (section,) and len(loc) > 1:
            return complaint({**error, "loc": (options.get(loc[1], loc[1]), *loc[2:])})
        return complaint({**error, "loc": ()} if loc == (section,) else error)

    try:
        return kind(**merged)
    except pydantic.ValidationError as error:
        raise UserError("; ".join(told(e) for e in error.errors())) from error


def complaint(error: Any) -> str:
    """One complaint of pydantic, by the name of the option that it is about."""
    if not error["loc"]:
        return str(error["msg"]).removeprefix("Value error, ")
    name = "--" + str(error["loc"][0]).replace("_", "-")
    inner = "".join(f", {part}" for part in error["loc"][1:] if isinstance(part, str))
    return f"{name}{inner}: {error['msg']}, not {error['input']!r}"


def shown(values: Sequence[Any]) -> str:
    return " ".join(map(str, values)) or "none"


def run_name(data: str) -> str:
    """A name for what comes from a source: /data/imagenet/train is imagenet."""
    parts = [part for part in re.split(r"[/:]+", data) if part not in ("", "train", "training")]
    name = re.sub(r"[^\w.-]+", "-", re.split(r"[{*?\[]", parts[-1])[0]) if parts else ""
    return re.sub(r"\.(tar|parquet)$", "", name).strip("-.") or "run"


def place(uri: str) -> str:
    """An address that workers in other folders can open; built-in sets (`digits:`) stay as they are."""
    return uri if uri.endswith(":") else files.absolute(uri)


def spec_place(spec: str) -> str:
    """`KIND:WHERE` with a WHERE that workers in other folders can open."""
    kind, _, where = spec.partition(":")
    local = where.partition("//")[0]
    return f"{kind}:{files.absolute(where)}" if local and files.exists(local) and "@" not in where else spec


def labeler_place(spec: str) -> str:
    """`teacher:NAME@FILE,…`, `projector:DIR[,clip=…]` or `stored:DIR` that workers in other folders can open."""
    kind, _, where = spec.partition(":")
    if kind in ("projector", "stored"):
        folder, comma, clip = where.partition(",clip=")
        return f"{kind}:{files.absolute(folder)}{comma}{clip_place(clip)}"
    head, at, rest = spec.partition("@")
    where, comma, more = rest.partition(",")
    return f"{head}@{files.absolute(where)}{comma}{more}" if at else spec


def clip_place(spec: str) -> str:
    """A local folder of a CLIP as every worker can open it; names of open_clip stay as they are."""
    return files.absolute(spec) if spec and files.exists(spec) else spec


def _yaml(text: str, what: str) -> dict[str, Any]:
    try:
        value = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise UserError(f"{what}: not valid YAML: {error}") from error
    if not isinstance(value, dict):
        raise UserError(f"{what}: expected `field: value` lines")
    return value
