"""Addresses in data: none leads out of it, opens another protocol or is a chain."""

from __future__ import annotations

import pytest

from raycond.data.references import Refused, resolve, stays_inside


@pytest.mark.parametrize(
    ("path", "address"),
    [
        ("img/a.jpg", "/d/set/part/img/a.jpg"),
        ("./a.jpg", "/d/set/part/a.jpg"),
        ("../img/a.jpg", "/d/set/img/a.jpg"),
        ("/d/set/a.jpg", "/d/set/a.jpg"),
        ("file:///d/set/a.jpg", "/d/set/a.jpg"),
        ("a b%20c?.jpg", "/d/set/part/a b%20c?.jpg"),
    ],
)
def test_paths_inside_a_local_source(path: str, address: str) -> None:
    assert resolve(path, "/d/set/part", ["/d/set"]) == address


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/etc/passwd", "leads out"),
        ("../../x.jpg", "leads out"),
        ("img/../../../x", "leads out"),
        ("/d/set2/x.jpg", "leads out"),
        ("/d/set", "leads out"),
        ("file:///etc/passwd", "leads out"),
        ("FILE:///etc/passwd", "leads out"),
        ("http://example.org/x.jpg", "another protocol than the source's, http://"),
        ("HTTPS://example.org/x.jpg", "another protocol"),
        ("reference://x::file:///d/set/x", "chained"),
        ("zip://a.jpg::/d/set/x.zip", "chained"),
        ("simplecache::/d/set/x.jpg", "chained"),
        ("s3://bucket/x.jpg", "another protocol"),
        ("a\0b", "chained"),
    ],
)
def test_what_leads_out_of_a_local_source(path: str, reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        resolve(path, "/d/set/part", ["/d/set"])


def test_remote_sources() -> None:
    roots = ["s3://bucket/set"]
    assert resolve("img/a.jpg", "s3://bucket/set/part", roots) == "s3://bucket/set/part/img/a.jpg"
    assert resolve("s3://bucket/set/a.jpg", "s3://bucket/set", roots) == "s3://bucket/set/a.jpg"
    for path in (
        "s3://bucket/other/a.jpg",
        "s3://elsewhere/set/a.jpg",
        "../a.jpg",
        "s3://bucket/set/../a.jpg",
        "/etc/x",
    ):
        with pytest.raises(Refused, match="leads out"):
            resolve(path, "s3://bucket/set", roots)
    for path in ("file:///etc/passwd", "https://x/a.jpg"):
        with pytest.raises(Refused, match="another protocol"):
            resolve(path, "s3://bucket/set", roots)


def test_what_the_user_allows() -> None:
    assert resolve("https://x/a.jpg", "/d", ["/d"], ["https"]) == "https://x/a.jpg"
    assert resolve("/pictures/a.jpg", "/d", ["/d", "/pictures"]) == "/pictures/a.jpg"
    with pytest.raises(Refused, match="chained"):
        resolve("https://x/a.jpg::file:///x", "/d", ["/d"], ["https"])


def test_relative_names() -> None:
    assert stays_inside("data/ipc1/x.parquet")
    for path in ("/x", "../x", "a/../../x", "s3://x/y", "a::b", "a\0"):
        assert not stays_inside(path)
