"""Command lines by tyro: the options that were given, `--help`, and what is wrong, in one line.

tyro reads each option as text; pydantic checks and converts it with what presets and YAML files give, so that a wrong
value is reported alike wherever it stands, and an option that was not given is known to be one.
"""

from __future__ import annotations

import contextlib
import io
import re
import shutil
import textwrap
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, TypedDict

import tyro

from raycond.cli.command import Command
from raycond.core.errors import OptionError
from raycond.core.options import Option
from raycond.core.registry import did_you_mean

_LINES = re.compile(r"[\u2500-\u257f]+")  # the frames that tyro draws around its messages


def parse(name: str, summary: str, command: Command, arguments: Sequence[str]) -> dict[str, Any]:
    """The options that were given, by name. Prints help and raises SystemExit for `--help`.

    name: of the command; summary: what it does, in one line. Raises OptionError for an option that the command does not
    have, or that has no value.
    """
    options = {one.name: one for one in command.options}
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            groups, unknown = tyro.cli(
                _table(options.values()),
                prog=f"raycond {name}",
                description=_description(summary, command),
                args=list(arguments),
                config=(tyro.conf.OmitArgPrefixes,),
                return_unknown_args=True,
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        raise _incomplete(errors.getvalue(), options.values()) from None
    if unknown:
        raise _unknown(unknown, options.values())
    given = {key: value for group in groups.values() for key, value in group.items()}
    return {key: _value(options[key], value) for key, value in given.items()}


def _table(options: Iterable[Option]) -> Any:
    """The options as tyro takes them: a dictionary for each group, all of whose keys may be absent."""
    groups: dict[str, dict[str, Any]] = {}
    texts: dict[str, str] = {}
    for one in options:
        groups.setdefault(one.group, {})[one.name] = _argument(one)
        texts.setdefault(one.group, one.group_text)
    tables = {}
    for title, fields in groups.items():
        tables[title] = TypedDict(title, fields, total=False)  # type: ignore[operator]
        tables[title].__doc__ = texts[title]
    return TypedDict("Options", tables, total=False)  # type: ignore[operator]


def _argument(one: Option) -> Any:
    if one.is_switch:
        kind: Any = bool
    elif one.count is None:
        kind = tuple[str, ...]
    else:
        kind = str if one.count == 1 else tuple[(str,) * one.count]  # type: ignore[misc]
    about = tyro.conf.arg(
        name=None if one.positional else one.flag.removeprefix("--"),
        help=one.text,
        help_behavior_hint=f"(default: {one.default_text})" if one.default_text else "(required)" * one.required,
        metavar=None if one.is_switch else one.metavars,
    )
    return Annotated[kind, about, tyro.conf.Positional] if one.positional else Annotated[kind, about]


def _description(summary: str, command: Command) -> str:
    """What stands above the options. The text is indented, for tyro joins lines that are not."""
    width = shutil.get_terminal_size().columns
    text = textwrap.fill(command.description, width, initial_indent="  ", subsequent_indent="  ")
    examples = "\n".join(f"  {line}" for line in command.examples)
    return f"{summary[0].upper()}{summary[1:]}.\n\n{text}\n\nExamples:\n{examples}\n"


def _value(one: Option, value: Any) -> Any:
    """The texts of an option, or the numbers among its choices that they stand for. Raises OptionError for no text."""
    if value == ():
        raise _missing(one)
    if one.about.choices is not None or not isinstance(value, str):
        return value
    return {str(choice): choice for choice in one.choices}.get(value, value)


def _unknown(tokens: Sequence[str], options: Iterable[Option]) -> OptionError:
    names = [name for one in options if not one.positional for name in _spellings(one)]
    wrong = next((token for token in tokens if token.startswith("-")), None)
    if wrong is None:
        return OptionError(f"{tokens[0]}: not expected here; every value follows its option")
    wrong = wrong.partition("=")[0]
    near = did_you_mean(wrong.lstrip("-").replace("_", "-"), names)
    return OptionError(f"{wrong}: no such option" + re.sub("(mean|or) ", r"\1 --", near))


def _spellings(one: Option) -> tuple[str, ...]:
    """The names of an option without the dashes before them."""
    name = one.flag.removeprefix("--")
    return (name, f"no-{name}") if one.is_switch else (name,)


def _incomplete(message: str, options: Iterable[Option]) -> OptionError:
    """What tyro complains of without an option that it does not know: one whose value is missing."""
    for one in options:
        if re.search(rf"{re.escape(one.flag)}(?![\w-])", message):
            return _missing(one)
    return OptionError(" ".join(_LINES.sub(" ", message).split()))


def _missing(one: Option) -> OptionError:
    return OptionError(f"{one.flag}: its value is missing; expected {one.flag} {one.metavars}")
