"""The pages in a browser: nothing is wider than a phone's screen but what scrolls by itself."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from raycond.evaluate import Row
from raycond.report import render, render_grid
from tests.report import make

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), "")
METHODS = (
    "random", "medoid", "herding", "k-center", "el2n", "d4m (stable-diffusion-v1-5, uniform) [a-set-with-a-long-name]",
    "ddoq (stable-diffusion-v1-5, density) [a-set-with-a-long-name]",
)  # fmt: skip
MEASURE = """
const page = document.getElementById("page").contentDocument, width = page.documentElement.clientWidth
const scrolls = e => e.parentElement.closest(".scroll, pre")
const right = e => e.getBoundingClientRect().right
const wide = [...page.querySelectorAll("body *")].filter(e => !scrolls(e) && right(e) > width + 1)
document.body.dataset.found = JSON.stringify({
  width, scroll: page.documentElement.scrollWidth, wide: wide.map(e => e.tagName + "." + e.className),
  inside: [...page.querySelectorAll(".scroll")].some(e => e.scrollWidth > e.clientWidth)
})
"""


def measured(page: str, width: int, folder: Path) -> dict[str, object]:
    """How wide things are in a window of `width` pixels."""
    frame = f'<iframe id="page" style="width:{width}px;height:800px;border:0" srcdoc="{html.escape(page)}"></iframe>'
    (folder / "outer.html").write_text(f"<!doctype html><body>{frame}<script>onload = () => {{{MEASURE}}}</script>")
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", "--virtual-time-budget=5000"]
    command += [f"--user-data-dir={folder}/profile", f"file://{folder}/outer.html"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    match = re.search(r'data-found="([^"]*)"', shown)
    assert match, shown[:500]
    return json.loads(html.unescape(match[1]))  # type: ignore[no-any-return]


def many_rows() -> list[Row]:
    rows = [
        Row(method, ipc, "convnet3-w32", seed, 40.0 + k + seed, 41.0 + k + seed, 200, 0.5, 30, "quick")
        for k, method in enumerate(METHODS) for ipc in (1, 10, 50, 100, 200) for seed in range(3)
    ]  # fmt: skip
    return rows + [Row("full", None, "convnet3-w32", seed, 97.0, 97.0, 200, 0.5, 100, "quick") for seed in range(3)]


@pytest.mark.skipif(not BROWSER, reason="no Chromium")
@pytest.mark.parametrize("kind", ["run", "grid"])
def test_a_phone_scrolls_tables_and_not_the_page(kind: str, tmp_path: Path) -> None:
    environment = {"a key of the environment that is long": "x" * 150}
    if kind == "run":
        page = render(replace(make.report(), accuracy=many_rows(), environment=environment))
    else:
        page = render_grid(replace(make.grid_report(), rows=many_rows(), environment=environment))
    phone = measured(page, 390, tmp_path)
    assert phone["scroll"] == phone["width"]
    assert phone["wide"] == []
    assert phone["inside"]  # the accuracy table is wider than the screen, and scrolls in its frame
    desktop = measured(page, 1280, tmp_path)
    assert desktop["scroll"] == desktop["width"]
    assert desktop["wide"] == []
