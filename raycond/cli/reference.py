"""The reference of all options, docs/configuration.md, from the same fields as `--help`.

python -m raycond.cli.reference > docs/configuration.md
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from raycond.cli.command import Command
from raycond.cli.main import COMMANDS, command_of
from raycond.core.options import Configuration, Option, options_of

HEAD = """\
# Configuration

All options of every command, written by `python -m raycond.cli.reference > docs/configuration.md` from the fields of
the configuration classes, which are also what `raycond COMMAND --help` shows.

`quantize`, `match`, `kernel`, `train-generator` and `fit-projector` take their options from three places: a preset
(`--preset NAME`), then a YAML file (`--config FILE`), then the command line; the later wins. In YAML an option is a
line `name: value` by its name here, with underscores for dashes, and lists are written `[10, 50]`. Sections that only
YAML files have are listed at the end of a command; they are merged field by field. Every run writes the configuration
that it used to `config.json`.
"""


def reference() -> str:
    """The reference as Markdown."""
    parts = [HEAD]
    for name, summary in COMMANDS.items():
        parts.append("\n".join(_command(name, summary, command_of(name))))
    return "\n".join(parts)


def _command(name: str, summary: str, command: Command) -> Iterator[str]:
    yield f"## raycond {name}\n"
    yield f"{summary[0].upper()}{summary[1:]}. {command.description}\n"
    yield "\n".join(("```bash", *command.examples, "```")) + "\n"
    yield from _groups(command.options)
    for kind in command.kinds:
        yield from _sections(kind)


def _groups(options: Iterable[Option]) -> Iterator[str]:
    groups: dict[str, list[Option]] = {}
    for one in options:
        groups.setdefault(one.group, []).append(one)
    for title, inside in groups.items():
        yield f"### {title[0].upper()}{title[1:]}\n"
        yield f"{inside[0].group_text}\n"
        yield "\n".join(map(_line, inside)) + "\n"


def _sections(kind: type[Configuration]) -> Iterator[str]:
    """The sections that only YAML files have, or the fields of others that only these have."""
    sections: dict[str, list[Option]] = {}
    for one in options_of(kind):
        if not one.on_command_line:
            sections.setdefault(one.path[0], []).append(one)
    for section, inside in sections.items():
        yield f"### Section `{section}` of a YAML file\n"
        yield f"{inside[0].group_text}\n"
        yield "\n".join(map(_line, inside)) + "\n"


def _line(one: Option) -> str:
    written = one.flag if one.on_command_line else one.path[-1]
    if one.is_switch and one.on_command_line:
        written = f"{one.flag}, --no-{one.flag.removeprefix('--')}"
    elif not one.is_switch and not one.positional:
        written = f"{written} {one.metavars}"
    default = f" Default: {one.default_text}." if one.default_text else " Required." if one.required else ""
    return f"- **`{written}`** {one.text}{default}"


if __name__ == "__main__":
    print(reference(), end="")
