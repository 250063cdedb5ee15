"""`--help` of every command, and the reference: all options, each with a text, from the fields alone."""

from __future__ import annotations

import os
import pkgutil
import re
import shlex
import subprocess
import sys

import pytest

import raycond.cli
from raycond.cli.main import COMMANDS, command_of, main
from raycond.cli.parsing import parse
from raycond.cli.reference import reference
from raycond.core.options import Option, options_of
from tests.conftest import ROOT

# the options of the first release: none may be lost
OLD = {
    "quantize": "preset config dry-run name data val out work codec posterior dtype size resize ipc quantizer "
    "restarts weights generator strength noise guidance steps scheduler prompt negative-prompt "
    "mode-guidance mode-stop class-map generator-batch output-size image-format limit classes "
    "image-column label-column seed max-bad max-pixels decode-threads batch actors gpus-per-actor "
    "cpus-per-actor classes-at-once runner no-dashboard w2-classes students seeds protocol methods "
    "no-evaluate",
    "match": "preset config dry-run method sampling data val out ipc network iterations factor init clusters recluster "
    "limit classes seed workers runner no-evaluate",
    "train-generator": "preset config dry-run name data out codec posterior dtype size resize flip limit classes "
    "image-column label-column seed max-bad max-pixels decode-threads batch-encode width layers heads "
    "patch steps batch lr schedule warmup weight-decay class-dropout ema clip precision log-every "
    "checkpoint-every workers gpus-per-worker cpus-per-worker runner no-dashboard",
    "fit-projector": "preset config dry-run name data out clip teachers conv-rank head-rank layout head templates "
    "dtype size resize channels holdout ipc limit classes image-column label-column seed max-bad max-pixels "
    "decode-threads epochs batch lr lambda combine targets optimizer weight-decay schedule warmup "
    "clip-norm precision log-every checks patience scale shift flip no-flip mix mix-beta "
    "teacher-network keep teacher-batch teacher-lr checkpoint-every workers gpus-per-worker "
    "cpus-per-worker runner no-dashboard",
    "evaluate": "sets val data out students ipc protocol set seeds labeler weights baselines scores proxy-student "
    "proxy-nets proxy-steps trials-at-once gpus-per-trial cpus-per-trial max-pixels runner no-dashboard "
    "resume",
    "kernel": "method kernel preset data val out ipc steps targets learn-labels block limit classes seed workers "
    "runner no-evaluate dry-run lr batch",
    "attach": "",
    "store-labels": "labeler protocol set ipc views top-k rest seed device",
    "collages": "data teacher size ipc pool crops factor clip channels seed max-bad name device",
    "export": "to ipc labeler",
    "inspect": "",
    "verify": "",
}
SCRIPTS = {"quantize": "imagenet_quantize", "evaluate": "evaluate_grid"}


def shown(name: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stopped:
        main([name, "--help"])
    assert not stopped.value.code
    return capsys.readouterr().out


def flags(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--[a-z0-9-]+", text))


def every_option() -> list[Option]:
    return [one for name in COMMANDS for kind in command_of(name).kinds for one in options_of(kind)]


def test_list_of_commands_is_that_of_their_modules() -> None:
    names = {module.name for module in pkgutil.iter_modules(raycond.cli.__path__)}
    commands = {name.replace("-", "_") for name in COMMANDS}
    assert names - commands == {"main", "command", "parsing", "reference", "fidelity", "device"}
    assert commands <= names


def test_help_of_the_program_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    assert dict(lines) == COMMANDS


def test_help_of_the_program_imports_no_command() -> None:
    code = (
        "import sys; from raycond.cli.main import main; main(['--help']); "
        "print(sorted({'torch', 'pydantic', 'tyro', 'yaml', 'numpy', 'ray'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "[]"


def test_help_on_a_terminal_that_is_not_utf_8() -> None:
    script, environment = ROOT / "pipelines" / "imagenet_quantize.py", {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, script, "--help"], capture_output=True, env=environment, check=True)
    assert b"--mode-guidance X" in done.stdout
    assert done.stdout.isascii()


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_every_option_once_in_its_group_with_its_text(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = re.sub(r"\s+", " ", re.sub("[\u2500-\u257f]+", " ", shown(name, capsys)))
    command = command_of(name)
    for one in command.options:
        assert text.count(f" {one.text} ") == sum(other.text == one.text for other in command.options), one.name
        assert f"{one.flag} " in text or f"{one.flag}, " in text, one.name
        assert f"{'positional arguments' if one.positional else f'{one.group} options'} " in text
    assert flags(text) >= {f"--{option}" for option in OLD[name].split()}
    assert text.count(f"{COMMANDS[name][1:]}.") == 1
    assert command.description in text


def test_every_option_has_a_group_and_a_text_that_says_what_it_is() -> None:
    options = every_option()
    assert [one.name for one in options if not one.group or not one.group_text] == []
    assert [one.name for one in options if len(one.text.split()) < 3 or not one.text.endswith(".")] == []
    assert [one.name for one in options if not (one.text[0].isupper() or one.text[0] == "`")] == []
    # choices that a registry names and `--help` does not list stand in the text
    named = [one for one in options if one.about.choices is not None and one.about.metavar]
    assert [(one.name, word) for one in named for word in one.choices if not re.search(rf"\b{word}\b", one.text)] == []
    # None says nothing: what happens without the option must be said in words
    assert [one.name for one in options if one.default is None and not one.about.unset] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_are_command_lines(name: str) -> None:
    command = command_of(name)
    assert len(command.examples) == 2
    for example in command.examples:
        program, given, *arguments = shlex.split(example)
        assert (program, given) == ("raycond", name)
        assert parse(name, COMMANDS[name], command, arguments)


@pytest.mark.parametrize("name", ["quantize", "match", "kernel", "train-generator", "fit-projector", "evaluate"])
def test_scripts_in_pipelines_take_the_same_options(name: str) -> None:
    script = ROOT / "pipelines" / f"{SCRIPTS.get(name, name.replace('-', '_'))}.py"
    assert f'main(["{name}", *sys.argv[1:]])' in script.read_text()


def test_reference_is_up_to_date() -> None:
    found = (ROOT / "docs" / "configuration.md").read_text()
    assert found == reference(), "run python -m raycond.cli.reference > docs/configuration.md"


def test_defaults_of_collages_are_those_of_the_method() -> None:
    from raycond.methods.collages.collages import CollageOptions

    options = {one.name: one.default for one in command_of("collages").options}
    assert CollageOptions() == CollageOptions(**{name: options[name] for name in ("pool", "crops", "factor")})
