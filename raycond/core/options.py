"""Options: the fields of a configuration, each with the text that people read about it.

A configuration is a frozen pydantic dataclass, put together by inheritance from groups of fields: classes that name
their heading in `GROUP`. The text of an option is the docstring under its field, and its default, choices and limits
are the field's. A field that is itself a configuration is a section; its fields may be options of the command too.

`options_of` reads all of this. The command line, the check of YAML files, `--help` and docs/configuration.md are made
from what it returns, so that nothing about an option is written a second time.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal, get_args, get_origin

import pydantic
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

STRICT = pydantic.ConfigDict(extra="forbid", use_attribute_docstrings=True)
"""The pydantic settings of every configuration: no unknown fields, and docstrings under fields are their texts."""

_METAVARS = {int: "N", float: "X", str: "TEXT"}


class Configuration:
    """Base of the groups of options, and so of every configuration."""

    GROUP = ""
    """The heading that the fields of a class stand under in `--help`; each group of options sets its own."""

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values that JSON can hold; this is what is saved beside every output."""
        plain: dict[str, Any] = pydantic.TypeAdapter(type(self)).dump_python(self, mode="json")
        return plain


def option(
    default: Any = PydanticUndefined,
    *,
    name: str = "",
    metavar: str = "",
    unset: str = "",
    choices: Callable[[], Sequence[str]] | None = None,
    place: Callable[[str], str] | None = None,
    positional: bool = False,
    **limits: Any,
) -> Any:
    """A field of a configuration that is an option of a command. Its text is the docstring under it.

    name: of the option, where it is not the field's. metavar: what stands for the value in `--help`; by default N, X,
    TEXT or the choices. unset: what happens by default, in words, where the default itself (None, -1, empty) says
    nothing. choices: the words that the value may be or begin with (before a colon). place: turns an address that was
    typed in the current folder into one that holds everywhere. positional: the value alone, without `--name`.
    limits: what pydantic checks, such as `ge=1`.
    """
    about = _About(name, metavar, unset, choices, place, positional)
    return pydantic.Field(default=default, json_schema_extra={"option": about}, **limits)  # type: ignore[dict-item]


def section(default: Any, *, options: Sequence[str] | None = None, names: Mapping[str, str] | None = None) -> Any:
    """A field whose value is another configuration, which YAML files write as a mapping of its own.

    options: the fields of the section that are options of the command too; by default all, and () for none. names: the
    names of those options that are not called like their fields.
    """
    about = _Section(None if options is None else tuple(options), dict(names or {}))
    return pydantic.Field(default=default, json_schema_extra={"section": about})  # type: ignore[dict-item]


@dataclass(frozen=True)
class _About:
    name: str = ""
    metavar: str = ""
    unset: str = ""
    choices: Callable[[], Sequence[str]] | None = None
    place: Callable[[str], str] | None = None
    positional: bool = False


@dataclass(frozen=True)
class _Section:
    options: tuple[str, ...] | None
    names: dict[str, str]


@dataclass(frozen=True)
class Option:
    """One option of a command."""

    name: str
    """Its key in a YAML file and in the mappings that `load` functions take; the command line has dashes in it."""

    path: tuple[str, ...]
    """The fields that lead to its value: one, or the section and the field in it."""

    group: str
    """The heading that it stands under."""

    group_text: str
    """What is said under that heading: the docstring of the group."""

    text: str
    """What it is and when to change it, in one paragraph."""

    type: Any
    """The type of its value."""

    default: Any
    """The value without the option; `PydanticUndefined` if there is none."""

    about: _About

    on_command_line: bool = True
    """False for fields of sections that only YAML files give."""

    @property
    def flag(self) -> str:
        """How it is written on the command line; for one that only YAML files give, how these write it."""
        if not self.on_command_line:
            return ".".join(self.path)
        return self.metavar if self.positional else "--" + self.name.replace("_", "-")

    @property
    def required(self) -> bool:
        return self.default is PydanticUndefined

    @property
    def positional(self) -> bool:
        return self.about.positional

    @property
    def is_switch(self) -> bool:
        return self.value_type is bool

    @property
    def value_type(self) -> Any:
        """The type without None."""
        kinds = [kind for kind in get_args(self.type) if kind is not type(None)]
        return kinds[0] if type(None) in get_args(self.type) and len(kinds) == 1 else self.type

    @property
    def count(self) -> int | None:
        """How many values it takes; None for any number."""
        if self.value_type is dict or get_origin(self.value_type) is dict:
            return None
        if get_origin(self.value_type) is not tuple:
            return 1
        parts = get_args(self.value_type)
        return None if parts[-1] is Ellipsis else len(parts)

    @property
    def item_type(self) -> Any:
        """The type of one value."""
        return get_args(self.value_type)[0] if get_origin(self.value_type) is tuple else self.value_type

    @property
    def choices(self) -> tuple[Any, ...]:
        """The values that it may have, or the words that these begin with; empty if any will do."""
        if self.about.choices is not None:
            return tuple(self.about.choices())
        return get_args(self.item_type) if get_origin(self.item_type) is Literal else ()

    @property
    def metavar(self) -> str:
        """What stands for one value in `--help`."""
        if self.about.metavar:
            return self.about.metavar
        if self.choices:
            return "{" + ",".join(map(str, self.choices)) + "}"
        return _METAVARS.get(self.item_type, "VALUE")

    @property
    def metavars(self) -> str:
        """What stands for all its values in `--help`."""
        return f"{self.metavar} [{self.metavar} ...]" if self.count is None else " ".join([self.metavar] * self.count)

    @property
    def default_text(self) -> str:
        """The default in words, as it would be typed; empty if there is none."""
        if self.about.unset:
            return self.about.unset
        if self.required or self.default is None:
            return ""
        if isinstance(self.default, bool):
            return "yes" if self.default else "no"
        if isinstance(self.default, tuple | list | dict):
            return " ".join(map(str, self.default)) or "none"
        return f"{self.default:g}" if isinstance(self.default, float) else str(self.default)


