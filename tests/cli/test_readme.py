"""The commands of README.md: their options exist, and followed in order none writes over another's results."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raycond.cli.main import COMMANDS, command_of
from raycond.cli.parsing import parse
from raycond.evaluate.protocol import parse_settings
from raycond.pipelines.evaluate.config import load_grid_config
from raycond.pipelines.fit_projector.config import load_projector_config
from raycond.pipelines.quantize.config import load_config
from raycond.pipelines.train_generator.config import load_generator_config
from tests.conftest import ROOT

SCRIPTS: dict[str, tuple[str, Callable[..., Any]]] = {
    "imagenet_quantize": ("quantize", load_config),
    "train_generator": ("train-generator", load_generator_config),
    "fit_projector": ("fit-projector", load_projector_config),
    "evaluate_grid": ("evaluate", load_grid_config),
}


def commands() -> list[tuple[str, str]]:
    """(script, its arguments) of every command line in a block; `make demo` is a quantization too."""
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    found = [re.search(r"pipelines/(\w+)\.py(?: --)? (.*)", line) for line in lines]
    return [("imagenet_quantize", "--preset digits"), *((match[1], match[2]) for match in found if match)]


def place(script: str, arguments: str) -> str:
    """The folder that a command writes to."""
    name, load = SCRIPTS[script]
    options = parse(name, COMMANDS[name], command_of(name), shlex.split(arguments, comments=True))
    if name == "evaluate":
        options["changes"] = parse_settings(options.pop("set", ()))
        return str(load(options).out)
    return str(load(options, preset=options.pop("preset", None), config=None).out)


def test_no_command_writes_over_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert {script for script, _ in commands()} == set(SCRIPTS)
    places = Counter(place(*command) for command in commands())
    assert len(places) > 8
    assert [folder for folder, count in places.items() if count > 1] == []


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_scripts_themselves_show_commands_that_exist(script: str) -> None:
    text = (ROOT / "pipelines" / f"{script}.py").read_text().replace("\\\\\n", " ")
    shown = re.findall(r"^python pipelines/(\w+)\.py (.*)$", text, re.MULTILINE)
    assert shown
    places = [place(*command) for command in shown]
    assert len(set(places)) == len(places)
