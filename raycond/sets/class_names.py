"""What class ids and names must be so that every reader of a set can use them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from raycond.core.errors import UserError
from raycond.core.text import shown
from raycond.data.classes import Classes


def name_problems(classes: Classes) -> Iterator[str]:
    """One line for each thing about the class list that `datasets`, pandas or JSON cannot hold.

    `datasets` refuses a label whose names repeat; Parquet, JSON and the hub's cards hold UTF-8 only. Control characters
    are no problem: they are stored as they are, and escaped wherever they are shown.
    """
    for text in dict.fromkeys((*classes.ids, *classes.names)):
        try:
            text.encode()
        except UnicodeEncodeError:
            yield f"class '{shown(text)}': its name is not UTF-8; rename its folder"
    ids: dict[str, list[str]] = defaultdict(list)
    for class_id, name in zip(classes.ids, classes.names, strict=True):
        ids[name].append(class_id)
    for name, same in ids.items():
        if len(same) > 1:
            both = ", ".join(shown(class_id) for class_id in same[:5])
            yield f"class name '{shown(name)}': shared by classes {both}, and datasets needs distinct ones"


def require_storable(classes: Classes) -> None:
    """Raises UserError with the first problem of the class list: call it before any work is done for a set."""
    if problem := next(name_problems(classes), None):
        raise UserError(f"{problem}; give every class its own name")
