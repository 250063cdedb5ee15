"""The words by which folders and files say which split they are."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

Split = Literal["train", "val", "test"]

WORDS: dict[str, Split] = {
    **dict.fromkeys(("train", "training", "trainval"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "eval"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}

# What serves as which split: test images only where there are none for validation.
SERVES: dict[str, tuple[Split, ...]] = {"train": ("train",), "val": ("val", "test")}

USUAL = {"train": "train or training", "val": "val, valid, validation, dev or test"}


def split_of(name: str) -> Split | None:
    """The split that a folder is called after, in any case; None if it is called otherwise."""
    return WORDS.get(name.lower())


def split_in(name: str) -> Split | None:
    """The split that a word in a longer name stands for, as in imagenet-train-0001.tar, training_set or train2017.

    Of several words the last counts: in test-bench-train-0.tar it is train.
    """
    words = re.findall(r"[a-z]+", name.lower())
    return next((split for word in reversed(words) if (split := WORDS.get(word.removesuffix("set")))), None)


def grouped(names: Iterable[str]) -> dict[Split | None, list[str]]:
    """Names by the split that they hold a word of."""
    groups: dict[Split | None, list[str]] = {}
    for name in names:
        groups.setdefault(split_in(name), []).append(name)
    return groups
