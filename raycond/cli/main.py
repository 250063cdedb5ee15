"""The command line: the list of commands, error messages, exit codes and signals.

The scripts in pipelines/ call `main`. Each command lives in a module of its own, which is imported when the command is
chosen: `raycond --help` loads neither torch nor pydantic.
"""

from __future__ import annotations

import importlib
import io
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import raycond
from raycond.core.errors import OptionError, RaycondError, explained
from raycond.core.registry import did_you_mean

if TYPE_CHECKING:
    from raycond.cli.command import Command

COMMANDS = {
    "quantize": "condense an image set into a small weighted one (DDOQ, D4M)",
    "match": "optimize a small image set by matching gradients or features (DC, DSA, DM, IDC, DREAM)",
    "kernel": "condense an image set by regression with infinitely wide networks (KIP, Label Solve)",
    "train-generator": "train a small latent diffusion transformer on an image set",
    "fit-projector": "fit a label projector: CLIP with a small delta (HeLlO)",
    "evaluate": "train students on condensed sets and on baselines, and compare",
    "attach": "put a fitted projector into a condensed set",
    "store-labels": "store soft labels of the views of a condensed set",
    "collages": "write a set of collages of real patches (RDED)",
    "export": "write a condensed set in the file layout of another tool",
    "inspect": "print what a condensed set is",
    "verify": "check every digest and count of a condensed set, or of stored labels",
}
"""Name of a command → what it does. `raycond.cli` has a module of each name, with underscores for dashes."""


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out one command; the exit code is 0 only if everything that was asked for is there.

    argv: the arguments after the program's name; by default those of this process. Raises SystemExit for a command's
    `--help`.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that is not UTF-8 shows what it can
    arguments = list(sys.argv[1:] if argv is None else argv)
    name = arguments[0] if arguments else ""
    if name in ("-h", "--help"):
        print(_help())
        return 0
    if name == "--version":
        print(f"raycond {raycond.__version__}")
        return 0
    if name not in COMMANDS:
        problem = f"{name}: no such command{did_you_mean(name, COMMANDS)}" if name else "give a command"
        return _failed(f"{problem} (raycond --help lists the commands)", 2)
    return guarded(name, lambda: run_command(name, arguments[1:]))


def command_of(name: str) -> Command:
    """A command, imported."""
    command: Command = importlib.import_module(f"raycond.cli.{name.replace('-', '_')}").COMMAND
    return command


def run_command(name: str, arguments: Sequence[str]) -> int:
    """Read a command's options and carry it out; its exit code. Raises RaycondError, SystemExit for `--help`."""
    from raycond.cli.parsing import parse

    command = command_of(name)
    return command.run(parse(name, COMMANDS[name], command, arguments))


def guarded(name: str, work: Callable[[], int]) -> int:
    """Do the work of a command; errors that raycond raises on purpose become one message and exit code 2."""
    received: list[int] = []
    try:
        with _sigterm_as_interrupt(received):
            return work()
    except OptionError as error:
        return _failed(f"{error} (raycond {name} --help lists the options)", 2)
    except RaycondError as error:
        return _failed(str(error), 2)
    except OSError as error:  # a full disk, a folder that may not be written, a lost connection
        return _failed(explained(error), 1)
    except KeyboardInterrupt as stopped:
        print("\nraycond: stopped; the same command goes on from here", file=sys.stderr)
        # Ray may raise an interrupt of its own in place of ours, and others may say in words why they did
        numbers = [number for number in (*received, *stopped.args) if isinstance(number, int)]
        return 128 + (numbers[0] if numbers else signal.SIGINT)


@contextmanager
def _sigterm_as_interrupt(received: list[int]) -> Iterator[None]:
    """SIGTERM (a preempted node, `timeout`) must shut Ray down as Ctrl-C does; its number is put into `received`.

    Python lets only the main thread handle signals; in another one this does nothing.
    """

    def stop(number: int, _frame: object) -> None:
        received.append(number)
        raise KeyboardInterrupt(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _failed(message: str, code: int) -> int:
    print(f"raycond: {message}", file=sys.stderr)
    return code


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {text}" for name, text in COMMANDS.items()]
    return "\n".join(
        (
            "usage: raycond COMMAND [OPTIONS]",
            "",
            str(raycond.__doc__),
            "",
            "commands:",
            *lines,
            "",
            "raycond COMMAND --help lists the options of a command; raycond --version prints the version.",
        )
    )


if __name__ == "__main__":
    sys.exit(main())
