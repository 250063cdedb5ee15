"""The package as a whole: what importing it costs. That its imports point down is checked by `make lint`."""

from __future__ import annotations

import re
import subprocess
import sys

from tests.conftest import ROOT

HEAVY = ("datasets", "diffusers", "faiss", "matplotlib", "open_clip", "peft", "ray", "sklearn", "timm", "transformers")
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
