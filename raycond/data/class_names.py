"""Class ids and the names that people, prompts and text encoders see: one name for one class."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from raycond.core.text import comparable
from raycond.data.classes import Classes

SYNSET = re.compile(r"n\d{8}")


def in_order(ids: Iterable[str]) -> list[str]:
    """Class ids in the order of their labels, the same for every kind of source.

    If all ids are whole numbers they are in the order of numbers (0, 1, 2, …, 10), so that a label counts as its class
    is called; otherwise in the order of their characters.
    """
    ids = list(ids)
    if all(text.isascii() and text.isdigit() for text in ids):
        return sorted(ids, key=lambda text: (int(text), text))
    return sorted(ids)


def named(ids: Iterable[str]) -> Classes:
    """Classes of these ids in this order, WordNet ids named by their words where timm knows them all.

    Ids are taken in Unicode's composed form, with what cannot be shown escaped. Raises UserError if two are the same.
    """
    ids = [comparable(text) for text in ids]
    return with_names(ids, _synset_names(ids) or ids)


def with_names(ids: Sequence[str], names: Iterable[str]) -> Classes:
    """Classes of ids and names in this order; names that several classes share are told apart by the id.

    Raises UserError if the two differ in number or an id repeats.
    """
    ids = [comparable(text) for text in ids]
    names = [comparable(name) for name in names]
    if len(names) == len(ids):
        repeated = _repeated(names)
        for k, (name, class_id) in enumerate(zip(names, ids, strict=True)):
            if _key(name) in repeated:
                names[k] = f"{name} ({class_id if _key(class_id) != _key(name) else k})"
    return Classes.of(ids, names)


def first_words(synsets: Sequence[str], definitions: Sequence[str] | None = None) -> list[str]:
    """Names of WordNet synsets, each given as its words with commas between them: the first word, where classes share
    it all words, and where they share those too the definition as well, if there is one.

    ImageNet has two cranes, two maillots, and a Cardigan beside a cardigan.
    """
    names = [words.split(",")[0].strip() for words in synsets]
    for longer in (synsets, definitions):
        repeated = _repeated(names)
        if longer is not None:
            names = [text if _key(name) in repeated else name for name, text in zip(names, longer, strict=True)]
    return names


def _synset_names(ids: Sequence[str]) -> list[str] | None:
    if not ids or not all(SYNSET.fullmatch(class_id) for class_id in ids):
        return None
    try:
        info = _imagenet()
        synsets = [info.label_name_to_description(class_id) for class_id in ids]
        detailed = [info.label_name_to_description(class_id, detailed=True).split(";")[0] for class_id in ids]
        return first_words(synsets, detailed)
    except (ImportError, KeyError):
        return None


@lru_cache(maxsize=1)
def _imagenet() -> Any:
    from timm.data.imagenet_info import ImageNetInfo

    return ImageNetInfo("imagenet-22k")


def _key(name: str) -> str:
    """What two names must not share: CLIP's text encoder sees neither capitals nor repeated spaces."""
    return " ".join(unicodedata.normalize("NFC", name).casefold().split())


def _repeated(names: Iterable[str]) -> set[str]:
    return {key for key, count in Counter(map(_key, names)).items() if count > 1}
