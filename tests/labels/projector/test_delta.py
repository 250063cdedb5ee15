from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from raycond.core import files
from raycond.core.errors import ClassMismatch, RaycondError, UserError
from raycond.data.classes import Classes
from raycond.labels.projector import delta
from raycond.labels.projector.delta import describe_projector, open_projector, read_projector, save_projector
from raycond.labels.projector.network import Projector
from raycond.models import clip as clips
from tests.labels.clips import THREE, pictures, saved
from tests.labels.projectors import shaken, written


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 0), ("float16", 0.005), ("int8", 0.05)])
@pytest.mark.parametrize("head", ["text", "full", "scratch"])
def test_the_labels_come_back(tmp_path: Path, dtype: str, tolerance: float, head: str) -> None:
    projector, x = written(tmp_path, dtype, head=head), pictures(4, 20)
    opened = open_projector(str(tmp_path), "cpu", classes=THREE)
    with torch.no_grad():
        expected, start = projector(x), Projector(projector.clip, THREE, projector.options)(x)
        learned = (expected - start).norm()
        assert learned > 0.5
        assert (opened(x) - expected).norm() <= tolerance * learned
    assert (opened.classes, opened.options) == (THREE, projector.options)
    again = tmp_path / "again"
    save_projector(str(again), projector, dtype, {"name": "toy"})  # type: ignore[arg-type]
    assert (again / delta.DELTA).read_bytes() == (tmp_path / delta.DELTA).read_bytes()


def test_bytes_of_the_delta(tmp_path: Path) -> None:
    sizes = {}
    for dtype, each in (("float32", 4), ("float16", 2), ("int8", 1)):
        projector = written(tmp_path / dtype, dtype, conv_rank=4)
        data = load_file(tmp_path / dtype / delta.DELTA)
        names = {name for name in data if not name.endswith(".scale")}
        assert names == projector.delta().keys()  # only the delta
        assert sum(data[name].nbytes for name in names) == each * projector.count
        sizes[dtype] = sum(t.nbytes for t in data.values())
        stored = read_projector(str(tmp_path / dtype))
        assert stored.bytes == (tmp_path / dtype / delta.DELTA).stat().st_size
        assert (stored.parameters, stored.dtype) == (projector.count, dtype)
    assert sizes["int8"] < 0.35 * sizes["float32"]


def test_int8_has_a_scale_for_each_rank() -> None:
    ranks = torch.tensor([[1.0], [100.0], [0.0]])
    matrix = ranks * torch.linspace(-1, 1, 255)
    packed = delta.pack({"A": matrix, "B": matrix.T.contiguous()}, "int8")
    assert (packed["A"].dtype, packed["A.scale"].shape, packed["B.scale"].shape) == (torch.int8, (3, 1), (1, 3))
    assert packed["A"][0].tolist() == packed["A"][1].tolist() == list(range(-127, 128))
    back = delta.unpack(packed)
    for name, expected in (("A", matrix), ("B", matrix.T)):
        torch.testing.assert_close(back[name], expected, rtol=1e-5, atol=1e-6)
    noise = torch.randn(8, 40, generator=torch.Generator().manual_seed(0))
    error = (delta.unpack(delta.pack({"A": noise}, "int8"))["A"] - noise).abs()
    assert bool((error <= noise.abs().amax(1, keepdim=True) / 127 / 2 + 1e-6).all())


def test_describing_says_what_changes_labels(tmp_path: Path) -> None:
    projector = written(tmp_path / "a")
    name, digest = describe_projector(str(tmp_path / "a"), THREE)
    assert name == "toy"
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert describe_projector(str(tmp_path / "b"), THREE) == (name, digest)
    for dtype in ("float16", "int8"):
        save_projector(str(tmp_path / "b"), projector, dtype)  # type: ignore[arg-type]
        assert describe_projector(str(tmp_path / "b"), THREE)[1] != digest
    save_projector(str(tmp_path / "b"), shaken(projector, 2), "float32")
    assert describe_projector(str(tmp_path / "b"), THREE)[1] != digest


def test_classes_must_be_the_same(tmp_path: Path) -> None:
    written(tmp_path)
    turned = Classes(THREE.ids[::-1], THREE.names[::-1])
    for run in (describe_projector, lambda folder, classes: open_projector(folder, "cpu", classes=classes)):
        with pytest.raises(ClassMismatch, match="another order"):
            run(str(tmp_path), turned)


def test_no_folder_of_this_machine_is_written(tmp_path: Path) -> None:
    written(tmp_path / "a")
    elsewhere = saved(tmp_path / "models" / "tiny")
    written(tmp_path / "b", clip=elsewhere)
    for folder in ("a", "b"):
        assert str(tmp_path) not in (tmp_path / folder / delta.ABOUT).read_text()
    content = [json.loads((tmp_path / f / delta.ABOUT).read_text())["clip"] for f in ("a", "b")]
    assert [c["spec"] for c in content] == ["clip", None]
    assert [c["name"] for c in content] == ["clip", "tiny"]


