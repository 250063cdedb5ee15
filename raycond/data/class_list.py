"""Class lists kept beside the data or given by the user, and what the labels of a source mean under them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from raycond.core import files
from raycond.core.errors import UserError, parsing
from raycond.core.text import comparable
from raycond.data.class_names import SYNSET, first_words, in_order, named, with_names
from raycond.data.classes import Classes

FORMS = (
    "a list of class ids, an object id -> name, an object class -> position, an object position -> [id, name], "
    'or {"ids": […], "names": […]}; or, not in JSON, one class a line'
)

_MOST_BYTES = 64 << 20


@dataclass(frozen=True)
class ClassList:
    """The classes that a source declares."""

    classes: Classes
    """In the order of their labels."""

    positional: bool = False
    """Whether a whole number is a position in the list whatever the ids look like, as under Hugging Face's ClassLabel.
    Otherwise numbers name ids, if the ids are numbers and among them are all of the labels."""

    def match(self, labels: Iterable[str]) -> dict[str, int]:
        """The position of every label that is in the list. Labels: "i" and a whole number, or "s" and a text."""
        labels = list(labels)
        place = {class_id: k for k, class_id in enumerate(self.classes.ids)}
        repeats = Counter(self.classes.names)
        by_name = {name: k for k, name in enumerate(self.classes.names) if repeats[name] == 1}
        numbers = self._numbers([int(label[1:]) for label in labels if label[0] == "i"])
        index = {}
        for label in labels:
            text = comparable(label[1:])
            k = numbers.get(int(label[1:])) if label[0] == "i" else place.get(text, by_name.get(text))
            if k is not None:
                index[label] = k
        return index

    def _numbers(self, labels: Sequence[int]) -> dict[int, int]:
        """Position of each label that is a whole number."""
        positions = {k: k for k in range(len(self.classes))}
        if self.positional or not all(text.isascii() and text.isdigit() for text in self.classes.ids):
            return positions
        by_value = {int(text): k for k, text in enumerate(self.classes.ids)}
        if len(by_value) < len(positions):  # "1" and "01"
            return positions
        present = set(labels)
        return positions if not present <= by_value.keys() and present <= positions.keys() else by_value


def classes_of(
    labels: Iterable[str], declared: ClassList | None, wanted: ClassList | None = None, where: str = ""
) -> tuple[Classes, dict[str, int]]:
    """The classes of a source and the position of every label that is in them; negative numbers mean "no label".

    declared: the list that came with the data. wanted: the list that the user gives, which decides the order. Raises
    UserError, naming `where`, for labels that the user's list does not have.
    """
    known = [label for label in labels if label[0] == "s" or int(label[1:]) >= 0]
    if wanted is None and declared is not None:
        return declared.classes, declared.match(known)
    meaning = _meaning(known, declared)
    if wanted is None:
        classes = named(in_order({comparable(text[1:]) for text in meaning.values()}))
        place = {class_id: k for k, class_id in enumerate(classes.ids)}
        return classes, {label: place[comparable(text[1:])] for label, text in meaning.items()}
    index = wanted.match(meaning.values())
    missing = sorted({comparable(text[1:]) for text in meaning.values() if text not in index})
    if missing:
        raise UserError(
            f"{where}: the class list has no {', '.join(missing[:5])}"
            + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
            + "; it must hold every class of the data"
        )
    return wanted.classes, {label: index[text] for label, text in meaning.items()}


def _meaning(labels: Iterable[str], declared: ClassList | None) -> dict[str, str]:
    """What each label stands for: itself, or "s" and the id that the declared list gives it."""
    if declared is None:
        return {label: label for label in labels}
    return {label: f"s{declared.classes.ids[k]}" for label, k in declared.match(labels).items()}


def read_class_list(folders: Sequence[str]) -> tuple[Classes | None, str]:
    """The class list in classes.json or classes.txt of the first folder that has one, and its content's digest.

    Raises UserError if the file cannot be understood; see `load_class_list`.
    """
    for folder in dict.fromkeys(folders):
        for name in ("classes.json", "classes.txt"):
            uri = files.join(folder, name)
            if files.exists(uri):
                data = files.read_bytes(uri)
                return _parse(uri, data), files.sha256(data)
    return None, ""


def beside(folders: Sequence[str]) -> ClassList | None:
    """`read_class_list` as a ClassList."""
    classes, _ = read_class_list(folders)
    return None if classes is None else ClassList(classes)


def load_class_list(uri: str) -> ClassList:
    """A class list that the user names: JSON in any of `FORMS`, or one class a line, in the order of the labels.

    A line may hold more than an id if all begin with WordNet ids: the rest is the name. Raises UserError.
    """
    uri = files.absolute(uri)
    with parsing(uri, "a class list", f"expected {FORMS}"):
        data = files.read_bytes(uri, most=_MOST_BYTES)
    return ClassList(_parse(uri, data))


def _parse(uri: str, data: bytes) -> Classes:
    with parsing(uri, "a class list", f"expected {FORMS}"):
        text = data.decode("utf-8-sig")
        is_json = uri.endswith(".json") or (not uri.endswith(".txt") and text.lstrip()[:1] in ("[", "{"))
        try:
            classes = _from_json(files.parse_json(text.encode())) if is_json else _from_lines(text)
        except UserError as error:
            raise ValueError(str(error)) from error
        if not len(classes):
            raise ValueError("it holds no class")
        return classes


def _from_json(value: Any) -> Classes:
    if isinstance(value, list):
        return named([_text(item) for item in value])
    if not isinstance(value, dict):
        raise ValueError(f"it holds {type(value).__name__}")
    if value.keys() == {"ids", "names"}:
        return with_names([_text(item) for item in value["ids"]], [_text(item) for item in value["names"]])
    values = list(value.values())
    if values and all(isinstance(item, list) for item in values):  # position -> [id, name], as Keras's ImageNet list
        pairs = [value[str(k)] for k in range(len(value))]
        return with_names([_text(pair[0]) for pair in pairs], [_text(pair[1]) for pair in pairs])
    if values and all(type(item) is int for item in values):  # class -> position, as torchvision's class_to_idx
        if sorted(values) != list(range(len(values))):
            raise ValueError(f"its positions are not 0 to {len(values) - 1}")
        return named(sorted(value, key=value.__getitem__))
    return with_names(list(value), [_text(name) for name in values])


def _text(item: Any) -> str:
    if not (isinstance(item, str) and item.strip()) and type(item) is not int:
        raise ValueError(f"{item!r} is neither a text nor a whole number")
    return str(item)


def _from_lines(text: str) -> Classes:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    heads = [line.split()[0] for line in lines]
    if not all(SYNSET.fullmatch(head) for head in heads):
        return named(lines)
    rests = [line[len(head) :].strip() for line, head in zip(lines, heads, strict=True)]
    return with_names(heads, first_words(rests)) if all(rests) else named(heads)
