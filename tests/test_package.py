"""The package as a whole: what importing it costs. That its imports point down is checked by `make lint`."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib

from packaging.requirements import Requirement

from tests.conftest import ROOT

HEAVY = ("datasets", "diffusers", "faiss", "matplotlib", "open_clip", "peft", "ray", "sklearn", "timm", "transformers")
# The last release with a hole that a file or an open port can use: code from a reference file system (fsspec, with
# which s3fs and gcsfs go), from a tar (Ray), from Parquet (PyArrow), from weights (torch) or from a template (Jinja),
# and memory errors of image readers (Pillow).
LAST_WITH_A_HOLE = {
    "fsspec": "2026.5.0",
    "s3fs": "2026.5.0",
    "gcsfs": "2026.5.0",
    "ray": "2.55.1",
    "pyarrow": "14.0.0",
    "torch": "2.9.1",
    "jinja2": "3.1.5",
    "pillow": "12.2.0",
}
IMPORT_ALL = """
import importlib, pkgutil, sys
import raycond

for module in pkgutil.walk_packages(raycond.__path__, "raycond."):
    if not module.name.startswith(("raycond.runtime.ray_", "raycond.runtime.connect")):
        importlib.import_module(module.name)
print(*sorted(set(sys.argv[1:]) & set(sys.modules)))
"""


def test_heavy_packages_are_imported_only_where_they_are_used() -> None:
    command = [sys.executable, "-c", IMPORT_ALL, *HEAVY]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_no_test_imports_from_another() -> None:
    """What two of them need is in conftest.py, in tests/support or in a module beside them that holds no test."""
    imports = re.compile(r"^\s*(?:from|import) tests\.(?:\w+\.)*test_\w+", re.MULTILINE)
    files = sorted((ROOT / "tests").rglob("*.py"))
    assert len(files) > 100
    assert [str(path) for path in files if imports.search(path.read_text())] == []


def test_no_dependency_may_be_older_than_the_mending_of_a_known_hole() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    texts = [*project["dependencies"], *project["optional-dependencies"]["s3"], *project["optional-dependencies"]["gs"]]
    required = {one.name: one.specifier for one in map(Requirement, texts)}
    assert [name for name, version in LAST_WITH_A_HOLE.items() if required[name].contains(version)] == []
