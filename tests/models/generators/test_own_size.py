from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from raycond.core import files
from raycond.models.generators.own_size import own_size
from tests.models.generators import tiny


@pytest.mark.parametrize("kind", ["sd", "dit"])
def test_sample_size_times_the_factor(kind: str, tmp_path: Path) -> None:
    pipeline = tiny.dit_pipeline() if kind == "dit" else tiny.sd_pipeline(tmp_path / "letters")
    assert own_size(tiny.saved(pipeline, tmp_path / kind, tiny.ANIMALS)) == 2 * tiny.SIDE


@pytest.mark.parametrize(
    ("model", "cells", "levels", "expected"),
    [("unet", 64, 4, 512), ("unet", 96, 4, 768), ("unet", 128, 4, 1024), ("transformer", 32, 4, 256)],
    ids=["1.5", "2.1-v", "XL", "DiT-XL-2-256"],
)
def test_published_models(model: str, cells: int, levels: int, expected: int, tmp_path: Path) -> None:
    written: dict[str, Any] = {
        "model_index.json": {model: ["diffusers", "X"]},
        f"{model}/config.json": {"sample_size": cells},
        "vae/config.json": {"block_out_channels": [128] * levels},
    }
    for name, content in written.items():
        files.write_json(str(tmp_path / name), content)
    assert own_size(str(tmp_path)) == expected


@pytest.mark.parametrize("where", ["nowhere/at-all", "/nowhere"])
def test_a_folder_that_says_nothing_has_none(where: str, tmp_path: Path) -> None:
    assert own_size(where) is None
    (tmp_path / "model_index.json").write_text("[")
    assert own_size(str(tmp_path)) is None
