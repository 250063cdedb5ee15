"""Float images beside the 8-bit ones, in sets that no quantization made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import raycond
from raycond.core.errors import UserError
from raycond.data.images import Decoding
from raycond.evaluate.training_sets import SetImages
from raycond.sets import writer
from raycond.sets.export import export
from raycond.sets.inspect import describe
from raycond.sets.tensors import LEARNED
from raycond.sets.verify import verify
from raycond.sets.writer import ClassPart
from tests.sets.make import (
    CLASSES,
    NORMALIZATION,
    change_manifest,
    images,
    optimized,
    relist,
    tensors,
    tensors_name,
    write,
    write_optimized,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_optimized(tmp_path / "s")
    return tmp_path / "s"


def test_files_and_manifest(tmp_path: Path) -> None:
    manifest = write_optimized(tmp_path / "s")
    assert verify(str(tmp_path / "s")) == []
    assert not [name for name in manifest["files"] if name.startswith("latents/")]
    assert manifest["cells"]["ipc4"] == {"images": 12, "source_images": 50 + 51 + 52}
    assert manifest["normalization"] == {"kind": "channels", "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.5]}
    stored = sum(facts["bytes"] for name, facts in manifest["files"].items() if name.startswith("tensors/"))
    assert manifest["storage_bytes"]["tensors"] == stored
    assert manifest["storage_bytes"]["latents"] == 0


def test_a_set_without_tensors_says_nothing_of_them(tmp_path: Path) -> None:
    manifest = write(tmp_path / "s")
    assert "tensors" not in manifest["storage_bytes"]
    assert "normalization" not in manifest
    assert not (tmp_path / "s" / "tensors").exists()
    opened = raycond.open(str(tmp_path / "s"))
    assert opened.normalization is None
    assert opened.float_pixels() is None
    with pytest.raises(UserError, match="lists no float tensors of IPC 4"):
        opened.tensors()


def test_written_twice_the_bytes_are_the_same(tmp_path: Path) -> None:
    for name in "ab":
        write_optimized(tmp_path / name)
    of = [{f.name: f.read_bytes() for f in (tmp_path / name).rglob("*") if f.is_file()} for name in "ab"]
    assert of[0] == of[1]


def test_each_image_stands_for_an_equal_share_of_its_class(folder: Path) -> None:
    opened = raycond.open(str(folder), 4)
    assert opened.counts.tolist() == [13, 13, 12, 12, 13, 13, 13, 12, 13, 13, 13, 13]
    assert opened.weights.tolist() == [1.0] * 12


def test_what_is_read_is_what_was_optimized(folder: Path) -> None:
    opened = raycond.open(str(folder), 4)
    found, expected = opened.tensors(), [tensors(4, label) for label in range(3)]
    assert set(found) == {"images", "targets"}
    for name, tensor in found.items():
        assert torch.equal(tensor, torch.cat([of_class[name] for of_class in expected]))
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.5, 0.4, 0.3), (0.2, 0.25, 0.5)))
    torch.testing.assert_close(opened.float_pixels(), found["images"] * std + mean)
    assert torch.equal((opened[0][0] * 255).round().permute(1, 2, 0), torch.from_numpy(images(4, 0)[0]).float())


def test_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "SHARD_BYTES", optimized(4, 0).stored_bytes + 1)
    manifest = write_optimized(tmp_path / "s")
    names = [name.rpartition("-")[0] for name in manifest["files"] if name.startswith("tensors/ipc4")]
    assert names == [f"tensors/ipc4-0000{k}-of-00003" for k in range(3)]
    assert verify(str(tmp_path / "s")) == []
    found = raycond.open(str(tmp_path / "s"), 4).tensors()["images"]
    assert torch.equal(found, torch.cat([tensors(4, label)["images"] for label in range(3)]))


def test_a_set_of_another_kind_leaves_nothing_behind(tmp_path: Path) -> None:
    write_optimized(tmp_path / "s")
    write(tmp_path / "s")
    write(tmp_path / "fresh")
    of = [{str(f.relative_to(tmp_path / n)) for f in (tmp_path / n).rglob("*") if f.is_file()} for n in ("s", "fresh")]
    assert of[0] == of[1]


def test_described_and_on_the_card(folder: Path) -> None:
    text = describe(str(folder))
    assert "normalized  mean 0.5000 0.4000 0.3000, deviation 0.2000 0.2500 0.5000" in text
    assert "12 images for 153 of the source, float tensors beside them" in text
    assert "distortion" not in text
    page = (folder / "README.md").read_text()
    assert "each image was optimized" in page
    assert "`tensors/` holds the images as they were optimized" in page


def test_formation_is_described(tmp_path: Path) -> None:
    write_optimized(tmp_path / "s", formation={"ipc4": {"factor": 2, "decoder": "single", "bound": 128}})
    assert verify(str(tmp_path / "s")) == []
    assert "2 × 2 training images in each (decoder single)" in describe(str(tmp_path / "s"))
    assert "holds 2 × 2 training images as tiles" in (tmp_path / "s" / "README.md").read_text()


def test_export_takes_the_floats(folder: Path, tmp_path: Path) -> None:
    export(str(folder), str(tmp_path / "out"), kind="ddranking", ipc=4, mean=[0.0], std=[1.0])
    exported = torch.load(tmp_path / "out" / "images.pt", weights_only=True)
    expected = NORMALIZATION.invert(torch.cat([tensors(4, label)["images"] for label in range(3)])).float()
    assert torch.equal(exported, expected)


def test_export_tells_of_tiles(tmp_path: Path) -> None:
    write_optimized(tmp_path / "s", formation={"ipc4": {"factor": 2, "decoder": "single", "bound": 128}})
    about = export(str(tmp_path / "s"), str(tmp_path / "out"), kind="folder")
    assert about["formation"]["factor"] == 2
    assert "holds 2 × 2 training images as tiles" in (tmp_path / "out" / "README.md").read_text()


def change_tensors(folder: Path, **changes: torch.Tensor) -> str:
    name = tensors_name(folder)
    save_file({**load_file(folder / name), **changes}, folder / name)
    relist(folder, name)
    return name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": torch.zeros(11, 3, 12, 12)}, "expected images of (3, 12, 12)"),
        ({"images": torch.zeros(12, 3, 8, 8)}, "expected images of (3, 12, 12)"),
        ({"images": torch.zeros(12, 3, 12, 12, dtype=torch.float64)}, "images is torch.float64"),
        ({"images": torch.full((12, 3, 12, 12), torch.nan)}, "expected finite float32 numbers"),
        ({"targets": torch.zeros(11, 3)}, "targets is torch.float32 (11, 3)"),
        ({"labels": torch.zeros(12)}, "their labels torch.float32"),
    ],
)
def test_damaged_tensors(folder: Path, changes: dict[str, torch.Tensor], message: str) -> None:
    name = change_tensors(folder, **changes)
    (problem,) = verify(str(folder))
    assert name in problem
    assert message in problem
    with pytest.raises(UserError, match="damaged"):
        raycond.open(str(folder), 4).tensors()


def test_tensors_in_another_order(folder: Path) -> None:
    change_tensors(folder, labels=torch.tensor([0, 1, 2] * 4, dtype=torch.int32))
    assert verify(str(folder)) == ["ipc4: tensors and images are not in the same order"]
    with pytest.raises(UserError, match="in another order"):
        raycond.open(str(folder), 4).tensors()


def test_a_flipped_bit(folder: Path) -> None:
    name = tensors_name(folder)
    data = bytearray((folder / name).read_bytes())
    data[-5] ^= 1
    (folder / name).write_bytes(data)
    assert verify(str(folder)) == [f"{name}: its SHA-256 is not the manifest's"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.pop("normalization"), "'normalization': the set has float images"),
        (lambda m: m["normalization"].update(std=[0.1, 0.0, 0.1]), "'normalization"),
        (lambda m: m["normalization"].update(mean=[0.1]), "each of 3 channels"),
        (lambda m: m["normalization"].update(kind="magic"), "'normalization"),
        (lambda m: m.update(normalization={"kind": "whitening", "file": "x.safetensors"}), "is not listed"),
        (
            lambda m: m.update(formation={"ipc4": {"factor": 13, "decoder": "single", "bound": 1}}),
            "formation.ipc4.factor",
        ),
        (lambda m: m.update(formation={"ipc4": {"factor": 2, "decoder": "no", "bound": 1}}), "formation.ipc4.decoder"),
    ],
)
def test_a_manifest_that_does_not_fit(folder: Path, change: object, message: str) -> None:
    change_manifest(folder, change)  # type: ignore[arg-type]
    (problem,) = verify(str(folder))
    assert "damaged: missing or wrong" in problem
    assert message in problem


def test_fewer_classes_than_a_preview_has_rows(tmp_path: Path) -> None:
    assert len(CLASSES) == 3
    write_optimized(tmp_path / "s")
    assert (tmp_path / "s" / "preview.png").stat().st_size > 1000


def learned(folder: Path, labels: str = "learned", **changes: torch.Tensor) -> None:
    """A set of three classes with a label of its own for each image."""

    def load(ipc: int, label: int) -> ClassPart:
        part = optimized(ipc, label)
        values = torch.full((ipc, 3), float(label)) + torch.arange(3)
        return replace(part, tensors={**part.tensors, LEARNED: values, **changes})

    write_optimized(folder, load=load, labels=labels)


def test_learned_labels_are_those_that_were_written(tmp_path: Path) -> None:
    learned(tmp_path / "s")
    assert verify(str(tmp_path / "s")) == []
    opened = raycond.open(str(tmp_path / "s"), ipc=4)
    values = opened.learned_labels()
    assert values is not None
    assert torch.equal(values, opened.labels[:, None].float() + torch.arange(3))
    assert "kip-transfer" in (tmp_path / "s" / "README.md").read_text()
    found = SetImages(str(tmp_path / "s"), 4, "uniform").load(3, Decoding(12, "crop", 3, 10**6))
    assert found.values is not None
    assert torch.equal(found.values, values)
    assert describe(str(tmp_path / "s")).splitlines()[0].endswith("labels learned")


def test_labels_that_were_not_learned_are_none(tmp_path: Path) -> None:
    learned(tmp_path / "s", labels="hard")
    assert raycond.open(str(tmp_path / "s")).learned_labels() is None


def test_learned_labels_of_another_number_of_classes_are_damage(tmp_path: Path) -> None:
    write_optimized(tmp_path / "s", labels="learned")
    with pytest.raises(UserError, match="ipc4 is damaged: no learned labels for each image and class"):
        raycond.open(str(tmp_path / "s")).learned_labels()
