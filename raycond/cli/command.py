"""What a command of the command line is: its options, examples of it, and the function that carries it out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic.dataclasses import dataclass as configuration

from raycond.core.options import STRICT, Configuration, Option, command_line, option


@configuration(frozen=True, kw_only=True, config=STRICT)
class LayerOptions(Configuration):
    """Where options come from, what the run is called, and where its files go."""

    GROUP = "run"

    preset: str | None = option(None, metavar="NAME", unset="none")
    """Start from the options of a preset that comes with raycond. --config and the command line win over it."""

    config: str | None = option(None, metavar="FILE", unset="none")
    """Read options from a YAML file: lines of `name: value`, by the names below with underscores for dashes. The
    command line wins over it."""

    dry_run: bool = option(False)
    """Check everything that can be checked quickly and print what would be done, without doing it."""


@dataclass(frozen=True)
class Command:
    """One command. Its module in `raycond.cli` holds it as `COMMAND`."""

    run: Callable[[dict[str, Any]], int]
    """Carries the command out: options that were given (name → value) → exit code. Raises RaycondError."""

    kinds: tuple[type[Configuration], ...]
    """The configurations that its options are the fields of."""

    examples: tuple[str, str]
    """Two command lines, as they would be typed."""

    text: str | None
    """What it reads, does and leaves behind, in a few sentences: the docstring of its module."""

    @property
    def description(self) -> str:
        """The text as one line."""
        return " ".join((self.text or "").split())

    @property
    def options(self) -> tuple[Option, ...]:
        """All options of the command line, in the order of its help."""
        return tuple(one for kind in self.kinds for one in command_line(kind))