def options_of(kind: Any) -> tuple[Option, ...]:
    """All options of a configuration, group by group, those of sections too, in the order of the class's bases."""
    return _all_options(kind)


@lru_cache
def _all_options(kind: Any) -> tuple[Option, ...]:
    found = tuple(_options(kind))
    names = [one.name for one in found if one.on_command_line]
    assert len(set(names)) == len(names), f"{kind.__name__}: {sorted(n for n in names if names.count(n) > 1)} twice"
    return found


def command_line(kind: type) -> tuple[Option, ...]:
    """The options of a configuration that a command line may give."""
    return tuple(one for one in options_of(kind) if one.on_command_line)


def sections_of(kind: type) -> dict[str, type]:
    """The sections of a configuration: field → class."""
    return {name: _section_type(field) for name, field in _fields(kind).items() if _metadata(field, "section")}


def _options(kind: type) -> Iterator[Option]:
    fields = _fields(kind)
    for owner in kind.__mro__:
        for name in _declared(owner):
            field = fields[name]
            if any(name in _declared(base) for base in owner.__mro__[1:]):
                continue  # a new default or text for an option of another group, where it is listed
            inside = _metadata(field, "section")
            if inside is not None:
                yield from _section_options(name, field, inside)
                continue
            about = _metadata(field, "option") or _About()
            yield Option(
                name=about.name or name,
                path=(name,),
                group=vars(owner).get("GROUP", ""),
                group_text=_paragraph(owner),
                text=_text(kind, name),
                type=field.annotation,
                default=field.default,
                about=about,
            )


def _section_options(name: str, field: FieldInfo, inside: _Section) -> Iterator[Option]:
    kind = _section_type(field)
    for one in options_of(kind):
        own = one.path[0]
        listed = inside.options is None or own in inside.options
        yield replace(
            one,
            name=inside.names.get(own, one.name) if listed else f"{name}.{own}",
            path=(name, own),
            group=kind.GROUP,
            group_text=_paragraph(kind),
            default=getattr(field.default, own, one.default),
            on_command_line=listed,
        )


def _fields(kind: type) -> dict[str, FieldInfo]:
    found: dict[str, FieldInfo] = kind.__pydantic_fields__  # type: ignore[attr-defined]
    return found


def _declared(owner: type) -> list[str]:
    """The fields that a class itself declares, in the order of its source."""
    known = vars(owner).get("__pydantic_fields__", {})
    return [name for name in inspect.get_annotations(owner) if name in known]


def _metadata(field: FieldInfo, key: str) -> Any:
    extra = field.json_schema_extra
    return extra.get(key) if isinstance(extra, dict) else None


def _section_type(field: FieldInfo) -> Any:
    kinds = [kind for kind in get_args(field.annotation) if kind is not type(None)]
    return kinds[0] if kinds else field.annotation


def _paragraph(kind: type) -> str:
    """The first paragraph of a class's docstring, as one line."""
    return " ".join((inspect.getdoc(kind) or "").partition("\n\n")[0].split())


def _text(kind: type, name: str) -> str:
    """The nearest docstring under the field, as one paragraph."""
    for owner in kind.__mro__:
        field = vars(owner).get("__pydantic_fields__", {}).get(name)
        if field is not None and field.description:
            return " ".join(field.description.split())
    return ""
