from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

from raycond.core.errors import UserError
from raycond.core.files import absolute
from raycond.models import clip
from raycond.models.clip import architecture, describe_clip, open_clip_model, save_clip
from tests.labels.clips import CONFIGS, MEAN, STD, model, pictures, saved


@pytest.mark.parametrize("kind", ["resnet", "vit"])
def test_a_folder_gives_open_clips_features(tmp_path: Path, kind: str) -> None:
    folder = saved(tmp_path / "tiny", kind)
    theirs = open_clip.create_model(f"local-dir:{folder}", require_pretrained=True).eval()
    found = open_clip_model(folder, device="cpu")
    x, texts = pictures(3, found.size), ["a photo of a tench.", "art of the tench."]
    with torch.no_grad():
        assert torch.equal(found.tower(x), theirs.encode_image(x))
        tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(texts)
        assert torch.equal(found.encode_text(texts), theirs.encode_text(tokens, normalize=True))
    assert found.logit_scale == pytest.approx(theirs.logit_scale.exp().item())
    assert (found.name, found.width, found.carrier) == ("tiny", 12, folder)
    assert (found.mean, found.std, theirs.visual.preprocess_cfg["mean"]) == (MEAN, STD, list(MEAN))
    assert not found.tower.training
    assert not any(p.requires_grad for p in found.tower.parameters())
    torch.testing.assert_close(found.encode_text(texts).norm(dim=1), torch.ones(2))


def test_describing_says_what_opening_does(tmp_path: Path) -> None:
    a = saved(tmp_path / "a", name="Tiny")
    found = open_clip_model(a, device="cpu")
    assert describe_clip(a) == (found.name, found.digest) == ("Tiny", found.digest)
    assert describe_clip(saved(tmp_path / "b"))[1] == found.digest  # the place is not part of it
    assert describe_clip(saved(tmp_path / "c", seed=1))[1] != found.digest
    config = json.loads((tmp_path / "b" / clip.CONFIG).read_text())
    unset = {**config, "model_cfg": {**config["model_cfg"], "custom_text": False, "vision_cfg": None}}
    unset["model_cfg"]["vision_cfg"] = {**config["model_cfg"]["vision_cfg"], "timm_model_name": None}
    for changed, same in ((unset, True), ({**config, "preprocess_cfg": {"mean": [0, 0, 0]}}, False)):
        (tmp_path / "b" / clip.CONFIG).write_text(json.dumps(changed))
        assert (describe_clip(str(tmp_path / "b"))[1] == found.digest) is same


