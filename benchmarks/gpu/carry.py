"""The folder that is brought along: `python -m benchmarks.gpu.carry FOLDER` fills it, `use` puts it to use.

FOLDER/wheels has the packages that a machine with torch and transformers lacks, FOLDER/images JPEG files; see
`benchmarks.gpu` for the list and the command of pip that is run here. Nothing but the standard library is needed.
"""

from __future__ import annotations

import argparse
import atexit
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WHEELS = (
    *("diffusers", "open_clip_torch", "ftfy", "wcwidth"),
    *("pydantic", "pydantic_core", "annotated_types", "typing_inspection", "typing_extensions"),
    *("importlib_metadata", "zipp"),
)
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
JPEGS = (".jpg", ".jpeg")


def use(folder: Path) -> list[str]:
    """Make the wheels of a folder importable here and in the processes that are started; what was wrong with some.

    Call it before anything that the wheels hold is imported. They are unpacked into a temporary folder, which comes
    before the installed packages, so that versions that belong together stay together.
    """
    wheels = sorted(folder.glob("wheels/*.whl"))
    if not wheels:
        return [f"{folder}: no wheels/*.whl in it"]
    fit = [wheel for wheel in wheels if fits(wheel.name)]
    place = tempfile.mkdtemp(prefix="raycond-wheels-")
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    for wheel in fit:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(place)
    sys.path.insert(0, place)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (place, os.environ.get("PYTHONPATH"))))
    return [f"{wheel.name}: not for this Python and system" for wheel in wheels if wheel not in fit]


def fits(name: str) -> bool:
    """Whether a wheel of this file name is for this Python and this kind of processor, by the tags in the name."""
    python, abi, system = name.removesuffix(".whl").split("-")[-3:]
    major, minor = sys.version_info[:2]
    this = f"cp{major}{minor}"
    older = [f"cp{major}{m}" for m in range(2, minor + 1)]
    tags = set(python.split("."))
    right = f"py{major}" in tags or this in tags or ("abi3" in abi.split(".") and not tags.isdisjoint(older))
    return right and (system == "any" or system.endswith(platform.machine()))


def images(folder: Path | None) -> list[Path]:
    """The JPEG files that were brought along, sorted by name."""
    paths = folder.glob("images/*") if folder is not None else ()
    return sorted(path for path in paths if path.suffix.lower() in JPEGS)


def fill(folder: Path, *, python: str, source: Path | None, count: int) -> None:
    """Download the wheels for a version of Python, and copy up to `count` of the JPEG files under `source`, spread
    evenly over all of them in the order of their names."""
    target = folder / "wheels"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--implementation", "cp", "--python-version", python]
    command += [option for name in PLATFORMS for option in ("--platform", name)]
    command += ["-c", str(ROOT / "constraints.txt"), "-d", str(target), *WHEELS]
    subprocess.run(command, check=True)
    if source is not None:
        copy_images(source, folder / "images", count)


def copy_images(source: Path, target: Path, count: int) -> None:
    """Raises FileNotFoundError if there are no JPEG files under `source`."""
    paths = sorted(path for path in source.rglob("*") if path.suffix.lower() in JPEGS)
    if not paths:
        raise FileNotFoundError(f"{source}: no files {' or '.join(JPEGS)} in it")
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    count = min(count, len(paths))
    chosen = [paths[k * len(paths) // count] for k in range(count)]
    for number, path in enumerate(chosen):
        shutil.copyfile(path, target / f"{number:04d}.jpeg")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.carry", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--python", default="3.12", help="version that the wheels are for (default: 3.12)")
    parser.add_argument("--images", type=Path, help="a folder of JPEG files, of which some are brought along")
    parser.add_argument("--count", type=int, default=64, help="how many of them (default: 64)")
    options = parser.parse_args(arguments)
    fill(options.folder, python=options.python, source=options.images, count=options.count)
    size = sum(path.stat().st_size for path in options.folder.rglob("*") if path.is_file())
    print(f"{options.folder}: {size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
