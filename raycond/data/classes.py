"""The ordered class list; its order is identity and is compared wherever two lists meet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from raycond.core.errors import ClassMismatch, UserError


@dataclass(frozen=True)
class Classes:
    """Classes in order: position is the label, `ids` such as WordNet ids, `names` for people.

    Raises UserError if ids repeat or the two lists differ in length.
    """

    ids: tuple[str, ...]
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.ids) != len(self.names):
            raise UserError(f"class list: {len(self.ids)} ids but {len(self.names)} names")
        if len(set(self.ids)) != len(self.ids):
            repeated = sorted(class_id for class_id, count in Counter(self.ids).items() if count > 1)
            raise UserError(f"class list: ids must be unique, repeated: {', '.join(repeated[:5])}")

    @classmethod
    def of(cls, ids: Iterable[str], names: Iterable[str] | None = None) -> Classes:
        ids = tuple(ids)
        return cls(ids, tuple(names) if names is not None else ids)

    def __len__(self) -> int:
        return len(self.ids)

    def index(self, class_id: str) -> int:
        try:
            return self.ids.index(class_id)
        except ValueError:
            raise UserError(f"class {class_id!r} is not one of the {len(self)} classes") from None

    def head(self, count: int | None) -> Classes:
        """The first `count` classes (all of them for None)."""
        return self if count is None else Classes(self.ids[:count], self.names[:count])

    def to_dict(self) -> dict[str, Any]:
        return {"ids": list(self.ids), "names": list(self.names)}

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Classes:
        """Raises UserError unless `value` holds "ids" and "names", two lists of texts of one length."""
        lists = [value.get(name) if isinstance(value, dict) else None for name in ("ids", "names")]
        if not all(isinstance(part, list) and all(isinstance(item, str) for item in part) for part in lists):
            raise UserError("class list: expected an object with ids and names, two lists of texts")
        return cls(tuple(value["ids"]), tuple(value["names"]))


def require_same(a: Classes, b: Classes, a_what: str, b_what: str) -> None:
    """Raise ClassMismatch, showing both lists, unless the ids are the same in the same order."""
    if a.ids == b.ids:
        return
    only_a = [i for i in a.ids if i not in set(b.ids)]
    only_b = [i for i in b.ids if i not in set(a.ids)]
    detail = []
    if only_a:
        detail.append(f"only in {a_what}: {_some(only_a)}")
    if only_b:
        detail.append(f"only in {b_what}: {_some(only_b)}")
    if not detail:
        first = next(k for k, (x, y) in enumerate(zip(a.ids, b.ids, strict=True)) if x != y)
        detail.append(f"the same ids in another order, first at label {first}: {a.ids[first]} and {b.ids[first]}")
    raise ClassMismatch(
        f"class lists differ ({'; '.join(detail)})\n"
        f"  {a_what} ({len(a)}): {_some(a.ids)}\n"
        f"  {b_what} ({len(b)}): {_some(b.ids)}\n"
        "Give both the same classes. Their order is the sorted order of the ids, that of the class list beside the "
        "data, or that of a file given as --class-list."
    )


def _some(ids: Iterable[str], most: int = 20) -> str:
    ids = list(ids)
    return ", ".join(ids[:most]) + (f", … {len(ids) - most} more" if len(ids) > most else "")
