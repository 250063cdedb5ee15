from __future__ import annotations

import pytest

from raycond.sets.references import may_open, source_of

LOCAL, S3 = "/home/me/runs/a/set", "s3://mine/runs/a/set"


@pytest.mark.parametrize(
    ("reference", "beside"),
    [
        ("digits:", LOCAL),
        ("digits:", S3),
        ("/data/images", LOCAL),
        ("../images", LOCAL),
        ("file:///data/images", LOCAL),
        ("s3://mine/images", S3),
        ("S3://mine/images", S3),
        ("memory://x/images", "memory://x/set"),
    ],
)
def test_what_a_file_may_name(reference: str, beside: str) -> None:
    assert may_open(reference, beside=beside)


@pytest.mark.parametrize(
    ("reference", "beside"),
    [
        ("http://example.com/data", LOCAL),
        ("https://example.com/data", S3),
        ("hf://datasets/x/y", LOCAL),
        ("s3://mine/images", LOCAL),
        ("s3://other/images", S3),
        ("s3://mine.evil/images", S3),
        ("gs://mine/images", S3),
        ("/etc/passwd", S3),
        ("file:///etc/passwd", S3),
        ("simplecache::s3://mine/images", S3),
        ("reference://x::file:///etc/passwd", LOCAL),
        ("zip://a::/data/x.zip", LOCAL),
        ("ftp:example.com/x", LOCAL),
        ("digits:\n", LOCAL),
        ("x:y", LOCAL),
        ("images", S3),
        ("", S3),
    ],
)
def test_what_it_may_not(reference: str, beside: str) -> None:
    assert not may_open(reference, beside=beside)


def test_the_source_that_a_manifest_names() -> None:
    assert source_of("digits:", beside=LOCAL) == "digits:"
    assert source_of("s3://mine/images", beside=S3) == "s3://mine/images"
    assert source_of("imagenette", beside=LOCAL) is None  # the last part of somebody's path
    assert source_of("imagenette", beside=S3) is None
    assert source_of("http://example.com/data", beside=LOCAL) is None
