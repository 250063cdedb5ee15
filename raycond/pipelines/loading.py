"""From a preset, a YAML file and the command line to a checked configuration: which value wins, and what is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, TypeVar

import pydantic
import yaml

from raycond.core import files
from raycond.core.errors import OptionError
from raycond.core.options import Option, command_line, options_of, sections_of
from raycond.core.registry import did_you_mean
from raycond.pipelines.places import run_name

T = TypeVar("T")

_EXPECTED = {  # the kind of pydantic's complaint → what was expected, in the words of an error message
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_parsing": "a number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "string_type": "text",
    "tuple_type": "a list of values",
    "dict_type": "`field: value` lines",
    "greater_than_equal": "at least {ge:g}",
    "greater_than": "a number above {gt:g}",
    "less_than_equal": "at most {le:g}",
    "less_than": "a number below {lt:g}",
}


def presets(folder: str = "") -> dict[str, str]:
    """Name → YAML text of every preset: of a quantization, or of `generators` or `projectors`."""
    entries = sorted(resources.files("raycond").joinpath("presets", folder).iterdir(), key=lambda entry: entry.name)
    return {e.name.removesuffix(".yaml"): e.read_text("utf-8") for e in entries if e.name.endswith(".yaml")}


@dataclass(frozen=True)
class Layer:
    """Options that one place gives."""

    values: Mapping[str, Any]
    """Name of an option or of a section → its value."""

    source: str = ""
    """Where they stand, for error messages: `preset digits`, `--config FILE`; empty for the command line."""


@dataclass
class Merged:
    """What all layers give together, the strongest last."""

    values: dict[str, Any] = field(default_factory=dict)
    """Field of the configuration → its value; a section is a mapping of its fields."""

    sources: dict[tuple[str, ...], str] = field(default_factory=dict)
    """Path of a field → the layer that its value comes from."""

    def put(self, path: Sequence[str], value: Any, source: str) -> None:
        if len(path) == 1:
            self.values[path[0]] = value
        else:
            self.values[path[0]] = {**(self.values.get(path[0]) or {}), path[1]: value}
        self.sources[tuple(path)] = source

    def clear(self, section: str) -> None:
        """Forget what weaker layers gave for a section."""
        self.values.pop(section, None)


def layers(options: Mapping[str, Any], known: Mapping[str, str], preset: str | None, config: str | None) -> list[Layer]:
    """What a preset, a YAML file and options give, the strongest last. Raises OptionError if one cannot be read."""
    found = []
    if preset is not None:
        if preset not in known:
            raise OptionError(f"--preset {preset}: not one of {', '.join(known)}{did_you_mean(preset, known)}")
        found.append(Layer(_yaml(known[preset], f"preset {preset}"), f"preset {preset}"))
    if config is not None:
        try:
            text = files.read_bytes(config).decode()
        except (OSError, UnicodeDecodeError) as error:
            raise OptionError(f"--config {config}: cannot be read: {error}") from error
        found.append(Layer(_yaml(text, f"--config {config}"), f"--config {config}"))
    return [*found, Layer(options)]


def merge(kind: type, found: Sequence[Layer]) -> Merged:
    """All layers as the fields of a configuration; sections are merged field by field.

    Raises OptionError for an option or a field of a section that the configuration does not have.
    """
    by_name, sections = {one.name: one for one in command_line(kind)}, sections_of(kind)
    by_field = {one.path[0]: one for one in by_name.values() if len(one.path) == 1}
    merged = Merged()
    for layer in found:
        for key in sorted(layer.values, key=lambda key: key not in sections):  # an option wins over its section
            value = layer.values[key]
            if key in sections and isinstance(value, Mapping):
                for inner, setting in value.items():
                    _require_known(inner, {o.path[1] for o in options_of(kind) if o.path[0] == key}, layer, f"{key}: ")
                    merged.put((key, inner), setting, layer.source)
            elif key in sections:
                if value is not None:
                    raise OptionError(f"{key}: expected `field: value` lines, not {value!r}{_where(layer.source)}")
                merged.clear(key)
            else:
                _require_known(key, {*by_name, *by_field, *sections}, layer)
                merged.put((by_name.get(key) or by_field[key]).path, value, layer.source)
    return merged


def load(kind: type[T], options: Mapping[str, Any]) -> T:
    """A configuration from options alone. Raises OptionError that names a wrong one."""
    merged = merge(kind, [Layer(options)])
    make_absolute(kind, merged)
    return validated(kind, merged)


def settle(kind: type, merged: Merged, suffix: str = "") -> None:
    """Give a run without a name or folder those of its source (runs/NAME and `suffix`), and make addresses absolute."""
    values = merged.values
    values.setdefault("name", run_name(str(values.get("data", ""))))
    values.setdefault("out", files.join("runs", f"{values['name']}{suffix}"))
    make_absolute(kind, merged)


def make_absolute(kind: type, merged: Merged) -> None:
    """Give addresses that were typed in this folder the form in which workers in other folders can open them."""
    for one in options_of(kind):
        holder = merged.values if len(one.path) == 1 else merged.values.get(one.path[0]) or {}
        value = holder.get(one.path[-1])
        if one.about.place is not None and value:
            several = one.count != 1 and not isinstance(value, str)
            holder[one.path[-1]] = [one.about.place(str(v)) for v in value] if several else one.about.place(str(value))


def validated(kind: type[T], merged: Merged) -> T:
    """The configuration of these values. Raises OptionError that names what is wrong, by the option's name."""
    try:
        found = kind(**merged.values)
    except pydantic.ValidationError as error:
        raise OptionError("; ".join(dict.fromkeys(_complaints(kind, merged, error)))) from error
    for one in options_of(kind):
        if one.about.choices is not None and one.path in merged.sources:
            _require_choices(one, getattr(found, one.path[0]), merged.sources[one.path])
    return found


