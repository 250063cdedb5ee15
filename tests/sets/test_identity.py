"""Which set it is: `datasets` keeps what it has read, and must not take one set for another."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from raycond.data.classes import Classes
from raycond.sets.manifest import read_manifest
from raycond.sets.writer import ClassPart
from tests.sets.make import CLASSES, part, write


def loaded(folder: Path, cache: Path, name: str = "ipc4") -> Any:
    import datasets

    rows = datasets.load_dataset(str(folder), name, cache_dir=str(cache))["train"]
    return rows.cast_column("image", datasets.Image(decode=False))


def images(folder: Path, cache: Path) -> list[bytes]:
    return [row["bytes"] for row in loaded(folder, cache)["image"]]


def other(ipc: int, label: int) -> ClassPart:
    found = part(ipc, (label + 1) % 3)
    return ClassPart(label, found.images, found.codebook, found.medoid_ids)


def expected(load: Any = part) -> list[bytes]:
    return [data for label in range(3) for data in load(4, label).images]


def test_a_second_set_with_the_same_ipcs_is_not_the_first(tmp_path: Path) -> None:
    write(tmp_path / "one" / "set")
    write(tmp_path / "two" / "set", load=other)
    cache = tmp_path / "cache"
    assert images(tmp_path / "one" / "set", cache) == expected()
    assert images(tmp_path / "two" / "set", cache) == expected(other)
    assert images(tmp_path / "one" / "set", cache) == expected()


def test_a_set_made_again_in_the_same_folder_is_not_the_former(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    for load in (part, other, part):
        write(tmp_path / "set", load=load)
        assert images(tmp_path / "set", cache) == expected(load)


@pytest.mark.parametrize("change", ["weights", "names", "one image", "order of ids"])
def test_whatever_the_rows_say_differently_is_another_set(tmp_path: Path, change: str) -> None:
    """Weights alone, class names alone, one image of one class: what was read before is not shown again."""
    cache = tmp_path / "cache"
    write(tmp_path / "set")
    before = loaded(tmp_path / "set", cache).to_dict() | {"names": loaded(tmp_path / "set", cache).features["label"]}

    def one_image(ipc: int, label: int) -> ClassPart:
        found = part(ipc, label)
        images = found.images if label else [*found.images[:-1], found.images[0]]
        return ClassPart(label, images, found.codebook, found.medoid_ids)

    options: dict[str, Any] = {
        "weights": {"weights": "uniform"},
        "names": {"classes": Classes(CLASSES.ids, ("a", "b", "c"))},
        "one image": {"load": one_image},
        "order of ids": {"classes": Classes(CLASSES.ids[::-1], CLASSES.names)},
    }[change]
    write(tmp_path / "set", **options)
    after = loaded(tmp_path / "set", cache).to_dict() | {"names": loaded(tmp_path / "set", cache).features["label"]}
    assert after != before


def test_the_same_set_elsewhere_is_the_same(tmp_path: Path) -> None:
    """Its digest depends on what is in it, not on its place, its time, or what it is called."""
    write(tmp_path / "a" / "set")
    write(tmp_path / "b" / "set", name="another name")
    shutil.copytree(tmp_path / "a" / "set", tmp_path / "c" / "set")
    digests = {read_manifest(str(tmp_path / n / "set")).content["content_sha256"] for n in "abc"}
    assert len(digests) == 1
    assert digests.pop() in (tmp_path / "b" / "set" / "README.md").read_text()
    write(tmp_path / "d" / "set", load=other)
    assert read_manifest(str(tmp_path / "d" / "set")).content["content_sha256"] not in digests
