"""load_many: order, bounds, bad images in place, threads that end."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import numpy as np
import pytest

from raycond.core.errors import BadImage, UserError
from raycond.data import decode, images
from raycond.data.refs import ImageRef
from tests.data.make import png


@pytest.fixture
def refs(tmp_path: Path) -> list[ImageRef]:
    for k in range(12):
        (tmp_path / f"{k:02d}.png").write_bytes(png(k))
    return [ImageRef(f"{k:02d}", 0, str(tmp_path / f"{k:02d}.png")) for k in range(12)]


def decoders() -> int:
    return sum(thread.name.startswith("raycond-decode") for thread in threading.enumerate())


@pytest.mark.parametrize(("threads", "prefetch"), [(1, 1), (3, 5), (4, 100)])
def test_order_and_content(refs: list[ImageRef], threads: int, prefetch: int) -> None:
    out = list(images.load_many(refs, size=8, threads=threads, prefetch=prefetch))
    assert [ref for ref, _, _ in out] == refs
    for k, (ref, image, sha) in enumerate(out):
        assert np.array_equal(image, images.load(ref, size=8)[0])
        assert sha == hashlib.sha256(png(k)).hexdigest()
    assert decoders() == 0


def test_bad_images_come_out_in_their_place(refs: list[ImageRef]) -> None:
    Path(refs[3].uri).write_bytes(b"text")
    Path(refs[5].uri).unlink()
    out = list(images.load_many(refs, size=8, threads=3, prefetch=4))
    bad = {k: (image.reason, sha) for k, (_, image, sha) in enumerate(out) if isinstance(image, BadImage)}
    assert bad == {
        3: ("not an image in a known format", hashlib.sha256(b"text").hexdigest()),
        5: ("missing file", ""),
    }


def test_never_more_than_prefetch_ahead(refs: list[ImageRef]) -> None:
    taken = 0

    def counted() -> object:
        nonlocal taken
        for ref in refs:
            taken += 1
            yield ref

    for consumed, _ in enumerate(images.load_many(counted(), size=8, threads=2, prefetch=3), 1):  # type: ignore[arg-type]
        assert taken <= consumed + 2
    assert taken == 12


def test_threads_end_when_the_consumer_stops(refs: list[ImageRef]) -> None:
    stream = images.load_many(refs, size=8, threads=3, prefetch=6)
    next(stream)
    assert decoders() > 0
    stream.close()  # type: ignore[attr-defined]
    assert decoders() == 0


def test_our_own_bugs_are_not_bad_images(refs: list[ImageRef], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "square", lambda *_: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        list(images.load_many(refs, size=8, threads=2, prefetch=2))
    assert decoders() == 0


def test_options_are_checked_at_the_call(refs: list[ImageRef]) -> None:
    with pytest.raises(UserError, match="threads"):
        images.load_many(refs, size=8, threads=0)
