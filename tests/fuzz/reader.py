"""What is fuzzed: readers, each with sound inputs to damage."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random


@dataclass(frozen=True)
class Reader:
    """One reader of files."""

    name: str
    """Unique, for the command line and for reports."""

    seeds: Callable[[], Sequence[bytes]]
    """Sound inputs, small: what is damaged."""

    read: Callable[[bytes, Path], object]
    """Read an input, from a file in the folder if need be. It may return or raise a RaycondError; all else is a
    finding."""

    in_tests: int = 300
    """Inputs of a run of the tests; all readers together should take less than a minute."""

    repair: Callable[[bytes, Random], bytes] | None = None
    """Make checksums fit again, so that damage gets past them; applied to half of the inputs."""


def all_readers() -> dict[str, Reader]:
    """Those that the modules of `readers/` list in READERS, by name."""
    package = importlib.import_module("tests.fuzz.readers")
    found: dict[str, Reader] = {}
    for module in sorted(pkgutil.iter_modules(package.__path__), key=lambda m: m.name):
        for reader in importlib.import_module(f"tests.fuzz.readers.{module.name}").READERS:
            if reader.name in found:
                raise ValueError(f"two readers are called {reader.name}")
            found[reader.name] = reader
    return found