def shown(values: Sequence[Any]) -> str:
    """Several values as they would be typed."""
    return " ".join(map(str, values)) or "none"


def require_lists(config: Any, *names: str) -> None:
    """Raise ValueError for a list among these options that is empty or has something twice, for an IPC below 1 and for
    a seed below 0."""
    for name in names:
        values = getattr(config, name)
        if not values or len(set(values)) != len(values):
            raise ValueError(f"--{name}: expected at least one, and none twice, not {shown(values)}")
    for name, least in (("ipc", 1), ("seeds", 0)):
        values = getattr(config, name)
        if values and min(values) < least:
            raise ValueError(f"--{name}: expected numbers from {least} up, not {shown(values)}")


def _require_known(key: str, known: set[str], layer: Layer, prefix: str = "") -> None:
    if key not in known:
        hint = did_you_mean(str(key), known) or f"; known: {', '.join(sorted(known))}"
        raise OptionError(f"{prefix}unknown field {key!r}{_where(layer.source)}{hint}")


def _complaints(kind: type, merged: Merged, error: pydantic.ValidationError) -> Iterator[str]:
    by_path = {one.path: one for one in options_of(kind)}
    for one in error.errors():
        path = tuple(part for part in one["loc"] if isinstance(part, str))
        option = by_path.get(path[:2]) or by_path.get(path[:1])
        if option is None:  # a check of several fields, whose message names them
            yield str(one["msg"]).removeprefix("Value error, ")
            continue
        if one["type"].startswith("missing"):
            yield f"{option.flag} is missing: {option.text.partition('. ')[0].rstrip('.')}"
            continue
        source = merged.sources.get(option.path, "")
        yield f"{option.flag}: {_expected(option, one)}, not {one['input']!r}{_where(source)}{_near(option, one)}"


def _expected(option: Option, error: Any) -> str:
    if error["type"] == "literal_error":
        return f"expected one of {', '.join(map(str, option.choices))}"
    expected = _EXPECTED.get(error["type"])
    return f"expected {expected.format(**error.get('ctx', {}))}" if expected else str(error["msg"])


def _near(option: Option, error: Any) -> str:
    return did_you_mean(str(error["input"]), map(str, option.choices)) if error["type"] == "literal_error" else ""


def _require_choices(one: Option, value: Any, source: str) -> None:
    """Raise OptionError unless each value is one of the option's words, or begins with one and a colon."""
    known = one.choices
    for given in value if isinstance(value, tuple) else (value,):
        word = str(given).partition(":")[0]
        if given is not None and word not in known:
            hint = did_you_mean(word, known)
            raise OptionError(f"{one.flag}: expected one of {', '.join(known)}, not {given!r}{_where(source)}{hint}")


def _where(source: str) -> str:
    return f" (in {source})" if source else ""


def _yaml(text: str, what: str) -> dict[str, Any]:
    try:
        value = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise OptionError(f"{what}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(value, dict):
        raise OptionError(f"{what}: expected `field: value` lines")
    return value
