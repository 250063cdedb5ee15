from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from raycond.data.class_arrays import ArrayFiles, ClassArrays, npy


class Halves(ClassArrays):
    IN_MEMORY, ITEMSIZE = 64, 2


def parts(counts: tuple[int, ...]) -> list[np.ndarray]:
    draw = np.random.default_rng(0)
    return [draw.standard_normal((n, 2, 3, 4)).astype(np.float16) for n in counts]


def written(folder: Path, arrays: list[np.ndarray]) -> ArrayFiles:
    for label, array in enumerate(arrays):
        (folder / f"{label}.npy").write_bytes(npy(array))
    uris = tuple(str(folder / f"{label}.npy") for label in range(len(arrays)))
    return ArrayFiles(uris, tuple(map(len, arrays)), (2, 3, 4))


def test_rows_are_in_the_order_of_the_labels() -> None:
    arrays = parts((3, 1, 4))
    found = Halves(arrays, "cpu")
    assert (len(found), found.classes, found.shape) == (8, 3, (2, 3, 4))
    items, labels = found.raw(torch.tensor([7, 0, 3, 4]))
    assert labels.tolist() == [2, 0, 1, 2]
    assert torch.equal(items, torch.from_numpy(np.concatenate(arrays)[[7, 0, 3, 4]]))


def test_large_ones_stay_in_their_files(tmp_path: Path) -> None:
    arrays = parts((5, 2))
    files = written(tmp_path, arrays)
    assert files.bytes(2) == sum(array.nbytes for array in arrays)
    mapped, whole = Halves.open(files, "cpu"), Halves.open(files, "cpu", in_memory=files.bytes(2))
    assert [type(part) for part in mapped._parts] == [np.memmap, np.memmap]
    assert whole._parts == []
    rows = torch.tensor([6, 1, 1, 5])
    for a, b in zip(mapped.raw(rows), whole.raw(rows), strict=True):
        assert torch.equal(a, b)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "0.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle"):
        Halves.open(ArrayFiles((str(tmp_path / "0.npy"),), (1,), (2, 3, 4)), "cpu")
