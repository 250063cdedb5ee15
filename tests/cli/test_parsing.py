"""Command lines: what was given, and what is said of a wrong one."""

from __future__ import annotations

from typing import Any

import pytest

from raycond.cli.main import COMMANDS, command_of
from raycond.cli.parsing import parse
from raycond.core.errors import OptionError


def parsed(line: str) -> dict[str, Any]:
    name, *arguments = line.split()
    return parse(name, COMMANDS[name], command_of(name), arguments)


@pytest.mark.parametrize(
    ("line", "given"),
    [
        ("quantize", {}),
        ("quantize --ipc 10 50 --seed=3", {"ipc": ("10", "50"), "seed": "3"}),
        ("quantize --ipc=10", {"ipc": ("10",)}),
        ("quantize --no-evaluate --no-dashboard", {"evaluate": False, "dashboard": False}),
        ("quantize --preset digits --dry-run", {"preset": "digits", "dry_run": True}),
        ("quantize --generator-batch 4 --noise 0.3", {"generator_batch": "4", "noise": "0.3"}),
        ("quantize --gpus-per-actor -1", {"gpus_per_actor": "-1"}),
        ("quantize --max_bad 3%", {"max_bad": "3%"}),
        ("quantize --negative-prompt=-x", {"negative_prompt": "-x"}),
        ("train-generator --flip --clip 0.5", {"flip": True, "clip": "0.5"}),
        ("train-generator --no-flip", {"flip": False}),
        ("fit-projector --lambda 0.3 --clip-norm 2", {"lambda": "0.3", "clip_norm": "2"}),
        ("fit-projector --teacher-network mlp --keep 1 2.5", {"teacher_network": "mlp", "keep": ("1", "2.5")}),
        ("fit-projector --teachers resnet18@w.pt,size=32 x", {"teachers": ("resnet18@w.pt,size=32", "x")}),
        ("fit-projector --templates {} --scale 0.2 0.9", {"templates": ("{}",), "scale": ("0.2", "0.9")}),
        ("fit-projector --channels 1", {"channels": 1}),
        ("evaluate --set shuffle=2 scale=[0.25,1]", {"set": ("shuffle=2", "scale=[0.25,1]")}),
        ("evaluate --resume --out grid", {"resume": True, "out": "grid"}),
        ("evaluate --seeds 1 --seeds 2 3", {"seeds": ("2", "3")}),
        ("attach a b", {"path": "a", "projector": "b"}),
        ("store-labels a b --ipc 1 2", {"path": "a", "out": "b", "ipc": ("1", "2")}),
        ("export --to folder a b", {"path": "a", "out": "b", "to": "folder"}),
        ("quantize --verbose", {"verbose": True}),
    ],
)
def test_only_what_was_given_is_there(line: str, given: dict[str, Any]) -> None:
    assert parsed(line) == given


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("quantize --ip 10", "--ip: no such option; did you mean --ipc?"),
        ("quantize --no-evaluat", "--no-evaluat: no such option; did you mean --no-evaluate or --evaluate?"),
        ("quantize --generator_bach=3", "--generator_bach: no such option; did you mean --generator-batch?"),
        ("quantize --zzzz", "--zzzz: no such option"),
        ("quantize -s 3", "-s: no such option"),
        ("quantize runs", "runs: not expected here; every value follows its option"),
        ("verify a b", "b: not expected here; every value follows its option"),
        ("quantize --size", "--size: its value is missing; expected --size N"),
        ("quantize --size --ipc 3", "--size: its value is missing; expected --size N"),
        ("quantize --ipc --size 3", "--ipc: its value is missing; expected --ipc N [N ...]"),
        ("fit-projector --scale 1", "--scale: its value is missing; expected --scale X X"),
        ("evaluate --set", "--set: its value is missing; expected --set FIELD=VALUE [FIELD=VALUE ...]"),
        ("quantize --verbos", "--verbos: no such option; did you mean --verbose"),
    ],
)
def test_wrong_command_lines(line: str, text: str) -> None:
    with pytest.raises(OptionError) as caught:
        parsed(line)
    assert str(caught.value).startswith(text.rstrip("?"))
    assert "\n" not in str(caught.value)


def test_abbreviations_are_refused() -> None:
    for abbreviated in ("--quant lloyd", "--generator-b 3", "--no-eval", "--dry"):
        with pytest.raises(OptionError, match=abbreviated.split()[0]):
            parsed(f"quantize {abbreviated}")
