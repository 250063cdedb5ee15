"""Text that comes from files and folders, made safe to show."""

from __future__ import annotations

import unicodedata

_JOINERS = "\u200c\u200d"  # Unicode's zero-width joiners: parts of ordinary words in several scripts


def shown(text: object, most: int = 200) -> str:
    """The text on one line, for a terminal, a message or a page, cut after `most` characters.

    Control characters (line breaks, terminal sequences, direction overrides) appear as escapes such as \\n, \\x1b and
    \\u202e. A byte of a file name that is not UTF-8, which Python carries as a lone surrogate, appears as \\xe9.
    """
    whole = text if isinstance(text, str) else str(text)
    cut = whole[:most]
    safe = cut if cut.isprintable() else "".join(_escaped(char) for char in cut)
    return safe + ("…" if len(whole) > most else "")


def visible(text: str) -> str:
    """`shown` at full length: the form in which names from data are stored, and in which they can be shown as they
    are."""
    return text if text.isprintable() else "".join(_escaped(char) for char in text)


def comparable(text: str) -> str:
    """`visible` text in Unicode's composed form (NFC), so that one name has one spelling on every system."""
    return visible(unicodedata.normalize("NFC", text))


def storable(text: str) -> str:
    """The text as UTF-8 can hold it: bytes of a file name that are no UTF-8 appear as \\xe9, all else stays."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return "".join(_escaped(char) if "\ud800" <= char <= "\udfff" else char for char in text)
    return text


_FORMULA = "=+-@\t\r\n＝＋－＠"  # what a cell begins with that a spreadsheet computes instead of showing it


def csv_cell(text: str) -> str:
    """The text as a cell of a CSV file: one that a spreadsheet would run as a formula gets an apostrophe before it."""
    return f"'{text}" if text[:1] in {"'", *_FORMULA} and text and not _is_number(text) else text


def from_csv_cell(cell: str) -> str:
    """The text that `csv_cell` was given."""
    return cell[1:] if cell[:1] == "'" and cell[1:2] in {"'", *_FORMULA} and cell[1:] else cell


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _escaped(char: str) -> str:
    if char.isprintable() or char in _JOINERS:
        return char
    if "\udc80" <= char <= "\udcff":
        return f"\\x{ord(char) - 0xDC00:02x}"
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")
