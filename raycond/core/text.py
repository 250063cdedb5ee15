"""Text that comes from files and folders, made safe to show."""

from __future__ import annotations

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


def _escaped(char: str) -> str:
    if char.isprintable() or char in _JOINERS:
        return char
    if "\udc80" <= char <= "\udcff":
        return f"\\x{ord(char) - 0xDC00:02x}"
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")
