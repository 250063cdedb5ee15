from __future__ import annotations

import os
import platform
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from benchmarks.gpu import carry

MACHINE = platform.machine()
OWN = f"cp{sys.version_info[0]}{sys.version_info[1]}"
NEWER = f"cp{sys.version_info[0]}{sys.version_info[1] + 1}"


@pytest.mark.parametrize(
    ("name", "fits"),
    [
        ("a-1.0-py3-none-any.whl", True),
        ("a-1.0-py2.py3-none-any.whl", True),
        ("a-1.0-1-py3-none-any.whl", True),
        (f"a-1.0-{OWN}-{OWN}-manylinux_2_17_{MACHINE}.manylinux2014_{MACHINE}.whl", True),
        (f"a-1.0-cp38-abi3-manylinux2014_{MACHINE}.whl", True),
        (f"a-1.0-{NEWER}-abi3-manylinux2014_{MACHINE}.whl", False),
        (f"a-1.0-{NEWER}-{NEWER}-manylinux2014_{MACHINE}.whl", False),
        (f"a-1.0-{OWN}-{OWN}-manylinux2014_another.whl", False),
        ("a-1.0-py2-none-any.whl", False),
    ],
)
def test_which_wheels_fit(name: str, fits: bool) -> None:
    assert carry.fits(name) == fits


def wheel(folder: Path, name: str, module: str, text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / name, "w") as archive:
        archive.writestr(f"{module}.py", text)


def test_wheels_are_importable_here_and_in_other_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
    wheel(tmp_path / "wheels", "brought-1.0-py3-none-any.whl", "brought_along", "VALUE = 7\n")
    wheel(tmp_path / "wheels", f"other-1.0-{NEWER}-{NEWER}-linux_{MACHINE}.whl", "brought_for_another", "")
    problems = carry.use(tmp_path)
    assert problems == [f"other-1.0-{NEWER}-{NEWER}-linux_{MACHINE}.whl: not for this Python and system"]
    from brought_along import VALUE

    assert VALUE == 7
    script = "import brought_along, importlib.util as u; print(brought_along.VALUE, u.find_spec('brought_for_another'))"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["7", "None"]


def test_a_folder_without_wheels_is_named(tmp_path: Path) -> None:
    assert carry.use(tmp_path) == [f"{tmp_path}: no wheels/*.whl in it"]


def test_filling_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(subprocess, "run", lambda command, **_: commands.append(command))
    source = tmp_path / "source"
    for k in range(10):
        (source / f"class{k % 2}").mkdir(parents=True, exist_ok=True)
        (source / f"class{k % 2}" / f"{k}.JPEG").write_bytes(bytes([k]))
    (source / "notes.txt").write_text("no image")
    folder = tmp_path / "carry"
    for _ in range(2):  # what was there before is replaced
        carry.main([str(folder), "--images", str(source), "--count", "4", "--python", "3.13"])
    copied = carry.images(folder)
    assert [path.read_bytes()[0] for path in copied] == [0, 4, 1, 5]
    (command, _) = commands
    assert command[1:4] == ["-m", "pip", "download"]
    assert command[command.index("--python-version") + 1] == "3.13"
    assert command[command.index("-d") + 1 :] == [str(folder / "wheels"), *carry.WHEELS]
    assert Path(command[command.index("-c") + 1]).is_file()


def test_a_source_without_images_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no files \.jpg or \.jpeg"):
        carry.copy_images(tmp_path, tmp_path / "out", 3)
    assert carry.images(None) == []
