"""Classes of a source to the classes of a class-conditional model."""

from __future__ import annotations

import re
from typing import Any

from raycond.core import files
from raycond.core.errors import UserError
from raycond.data.classes import Classes, require_same
from raycond.models.generators.diffusers_folder import PipelineFolder
from raycond.models.imagenet_names import imagenet_index


def class_indices(folder: PipelineFolder, count: int, classes: Classes, option: str | None) -> tuple[int, ...]:
    """The model's class, 0 to count − 1, of each class in order.

    From the option (`0+217+482`, or a JSON file with a list in class order or an object id → class) if there is one;
    else the same classes in the same order if the folder has a classes.json; else ImageNet-1K's by WordNet id for a
    model of 1,000 classes. Raises ClassMismatch if classes.json has other classes, UserError if nothing says which
    class is which.
    """
    if option is not None:
        return _mapped(option, count, classes)
    own = folder.classes()
    if own is not None:
        require_same(classes, own, "--data", f"classes.json of {folder.name}")
        if len(own) > count:  # fewer are in order: raycond trains with a table of at least 1,000
            raise UserError(f"{folder}: classes.json has {len(own)} classes, and the model {count}")
        return tuple(range(len(own)))
    found = imagenet_indices(classes) if count == 1000 else None
    if found is None:
        reason = "they are not WordNet ids of ImageNet-1K" if count == 1000 else "it has no classes.json"
        raise UserError(
            f"{folder}: nothing says which of its {count} classes are the {len(classes)} of the data "
            f"({_some(classes.ids)}): {reason}; give class_map, as in 0+217+482"
        )
    return found


def imagenet_indices(classes: Classes) -> tuple[int, ...] | None:
    """ImageNet-1K's index of each class, or None if one is not among its WordNet ids."""
    if not all(re.fullmatch(r"n\d{8}", class_id) for class_id in classes.ids):
        return None
    index = imagenet_index()
    return tuple(index[i] for i in classes.ids) if all(i in index for i in classes.ids) else None


def _mapped(option: str, count: int, classes: Classes) -> tuple[int, ...]:
    value: Any
    if option.endswith(".json"):
        try:
            value = files.read_json(option)
        except (OSError, ValueError) as error:
            raise UserError(f"class_map {option}: cannot be read: {error}") from error
        if isinstance(value, dict):
            lost = [i for i in classes.ids if i not in value]
            if lost:
                raise UserError(f"class_map {option}: has no class {_some(lost)}")
            value = [value[i] for i in classes.ids]
    else:
        value = [int(part) if part.isdecimal() else part for part in option.split("+")]
    whole = isinstance(value, list) and all(type(i) is int and 0 <= i < count for i in value)
    if not whole or len(set(value)) != len(value) or len(value) != len(classes):
        raise UserError(
            f"class_map {option}: expected {len(classes)} different numbers from 0 to {count - 1}, one for each class "
            f"in order ({_some(classes.ids)}), as in 0+217+482"
        )
    return tuple(value)


def _some(names: tuple[str, ...] | list[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + (f", … {len(names) - most} more" if len(names) > most else "")
