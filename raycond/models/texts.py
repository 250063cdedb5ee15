"""Texts that stand for classes before a text tower: no two classes may have the same."""

from __future__ import annotations

import unicodedata
from collections.abc import Hashable, Sequence

from raycond.core.errors import UserError
from raycond.data.classes import Classes


def as_read(text: str) -> str:
    """A text as CLIP's tokenizers read it: without differences of case, of blanks and of how accents are written."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def require_distinct(classes: Classes, texts: Sequence[Hashable], what: str, remedy: str) -> None:
    """Raise UserError, naming the classes, if two of them have the same text: nothing could tell them apart.

    texts: of each class, in the form in which they are compared. what: the texts, for the message, as in "the prompt".
    remedy: what to do.
    """
    first: dict[Hashable, int] = {}
    for label, text in enumerate(texts):
        if (other := first.setdefault(text, label)) != label:
            a, b = (f"{classes.ids[k]} ({classes.names[k]!r})" for k in (other, label))
            raise UserError(f"classes {a} and {b}: {what} of both is the same: {remedy}")
