"""Things that are opened by name: `KIND` or `KIND:WHERE` on the command line, one registry for each sort of thing.

A registry is a list of entries and imports none of what they stand for. To add a kind, write one file and one entry.
"""

from __future__ import annotations

import difflib
import pkgutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from raycond.core.errors import UserError


@dataclass(frozen=True)
class Entry:
    """One kind in a registry."""

    name: str
    """The word before the colon."""

    help: str
    """What it is, in one line for `--help` and for error messages."""

    target: str
    """What is opened, as `module:name`. It is imported when the kind is first used."""

    where: str = ""
    """What follows the colon, for people: "FOLDER"; "[CHANNELS]" if it may be left out; "" if nothing may follow."""

    @property
    def form(self) -> str:
        """How the kind is written: `pixels[:CHANNELS]`, `taef2:FOLDER`, `lloyd`."""
        if self.where.startswith("["):
            return f"{self.name}[:{self.where[1:]}"
        return f"{self.name}:{self.where}" if self.where else self.name

    def load(self) -> Any:
        """The target itself, imported."""
        return pkgutil.resolve_name(self.target)


E = TypeVar("E", bound=Entry)


class Registry(Generic[E]):
    """The kinds of one sort of thing, in the order in which they are listed."""

    def __init__(self, what: str, entries: Iterable[E]) -> None:
        """what: begins every error, and should be the option that the name comes from, as in "--codec"."""
        self.what = what
        self.entries = {entry.name: entry for entry in entries}

    def __iter__(self) -> Iterator[E]:
        return iter(self.entries.values())

    def __contains__(self, name: object) -> bool:
        return name in self.entries

    def __getitem__(self, name: str) -> E:
        """The entry of a kind. Raises UserError that lists the kinds, and those whose names are near."""
        if name not in self.entries:
            forms = ", ".join(entry.form for entry in self)
            raise UserError(f"{self.what} {name}: not one of {forms}{did_you_mean(name, self.names())}")
        return self.entries[name]

    def names(self) -> tuple[str, ...]:
        """The kinds, for the choices of a command line and for the check of a configuration."""
        return tuple(self.entries)

    def check(self, name: str) -> str:
        """The name itself, as a validator of a configuration's field. Raises UserError for an unknown kind."""
        return self[name].name

    def help(self) -> str:
        """One line for each kind: how it is written, and what it is."""
        width = max(len(entry.form) for entry in self)
        return "\n".join(f"  {entry.form:{width}}  {entry.help}" for entry in self)

    def parse(self, spec: str) -> tuple[E, str]:
        """`KIND[:WHERE]` → the entry and WHERE. Raises UserError for an unknown kind, and where WHERE is missing or
        too much."""
        name, colon, where = spec.partition(":")
        entry = self[name]
        if (colon and not entry.where) or (not where and entry.where and not entry.where.startswith("[")):
            raise UserError(f"{self.what} {spec}: expected {entry.form}, {entry.help}")
        return entry, where


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean A or B?` with the known names nearest to `name`, or `` if none is near."""
    names = {known_name.lower(): known_name for known_name in known}
    near = difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(names[n] for n in near)}?" if near else ""
