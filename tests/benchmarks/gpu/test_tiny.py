"""The whole command with miniature models on the CPU, where ray, faiss and the like cannot be imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from benchmarks.gpu import results
from benchmarks.gpu.__main__ import main
from benchmarks.gpu.parts import PARTS
from benchmarks.gpu.projection import IPCS, KINDS
from benchmarks.gpu.record import Record

ROOT = Path(__file__).resolve().parents[3]
# loaded by every Python that is started with this file's folder on its path
WITHOUT = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"ray", "faiss", "ot", "datasets", "s3fs", "gcsfs", "tyro", "importlinter"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
"""


class Done(NamedTuple):
    code: int
    printed: str
    folder: Path
    record: Record
    json: dict[str, Any]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    place = tmp_path_factory.mktemp("gpu")
    (place / "without").mkdir()
    (place / "without" / "sitecustomize.py").write_text(WITHOUT)
    path = os.pathsep.join([str(place / "without"), str(ROOT)])
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", "--tiny", "--out", str(place / "out")],
        cwd=place,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (place / "out" / "gpu.json").exists(), run.stderr
    plain = json.loads((place / "out" / "gpu.json").read_text())
    return Done(run.returncode, run.stdout, place / "out", results.read(place / "out"), plain)


@pytest.mark.slow
def test_every_part_runs_and_every_check_passes(done: Done) -> None:
    assert {part.name: part.reason for part in done.record.parts} == dict.fromkeys(PARTS, "")
    assert [part.state for part in done.record.parts] == ["done"] * len(PARTS)
    assert not [check for part in done.record.parts for check in part.checks if not check.passed]
    assert (done.code, done.record.failed, done.record.tiny) == (0, False, True)
    assert f"{done.folder}/GPU.md" in done.printed


@pytest.mark.slow
def test_every_part_checks_or_measures(done: Done) -> None:
    checking = {part.name for part in done.record.parts if part.checks}
    measuring = {part.name for part in done.record.parts if part.figures}
    assert checking == {"codec", "lloyd", "sd", "dit", "student", "matching", "clip", "augment", "labels", "tests"}
    assert measuring == {"device", "codec", "lloyd", "jpeg", "pipeline", "sd", "dit", "student", "matching", "clip"}
    figures = [figure for part in done.record.parts for figure in part.figures]
    assert all(repeat > 0 for figure in figures for repeat in figure.repeats)
    assert all(
        figure.beside["share of measured peak"] > 0 for figure in done.record.figures("encode", dtype="bfloat16")
    )


@pytest.mark.slow
def test_hours_are_projected_for_every_generator(done: Done) -> None:
    rows = [(row["generator"], row["ipc"]) for row in done.json["projected"]]
    assert rows == [(kind.name, ipc) for kind in KINDS for ipc in IPCS]
    assert all(row["total"] > row["encode"] > 0 for row in done.json["projected"])


@pytest.mark.slow
def test_the_page_tells_what_it_is(done: Done) -> None:
    page = (done.folder / "GPU.md").read_text()
    assert "its figures mean nothing" in page
    assert "Projected hours for ImageNet-1K" in page
    assert all(f"\n## {name}: " in page for name in PARTS)


@pytest.mark.slow
def test_such_a_run_is_not_kept_as_a_result(done: Done, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Results\n")
    with pytest.raises(SystemExit, match="measures nothing"):
        results.main([str(done.folder), "--page", str(page)])
    assert page.read_text() == "# Results\n"


def test_without_a_device_nothing_is_run(tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert main(["--out", str(tmp_path / "out")]) == 2
    assert "finds no CUDA device; --tiny" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_unknown_parts_are_refused(tmp_path: Path, capsys: Any) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--out", str(tmp_path), "--only", "magic"])
    assert caught.value.code == 2
    assert "invalid choice: 'magic'" in capsys.readouterr().err
