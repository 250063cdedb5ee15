"""The digits preset from the command's options to its last line, and its projector as a labeler."""

from __future__ import annotations

from pathlib import Path

import pytest

from raycond.cli.main import main
from raycond.labels.projector.delta import read_projector

pytestmark = pytest.mark.slow


def test_digits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit-projector", "--preset", "digits", "--out", str(tmp_path / "out"), "--runner", "local"]) == 0
    text = capsys.readouterr().out
    assert "with 3 teachers on held-out images" in text
    assert "As HeLlO counts it" in text
    about = read_projector(str(tmp_path / "out")).about
    kept, start = about["kept"], about["checks"][0]
    assert kept["agreement"] >= max(85, start["agreement"] + 5)  # 98.0 and 71.0 where this was written
    assert kept["accuracy"] >= 85
    assert kept["kl"] < 0.7 * start["kl"]
