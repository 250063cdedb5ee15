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
# of a file that pytest cannot import, for want of a package that is not ours
MISSING = re.compile(r"ModuleNotFoundError: No module named '((?!raycond|benchmarks|tests)\w+)")
# where there is no device, one file is enough to see that pytest collects them
TINY = ("tests/training/augment/test_batch.py",)


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
    paths = sorted((ROOT / "tests").rglob("test_*.py"))
    return [str(path.relative_to(ROOT)) for path in paths if MARK.search(path.read_text())]


def _read(context: Context, report: Path, files: int, seconds: float) -> None:
    """The failures as a check; each of them, and why tests were skipped, as notes."""
    suite = ElementTree.parse(report).getroot().find("testsuite")
    assert suite is not None  # pytest writes one
    failed, skipped, reasons = 0, 0, set[str]()
    for case in suite.iter("testcase"):
        for outcome in case:
            text = (outcome.get("message") or "").partition("\n")[0]
            if outcome.tag == "skipped":
                skipped += 1
                reasons.add(text)
            elif outcome.tag == "error" and (missing := MISSING.search(outcome.text or "")):
                skipped += 1
                reasons.add(f"{case.get('name')} needs {missing[1]}, which is not here")
            elif outcome.tag in ("failure", "error"):
                failed += 1
                context.note(f"{outcome.tag} of {case.get('classname')}::{case.get('name')}: {text}")
    count = int(suite.get("tests", "0"))
    context.note(f"{count} tests of {files} files, {skipped} skipped, {seconds:.0f} s")
    for reason in sorted(reasons):
        context.note(f"skipped: {reason}")
    context.check("tests marked gpu", failed, 0, "tests that fail")
    if not context.tiny and count == skipped:
        raise RuntimeError("not one of the tests has run")


PART = Part("the tests marked gpu", seconds=60, least=25, run=run)
