"""A page of HTML as tests look at it."""

from __future__ import annotations

import re
from html.parser import HTMLParser

HOSTILE = "<script>alert('x')</script> & co"


class Page(HTMLParser):
    """Visible text, addresses and the stack of open elements."""

    VOID = ("meta", "img", "br", "link", "use")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text, self.addresses, self.open = "", [], []  # type: ignore[var-annotated]
        self.tags: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [v for k, v in attrs if k in ("src", "href", "xlink:href", "data", "action") and v]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [v for k, v in attrs if k in ("src", "href", "xlink:href") and v]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data


def require_self_contained(html: str) -> None:
    """No address but data and this page's own ids."""
    addresses = Page(html).addresses
    assert addresses
    assert all(a.startswith(("data:image/", "#")) for a in addresses)
    assert "http" not in html
    assert "@import" not in html
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", html))
    found = re.findall(r'\bid="([^"]+)"', html)
    assert len(found) == len(set(found))
    assert {a[1:] for a in addresses if a.startswith("#")} <= set(found)
    assert set(re.findall(r"url\(#([^)]*)\)", html)) <= set(found)