def test_a_clip_that_is_elsewhere(tmp_path: Path) -> None:
    elsewhere = saved(tmp_path / "models" / "tiny")
    projector, x = written(tmp_path / "a", clip=elsewhere), pictures(2, 32)
    folder = str(tmp_path / "a")
    with pytest.raises(UserError, match=r"CLIP folder 'tiny', which is not here.*\n?.*clip=FOLDER"):
        describe_projector(folder, THREE)
    name, digest = describe_projector(folder, THREE, clip=elsewhere)
    with torch.no_grad():
        assert torch.equal(open_projector(folder, "cpu", clip=elsewhere)(x), projector(x))
    other = saved(tmp_path / "models" / "other", seed=1)
    with pytest.raises(UserError, match=r"fitted on tiny of digest .*, and other has .*the very CLIP"):
        open_projector(folder, "cpu", clip=other)
    shutil.copytree(elsewhere, tmp_path / "a" / "clip")
    assert describe_projector(folder, THREE) == (name, digest)


def test_a_clip_that_is_left_from_an_earlier_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--clip train`, then `--clip RN50:openai` into the same folder."""
    hub = saved(tmp_path / "hub")
    written(tmp_path / "a", clip=hub)
    about = tmp_path / "a" / delta.ABOUT
    content = json.loads(about.read_text())
    content["clip"] |= {"spec": "RN50:openai"}
    about.write_text(json.dumps(content))
    saved(tmp_path / "a" / "clip", seed=1)
    opened: list[str] = []

    def found(spec: str, **_: Any) -> tuple[str, str]:
        opened.append(spec)
        return clips.describe_clip(hub if spec == "RN50:openai" else spec)

    monkeypatch.setattr(delta, "describe_clip", found)
    describe_projector(str(tmp_path / "a"), THREE)
    assert opened == [str(tmp_path / "a" / "clip"), "RN50:openai"]


def test_a_clip_of_the_hub_may_lie_beside_the_delta(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no network, a copied folder serves; until then the error says where it goes."""
    written(tmp_path / "a")
    about = tmp_path / "a" / delta.ABOUT
    content = json.loads(about.read_text())
    content["clip"] |= {"spec": "RN50:openai", "name": "RN50:openai"}
    about.write_text(json.dumps(content))
    assert describe_projector(str(tmp_path / "a"), THREE)[0] == "toy"
    (tmp_path / "a" / "clip").rename(tmp_path / "gone")

    def offline(spec: str, **_: Any) -> tuple[str, str]:
        raise UserError(f"CLIP {spec}: cannot be downloaded")

    monkeypatch.setattr(delta, "describe_clip", offline)
    monkeypatch.setattr(delta, "open_clip_model", offline)
    for run in (lambda folder: describe_projector(folder, THREE), lambda folder: open_projector(folder, "cpu")):
        with pytest.raises(UserError, match=r"RN50:openai: cannot be downloaded\n.*also found at .*/a/clip"):
            run(str(tmp_path / "a"))


def test_remote_folders(tmp_path: Path) -> None:
    projector, x = written(tmp_path, "float16"), pictures(2, 32)
    place = "memory://projectors/toy"
    for name in (delta.DELTA, delta.ABOUT, f"clip/{clips.CONFIG}", f"clip/{clips.WEIGHTS}"):
        files.write_bytes(f"{place}/{name}", (tmp_path / name).read_bytes())
    with torch.no_grad():
        torch.testing.assert_close(open_projector(place, "cpu")(x), projector(x), rtol=0, atol=0.02)
    save_projector(place, projector, "float32")
    assert describe_projector(place, THREE)[1] == read_projector(place).digest


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"format_version": 2}, "format version 2; this raycond reads 1"),
        ({"dtype": "int4"}, "damaged: .*int4"),
        ({"clip": {"name": "x", "digest": "x", "spec": "../../x"}}, "damaged: .*its CLIP is '../../x'"),
        ({"options": {"rank": 8}}, "damaged: TypeError"),
        ({"classes": None}, "class list: expected an object with ids and names"),
    ],
)
def test_a_damaged_projector_json(tmp_path: Path, change: dict[str, Any], text: str) -> None:
    written(tmp_path)
    about = tmp_path / delta.ABOUT
    about.write_text(json.dumps(json.loads(about.read_text()) | change))
    with pytest.raises(UserError, match=text):
        open_projector(str(tmp_path), "cpu")


def test_a_damaged_delta(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no projector.json: expected a folder that fit_projector.py wrote"):
        read_projector(str(tmp_path))
    written(tmp_path)
    file = tmp_path / delta.DELTA
    save_file({"head.weight": torch.zeros(2, 2)}, file)
    with pytest.raises(UserError, match=r"its SHA-256 is not the one in projector.json"):
        describe_projector(str(tmp_path), THREE)
    about = json.loads((tmp_path / delta.ABOUT).read_text())
    for data, text in ((file.read_bytes(), "names differ"), (b"not safetensors", "damaged: SafetensorError")):
        file.write_bytes(data)
        about["delta"]["sha256"] = files.sha256(data)
        (tmp_path / delta.ABOUT).write_text(json.dumps(about))
        with pytest.raises(UserError, match=text):
            open_projector(str(tmp_path), "cpu")
    file.unlink()
    with pytest.raises(UserError, match="cannot be read"):
        describe_projector(str(tmp_path), THREE)


def test_a_fit_that_diverged_is_not_written(tmp_path: Path) -> None:
    projector = written(tmp_path)
    with torch.no_grad():
        projector.delta()["head.weight.B"].fill_(float("nan"))
    before = (tmp_path / delta.DELTA).read_bytes()
    with pytest.raises(RaycondError, match=r"head.weight.B of the delta is not finite"):
        save_projector(str(tmp_path), projector, "float16")
    assert (tmp_path / delta.DELTA).read_bytes() == before


def test_an_unknown_dtype(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="dtype 'int4': expected float32, float16, int8"):
        written(tmp_path, "int4")
