"""The tests marked `gpu`, by pytest in a process of its own."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

from benchmarks.gpu.context import Context
from benchmarks.gpu.part import Part

ROOT = Path(__file__).resolve().parents[3]
MARK = re.compile(r"^@pytest\.mark\.gpu\b|^pytestmark\b.*\bmark\.gpu\b", re.MULTILINE)
TINY = ("tests/augment/test_batch.py",)  # where there is no device, one file is enough to see that they are found


def run(context: Context) -> None:
    if find_spec("pytest") is None:
        raise ModuleNotFoundError("No module named 'pytest'", name="pytest")
    files = TINY if context.tiny else marked_files()
    report = context.scratch / "tests.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", f"--junitxml={report}"]
    started, limit = time.perf_counter(), max(60, context.left + 30)
    try:
        done = subprocess.run([*command, *files], cwd=ROOT, capture_output=True, text=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        context.check("tests marked gpu", 1, 0, "runs that did not end in time")
        return
    seconds = time.perf_counter() - started
    if not report.exists():
        raise RuntimeError(f"pytest ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    _read(context, report, len(files), seconds)


def marked_files() -> list[str]:
    """The files of tests that have one marked `gpu`."""
    found = sorted((ROOT / "tests").rglob("test_*.py"))
    return [str(path.relative_to(ROOT)) for path in found if MARK.search(path.read_text())]


def _read(context: Context, report: Path, files: int, seconds: float) -> None:
    """The failures as checks; why tests were skipped as notes."""
    suite = ElementTree.parse(report).getroot().find("testsuite")
    assert suite is not None  # pytest writes one
    count = {name: int(suite.get(name, "0")) for name in ("tests", "failures", "errors", "skipped")}
    context.check("tests marked gpu", count["failures"] + count["errors"], 0, "tests that fail")
    context.note(f"{count['tests']} tests of {files} files, {count['skipped']} skipped, {seconds:.0f} s")
    if not context.tiny and count["tests"] == count["skipped"]:
        raise RuntimeError("not one of the tests has run")
    reasons: set[str] = set()
    for case in suite.iter("testcase"):
        for outcome in case:
            text = (outcome.get("message") or "").partition("\n")[0]
            if outcome.tag in ("failure", "error"):
                context.note(f"{outcome.tag} of {case.get('classname')}::{case.get('name')}: {text}")
            elif outcome.tag == "skipped":
                reasons.add(text)
    for reason in sorted(reasons):
        context.note(f"skipped: {reason}")


PART = Part("the tests marked gpu", seconds=60, least=25, run=run)
