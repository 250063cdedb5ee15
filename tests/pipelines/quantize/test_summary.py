"""What a person reads at the end of a run, and what the report is given."""

from __future__ import annotations

from pathlib import Path

import pytest

from raycond.evaluate.table import Row
from raycond.pipelines.quantize.run import quantize
from raycond.pipelines.quantize.summary import QuantizeRun, build_report, summary, w2_tables
from tests.pipelines.quantize.make import CLASSES, config, data
from tests.support.methods import SQRT


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> QuantizeRun:
    root = tmp_path_factory.mktemp("run")
    return quantize(config(data(root / "data"), root / "out", w2_classes=2))


def test_summary_says_where_things_are(run: QuantizeRun) -> None:
    text = summary(run)
    assert run.layout.condensed in text
    assert run.layout.report in text
    assert "condense" in text
    assert "bad " not in text
    assert "NOT MADE" not in text
    assert run.layout.results not in text  # nothing was trained


def test_summary_of_a_failed_run_does_not_offer_a_set(run: QuantizeRun) -> None:
    failed = QuantizeRun(run.layout, run.source, None, failures=["class ant: broken"])
    text = summary(failed)
    assert "class ant: broken" in text
    assert run.layout.condensed not in text


def test_report_is_given_every_class_and_ipc(run: QuantizeRun) -> None:
    made = config(Path(run.source.uri), run.layout.out, w2_classes=2)
    report = build_report(made, run)
    assert set(report.galleries) == {1, 3}
    for ipc, gallery in report.galleries.items():
        assert list(gallery) == list(CLASSES)
        assert all(sum(picture.count for picture in pictures) == 12 for pictures in gallery.values())
        assert all(len(pictures) == ipc for pictures in gallery.values())
    assert report.missing == {"accuracy": "evaluation was switched off"}
    assert report.quarantine is not None
    assert report.quarantine.total == 48


def test_w2_is_the_mean_of_the_measured_classes(run: QuantizeRun) -> None:
    rows = w2_tables(run, (3, 1))
    assert [row["ipc"] for row in rows] == [1] * 4 + [3] * 4
    assert {row["classes"] for row in rows} == {2}
    measured = [run.codebooks[label, 3]["w2"][3]["w2"] for label in (0, 1)]
    assert rows[7]["w2"] == pytest.approx(sum(measured) / 2)
    assert run.codebooks[2, 3]["w2"] is None


def test_as_many_images_as_the_class_has(tmp_path: Path) -> None:
    """Nothing is lost then, and no change against a distance of 0 can be named."""
    made = config(data(tmp_path / "data", train=3), tmp_path / "out", w2_classes=2)
    found = quantize(made)
    assert found.manifest["cells"]["ipc3"]["distortion"] == [0.0] * len(CLASSES)
    assert "Distance to the real latents" in Path(found.layout.report).read_text()


def test_accuracies_come_first(run: QuantizeRun) -> None:
    rows = [Row(SQRT, 1, "convnet3", seed, 50.0, 50.0, 1, 1.0, 4, "quick") for seed in (0, 1)]
    text = summary(QuantizeRun(run.layout, run.source, None, rows=rows))
    assert "50.0 ± 0.0" in text.split("time ")[0]
    assert run.layout.results in text
