"""Words by which folders and files say which split they are."""

from __future__ import annotations

import pytest

from raycond.data.split_names import split_in, split_of


@pytest.mark.parametrize("name", ["train", "Train", "TRAINING", "val", "Valid", "validation", "DEV", "test", "Testing"])
def test_usual_words_in_any_case(name: str) -> None:
    kind = {"t": "train", "v": "val", "d": "val"}[name[0].lower()]
    kind = "test" if name.lower().startswith("te") else kind
    assert split_of(name) == split_in(name) == split_in(f"set-{name}-00001-of-00005.parquet") == kind


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("training_set", "train"),
        ("testset", "test"),
        ("seg_train", "train"),
        ("train2017", "train"),
        ("ILSVRC2012_img_val.tar", "val"),
        ("dev.parquet", "val"),
        ("test-bench-train-0.tar", "train"),
        ("trained.tar", None),
        ("testimony", None),
        ("develop-0.tar", None),
        ("cats", None),
    ],
)
def test_words_in_longer_names(name: str, kind: str | None) -> None:
    assert split_in(name) == kind
    if kind and name != "dev.parquet":
        assert split_of(name) is None
