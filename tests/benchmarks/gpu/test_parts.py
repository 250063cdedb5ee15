from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.gpu import facts
from benchmarks.gpu.context import Context
from benchmarks.gpu.parts import PARTS, lloyd
from benchmarks.gpu.parts import tests as marked
from benchmarks.gpu.photos import Photos, photo_sets
from benchmarks.gpu.record import PartRecord
from benchmarks.gpu.runner import load

REPORT = """<testsuites><testsuite tests="4">
<testcase classname="tests.a" name="good"/>
<testcase classname="tests.a" name="bad"><failure message="assert 1 == 2&#10;more">trace</failure></testcase>
<testcase classname="" name="tests.b"><error message="collection failure">
E   ModuleNotFoundError: No module named '{missing}'</error></testcase>
<testcase classname="tests.c" name="other"><skipped message="no CUDA device"/></testcase>
</testsuite></testsuites>"""


def context(tmp_path: Path, carry: Path | None = None, *, tiny: bool = True) -> Context:
    run = Context(torch.device("cpu"), tiny=tiny, scratch=tmp_path, carry=carry)
    run.begin(PartRecord("part"), 100)
    return run


def test_every_part_has_a_title_and_a_share() -> None:
    for name in PARTS:
        part = load(PartRecord(name))
        assert part is not None
        assert part.title
        assert 0 < part.least < part.seconds


def test_marked_files_are_those_with_such_tests() -> None:
    files = marked.marked_files()
    assert {"tests/training/augment/test_batch.py", "tests/methods/quantize/test_codebook.py"} <= set(files)
    assert "tests/methods/quantize/test_codebook_file.py" not in files


@pytest.mark.parametrize(("missing", "failed"), [("sklearn.datasets", 1), ("raycond.moved", 2)])
def test_failures_of_pytest_become_a_check(tmp_path: Path, missing: str, failed: int) -> None:
    report = tmp_path / "report.xml"
    report.write_text(REPORT.format(missing=missing))
    run = context(tmp_path)
    marked._read(run, report, 3, 1.5)
    (check,) = run.part.checks
    assert (check.value, check.passed) == (failed, False)
    assert "failure of tests.a::bad: assert 1 == 2" in run.part.notes
    assert "skipped: no CUDA device" in run.part.notes
    assert ("skipped: tests.b needs sklearn, which is not here" in run.part.notes) == (failed == 1)


def test_tests_that_never_run_do_not_pass(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_text('<x><testsuite tests="1"><testcase name="a"><skipped message="no"/></testcase></testsuite></x>')
    with pytest.raises(RuntimeError, match="not one of the tests has run"):
        marked._read(context(tmp_path, tiny=False), report, 1, 1.0)


def test_photographs_that_were_brought_along_come_as_they_are_and_enlarged(tmp_path: Path) -> None:
    (generated,) = photo_sets(context(tmp_path))
    assert generated.name.startswith("generated, as large as ImageNet's: 58 × 48 px, ")
    assert generated.some(6)[4:] == list(generated.files[:2])
    (tmp_path / "images").mkdir()
    for k, file in enumerate(generated.files):
        (tmp_path / "images" / f"{k}.jpeg").write_bytes(file)
    as_they_are, enlarged = photo_sets(context(tmp_path, tmp_path))
    assert as_they_are == Photos("brought along", generated.files)
    assert enlarged.name.startswith("enlarged, as large as ImageNet's: 58 × 48 px, ")


def test_latents_have_the_spectrum_of_real_ones() -> None:
    points = lloyd.latents(1, 500, 800, "cpu")[0].double()
    values = torch.linalg.svdvals(points - points.mean(0)).square()
    share = (values.cumsum(0) / values.sum()).tolist()
    assert share[9] == pytest.approx(0.25, abs=0.05)
    assert share[99] == pytest.approx(0.65, abs=0.05)


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 NVL", 835e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA A10G", 70e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA L4", 121e12),
        ("Another Card", None),
    ],
)
def test_the_data_sheets_peak_is_that_of_the_first_name_that_fits(
    monkeypatch: pytest.MonkeyPatch, name: str, peak: float | None
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: name)
    assert facts.nominal_peak(torch.device("cuda")) == peak
    assert facts.nominal_peak(torch.device("cpu")) is None
