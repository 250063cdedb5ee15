"""Class lists that must agree: training and validation, source and the set in the run folder."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from raycond.core.errors import ClassMismatch, UserError
from raycond.pipelines.quantize.run import plan, quantize
from tests.data.make import tree
from tests.pipelines.quantize.make import config, contents, data


def test_validation_with_other_classes_is_refused_before_any_work(tmp_path: Path) -> None:
    root = data(tmp_path / "data")
    other = tree(tmp_path / "other", {"ant": 2, "bee": 2, "cat": 2, "eel": 2})
    for act in (quantize, plan):
        with pytest.raises(ClassMismatch) as caught:
            act(config(root, tmp_path / "out", evaluate=True, val=str(other)))
        text = str(caught.value)
        assert "--data (4): ant, bee, cat, dog" in text
        assert re.search(r"--val .* \(4\): ant, bee, cat, eel", text)
    assert not (tmp_path / "out").exists()


def test_missing_validation_is_said_with_the_ways_out(tmp_path: Path) -> None:
    only = tree(tmp_path / "only" / "train", {"ant": 4, "bee": 4}).parent
    with pytest.raises(UserError, match=r"Give --val URI .*, --val-share 0.1 .*, or --no-evaluate"):
        quantize(config(only, tmp_path / "out", evaluate=True))


def test_run_folder_of_other_classes_is_left_alone(tmp_path: Path) -> None:
    first = data(tmp_path / "first")
    second = tree(tmp_path / "second", {"ant": 4, "bee": 4})
    quantize(config(first, tmp_path / "out"))
    before = contents(tmp_path / "out")
    with pytest.raises(ClassMismatch) as caught:
        quantize(config(second, tmp_path / "out"))
    assert "(4): ant, bee, cat, dog" in str(caught.value)
    assert "--data (2): ant, bee" in str(caught.value)
    assert "another --out" in str(caught.value)
    assert contents(tmp_path / "out") == before


def test_more_classes_than_there_are(tmp_path: Path) -> None:
    root = data(tmp_path / "data")
    with pytest.raises(UserError, match=r"--classes 5: .* has only 4"):
        quantize(config(root, tmp_path / "out", classes=5))
    assert quantize(config(root, tmp_path / "out", classes=2)).manifest["classes"]["ids"] == ["ant", "bee"]
