from __future__ import annotations

from pathlib import Path

import pytest
import torch

from raycond.core import files
from raycond.methods.quantize import codebook_file
from raycond.methods.quantize.quantization import quantize
from tests.methods.quantize.make import low_rank


@pytest.mark.parametrize("remote", [False, True])
def test_round_trip(tmp_path: Path, remote: bool) -> None:
    book = quantize(low_rank(40, 24).view(40, 2, 3, 4), [5], kind="lloyd", seed=0, restarts=1)[0]
    stored = codebook_file.StoredCodebook(book, "n02102040", 1, ("ä/1.jpg", "b", "c", "d", "e"))
    uri = f"memory://test-store{tmp_path}/x" if remote else str(tmp_path / "x")
    data = codebook_file.to_bytes(stored)
    files.write_bytes(uri, data)
    found = codebook_file.read(uri)
    assert (found.class_id, found.label, found.medoid_ids) == ("n02102040", 1, stored.medoid_ids)
    assert found.codebook.distortion == book.distortion
    for name in ("centroids", "counts", "medoids"):
        assert torch.equal(getattr(found.codebook, name), getattr(book, name))
        assert getattr(found.codebook, name).dtype == getattr(book, name).dtype
    assert codebook_file.to_bytes(found) == data


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="none"):
        codebook_file.read(str(tmp_path / "none"))


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    """A pickle in the codebook's place is an error, and its code does not run."""
    target = tmp_path / "ran"

    class Bomb:
        def __reduce__(self) -> tuple:
            return Path.touch, (target,)

    torch.save({"centroids": Bomb()}, tmp_path / "x")
    with pytest.raises(Exception, match=r"(?i)header"):
        codebook_file.read(str(tmp_path / "x"))
    assert not target.exists()
