from __future__ import annotations

import pytest

from raycond.cli import fidelity
from raycond.core.errors import RaycondError
from raycond.evaluate.protocol import presets
from tests.conftest import ROOT


def test_the_page_is_current() -> None:
    page = (ROOT / "docs" / "fidelity.md").read_text()
    assert page == fidelity.fidelity(), "run python -m raycond.cli.fidelity > docs/fidelity.md"


def test_every_protocol_and_every_published_method_has_a_section() -> None:
    page = fidelity.fidelity()
    for name in (*presets(), "Preset d4m", "Preset ddoq", "Preset mgd3", "Sampler `--recipe published` of `dit`"):
        assert f"\n### {name}\n" in page
    assert "| `batch` (ipc 10, classes 1000) | argument.py | 100 | 100 | same |" in page


def test_a_difference_needs_a_reason() -> None:
    row = {"setting": "lr", "file": "x.py", "source": 0.1}
    with pytest.raises(RaycondError, match=r"rded, lr: the source has 0.1, raycond 0.2: say why"):
        fidelity._table("rded", [row], [("lr", 0.1, 0.2)])
    assert "| lr | x.py | 0.1 | 0.2 | better |" in fidelity._table(
        "rded", [{**row, "why": "better"}], [("lr", 0.1, 0.2)]
    )