def test_opening_moves_nobodys_seed_on(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    torch.manual_seed(7)
    expected = torch.rand(2)
    torch.manual_seed(7)
    open_clip_model(folder, device="cpu").encode_text(["x"])
    assert torch.equal(torch.rand(2), expected)


def test_weights_as_torch_saves_them_and_remote(tmp_path: Path) -> None:
    folder = saved(tmp_path / "a")
    before = open_clip_model(folder, device="cpu")
    weights = tmp_path / "a" / clip.WEIGHTS
    torch.save(load_file(weights), tmp_path / "a" / "open_clip_pytorch_model.bin")
    data = {name: (tmp_path / "a" / name).read_bytes() for name in (clip.CONFIG, clip.WEIGHTS)}
    weights.unlink()
    x = pictures(2, 32)
    with torch.no_grad():
        assert torch.equal(open_clip_model(folder, device="cpu").tower(x), before.tower(x))
        for name, content in data.items():
            clip.files.write_bytes(f"memory://clips/tiny/{name}", content)
        remote = open_clip_model("memory://clips/tiny", device="cpu")
        assert torch.equal(remote.tower(x), before.tower(x))
    assert (remote.name, remote.digest) == ("tiny", before.digest)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    (tmp_path / clip.WEIGHTS).unlink()
    (tmp_path / "open_clip_pytorch_model.bin").write_bytes(pickle.dumps(_Bomb(), protocol=2))
    with pytest.raises(UserError, match="expected a state dict"):
        open_clip_model(folder, device="cpu")
    assert not _Bomb.fell


class _Bomb:
    fell = False

    def __reduce__(self) -> Any:
        return _fall, ()


def _fall() -> None:
    _Bomb.fell = True


def test_folders_that_are_no_clip(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no open_clip_config.json there; expected a folder.*RN50:openai"):
        open_clip_model(str(tmp_path), device="cpu")
    with pytest.raises(UserError, match=r"/none: no such folder; expected a folder"):
        open_clip_model(str(tmp_path / "none"), device="cpu")
    folder = saved(tmp_path / "a")
    (tmp_path / "a" / clip.WEIGHTS).rename(tmp_path / "kept")
    with pytest.raises(UserError, match=r"has no weights: put open_clip_model.safetensors beside"):
        describe_clip(folder)
    save_file(model("vit").state_dict(), tmp_path / "a" / clip.WEIGHTS)
    with pytest.raises(UserError, match=r"its weights are not of its configuration: .*visual"):
        open_clip_model(folder, device="cpu")
    config = {**CONFIGS["resnet"], "vision_cfg": {**CONFIGS["resnet"]["vision_cfg"], "depth": 3}}
    for bad, text in (({}, "model_cfg"), ({"model_cfg": config}, "cannot build this .*depth")):
        (tmp_path / "a" / clip.CONFIG).write_text(json.dumps(bad))
        with pytest.raises(UserError, match=text):
            open_clip_model(folder, device="cpu")


@pytest.mark.parametrize(
    ("where", "change", "says"),
    [
        ("text_cfg", {"hf_model_name": "somebody/model"}, "hf_model_name 'somebody/model': not one of .*roberta-base"),
        ("text_cfg", {"hf_model_name": "../model"}, "hf_model_name"),
        ("vision_cfg", {"timm_model_name": "hf-hub:somebody/model"}, "timm_model_name .*: expected the name"),
        ("vision_cfg", {"timm_model_name": "local-dir:/x"}, "timm_model_name"),
        ("vision_cfg", {"width": 10**9}, "1000000000 is too large"),
        ("vision_cfg", {"layers": [1, 2, 10**12, 1]}, "1000000000000 is too large"),
        ("text_cfg", {"heads": 0}, "cannot build this configuration: "),
    ],
)
def test_a_folder_reaches_no_further_than_itself(tmp_path: Path, where: str, change: dict[str, Any], says: str) -> None:
    folder = saved(tmp_path)
    content = json.loads((tmp_path / clip.CONFIG).read_text())
    content["model_cfg"][where] |= change
    (tmp_path / clip.CONFIG).write_text(json.dumps(content))
    with pytest.raises(UserError, match=says):
        open_clip_model(folder, device="cpu")


@pytest.mark.parametrize("damage", ["[", "[]", '{"model_cfg": 3}', '{"model_cfg": {"embed_dim": []}}', "[" * 100_000])
def test_damaged_configurations(tmp_path: Path, damage: str) -> None:
    folder = saved(tmp_path)
    (tmp_path / clip.CONFIG).write_text(damage)
    with pytest.raises(UserError, match=f"{clip.CONFIG}: cannot be read as JSON with model_cfg"):
        describe_clip(folder)


def test_pickled_weights_are_taken_from_the_user_and_not_from_a_set(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    torch.save(load_file(tmp_path / clip.WEIGHTS), tmp_path / "open_clip_pytorch_model.bin")
    (tmp_path / clip.WEIGHTS).unlink()
    open_clip_model(folder, device="cpu")
    for read in (describe_clip, lambda spec, **o: open_clip_model(spec, device="cpu", **o)):
        with pytest.raises(UserError, match=r"has no weights: put open_clip_model.safetensors beside"):
            read(folder, safetensors_only=True)  # type: ignore[operator]


def test_names_of_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    for spec, text in (
        ("RN5O:openai", r"neither a folder nor a model of open_clip; did you mean RN50"),
        ("RN50", r"RN50:TAG, where TAG is one of openai, yfcc15m, cc12m"),
        ("RN50:laion", r"one of openai"),
    ):
        with pytest.raises(UserError, match=text):
            describe_clip(spec)

    def offline(_: dict[str, Any]) -> str:
        raise FileNotFoundError("Failed to download\nsecond line")

    monkeypatch.setattr(open_clip.pretrained, "download_pretrained", offline)
    with pytest.raises(UserError, match=r"huggingface.co/timm/resnet50_clip.openai elsewhere.*Cause: Failed to downl"):
        open_clip_model("RN50:openai", device="cpu")


def test_weights_of_the_hub_take_their_activation_with_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """OpenAI's models have QuickGELU, which open_clip's entry RN50 has not: it changes every text embedding."""
    saved(tmp_path / "hub")
    asked: list[dict[str, Any]] = []

    def cached(cfg: dict[str, Any]) -> str:
        asked.append(cfg)
        return str(tmp_path / "hub" / clip.WEIGHTS)

    monkeypatch.setattr(open_clip.pretrained, "download_pretrained", cached)
    monkeypatch.setattr(open_clip, "get_model_config", lambda _: dict(CONFIGS["resnet"]))
    found = open_clip_model("RN50:openai", device="cpu")
    assert (found.name, found.carrier, asked[0]["hf_hub"]) == ("RN50:openai", None, "timm/resnet50_clip.openai/")
    folder = str(tmp_path / "copied")
    quick = {**CONFIGS["resnet"], "quick_gelu": True}
    save_clip(folder, quick, model("resnet").state_dict())
    assert describe_clip(folder)[1] == found.digest  # the hub's own folder, copied, is the same model
    assert torch.equal(open_clip_model(folder, device="cpu").encode_text(["x"]), found.encode_text(["x"]))
    plain = saved(tmp_path / "plain")
    assert not torch.equal(open_clip_model(plain, device="cpu").encode_text(["x"]), found.encode_text(["x"]))


def test_architecture_has_shapes_only() -> None:
    found = architecture("RN50")
    assert sum(p.numel() for p in found.tower.parameters()) == 38_316_896
    assert (found.width, found.size, found.encode_text(["x", "y"]).shape) == (1024, 224, (2, 1024))
    assert all(p.is_meta for p in found.tower.parameters())


def test_the_folder_is_absolute_in_no_file(tmp_path: Path) -> None:
    saved(tmp_path / "a")
    assert absolute(str(tmp_path)) not in (tmp_path / "a" / clip.CONFIG).read_text()
