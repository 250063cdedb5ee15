"""What ImageNet's classes are called in texts for models: lines of synonyms, and the names by CLIP's authors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from raycond.data.classes import Classes


def imagenet_index() -> Mapping[str, int]:
    """WordNet id → index of each class of ImageNet-1K."""
    return {class_id: k for k, class_id in enumerate(_info("imagenet-1k").label_names())}


def synsets(classes: Classes) -> tuple[str, ...]:
    """The synonyms of each class with commas between them, as D4M's prompts have them ("tench, Tinca tinca").

    Where two classes of ImageNet-1K share a line (its cranes) it is the curated name. Classes whose id is no WordNet
    id have their name.
    """
    repeated = Counter(_info("imagenet-1k").label_name_to_description(i) for i in imagenet_index())
    found = []
    for class_id, name in zip(classes.ids, classes.names, strict=True):
        try:
            line = str(_info("imagenet-22k").label_name_to_description(class_id))
        except KeyError:
            line = name
        found.append(_curated()[class_id] if repeated[line] > 1 and class_id in _curated() else line)
    return tuple(found)


def curated(classes: Classes) -> tuple[str, ...]:
    """The name that CLIP's authors gave each class of ImageNet-1K, as open_clip carries them, by WordNet id.

    Two of them are called "missile"; they have their line of synonyms. Other classes have their name.
    """
    known = _curated()
    return tuple(known.get(class_id, name) for class_id, name in zip(classes.ids, classes.names, strict=True))


def curated_templates(placeholder: str) -> tuple[str, ...]:
    """The eighty texts that CLIP's authors put ImageNet's names into, with a placeholder for the name."""
    from open_clip import OPENAI_IMAGENET_TEMPLATES

    return tuple(template(placeholder) for template in OPENAI_IMAGENET_TEMPLATES)


@lru_cache(maxsize=1)
def _curated() -> dict[str, str]:
    """WordNet id → name, no two the same."""
    from open_clip import IMAGENET_CLASSNAMES

    repeated = Counter(name.casefold() for name in IMAGENET_CLASSNAMES)
    found = {}
    for class_id, name in zip(imagenet_index(), IMAGENET_CLASSNAMES, strict=True):
        alone = repeated[name.casefold()] == 1
        found[class_id] = name if alone else str(_info("imagenet-1k").label_name_to_description(class_id))
    return found


@lru_cache(maxsize=2)
def _info(subset: str) -> Any:
    from timm.data.imagenet_info import ImageNetInfo

    return ImageNetInfo(subset)
