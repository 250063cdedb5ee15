from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.transforms.functional import normalize

from raycond.core.errors import UserError
from raycond.data.classes import Classes
from raycond.labels.projector.network import Projector, ProjectorOptions, check_clip
from raycond.labels.projector.prompts import TEMPLATES, class_names
from raycond.models.clip import CONFIG, Clip, architecture, open_clip_model, save_clip
from tests.labels import clips
from tests.labels.clips import CONFIGS, MEAN, STD, THREE, pictures, saved
from tests.labels.projectors import shaken

SIDES = {"resnet": 32, "vit": 8}


def many(count: int) -> Classes:
    return Classes.of(f"class {k}" for k in range(count))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    return open_clip_model(saved(tmp_path_factory.mktemp("clip")), device="cpu")


@pytest.mark.parametrize(
    ("classes", "layout", "head", "tower", "whole"),
    [
        (1000, "3x3", "text", 557_784, 816_856),
        (1000, "3x3", "full", 557_784, 1_581_784),
        (1000, "3x3", "scratch", 557_784, 1_581_784),
        (1000, "peft", "text", 594_136, 853_208),
        (1000, "peft", "full", 594_136, 1_618_136),
        (100, "3x3", "text", 557_784, 629_720),
        (100, "peft", "text", 594_136, 666_072),
    ],
)
def test_parameters_of_the_paper(classes: int, layout: Any, head: Any, tower: int, whole: int) -> None:
    """arXiv 2408.08201 prints 0.8M and 1.5M of 2^20 for ImageNet-1K, with either layout."""
    projector = Projector(architecture("RN50"), many(classes), ProjectorOptions(layout=layout, head=head), "meta")
    delta = projector.delta()
    assert sum(t.numel() for name, t in delta.items() if name.startswith("tower.")) == tower
    assert projector.count == sum(t.numel() for t in delta.values()) == whole
    assert projector.count == sum(p.numel() for p in projector.parameters() if p.requires_grad)


def test_without_deltas_it_is_a_linear_probe() -> None:
    options = ProjectorOptions(conv_rank=0, head="scratch")
    assert Projector(architecture("RN50"), many(1000), options, "meta").count == 1_024_000


@pytest.mark.parametrize("kind", ["resnet", "vit"])
@pytest.mark.parametrize("templates", ["photo", "simple"])
@pytest.mark.parametrize("head", ["text", "full"])
def test_at_the_start_it_is_clips_zero_shot(tmp_path: Path, kind: str, templates: str, head: Any) -> None:
    folder = saved(tmp_path, kind)
    theirs = open_clip.create_model(f"local-dir:{folder}", require_pretrained=True).eval()
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    x = pictures(4, SIDES[kind])
    with torch.no_grad():
        weights = open_clip.build_zero_shot_classifier(theirs, tokenizer, class_names(THREE), TEMPLATES[templates])
        features = theirs.encode_image(normalize(x, MEAN, STD), normalize=True)
        expected = theirs.logit_scale.exp() * features @ weights
        options = ProjectorOptions(templates=TEMPLATES[templates], head=head)
        found = Projector(open_clip_model(folder, device="cpu"), THREE, options)(x)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert found.dtype == torch.float32


def test_the_deltas_change_no_bit_at_the_start(tiny: Clip) -> None:
    x = pictures(3, 20)
    none = Projector(tiny, THREE, ProjectorOptions(conv_rank=0, head_rank=0))
    assert none.count == 0
    with torch.no_grad():
        expected = none(x)
        for layout in ("3x3", "peft"):
            projector = Projector(tiny, THREE, ProjectorOptions(layout=layout))  # type: ignore[arg-type]
            assert torch.equal(projector(x), expected)
            assert not torch.allclose(shaken(projector)(x), expected)
        assert torch.equal(none(x), expected)  # the CLIP that they share is not theirs to change


def test_images_become_what_clip_sees(tiny: Clip) -> None:
    projector = Projector(tiny, THREE)
    assert torch.equal(projector.seen(pictures(2, 32)), normalize(pictures(2, 32), MEAN, STD))
    for size in (8, 50):
        x = pictures(2, size)
        resized = F.interpolate(x, (32, 32), mode="bicubic", antialias=size > 32, align_corners=False).clamp(0, 1)
        torch.testing.assert_close(projector.seen(x), normalize(resized, MEAN, STD))
    grey = pictures(2, 32, 1)
    assert torch.equal(projector.seen(grey), projector.seen(grey.repeat(1, 3, 1, 1)))
    bytes_ = (pictures(2, 32) * 255).round().to(torch.uint8)
    torch.testing.assert_close(projector.seen(bytes_), projector.seen(bytes_ / 255))
    with pytest.raises(UserError, match="takes 1 or 3 channels, and the images have 4"):
        projector(pictures(1, 32, 4))


def test_only_the_delta_learns_and_batch_norm_never_does(tiny: Clip) -> None:
    projector = shaken(Projector(tiny, THREE))
    before = {name: tensor.clone() for name, tensor in projector.state_dict().items()}
    projector.train()
    assert not any(m.training for m in projector.modules() if isinstance(m, nn.BatchNorm2d))
    optimiser = torch.optim.AdamW([p for p in projector.parameters() if p.requires_grad], 1e-2)
    projector(pictures(4, 32)).square().mean().backward()
    optimiser.step()
    moved = {name for name, tensor in projector.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved == {name for name, p in projector.named_parameters() if p.requires_grad}
    assert len(moved) == len(projector.delta())


def test_gradients_reach_the_images(tiny: Clip) -> None:
    x = pictures(2, 20).requires_grad_()
    Projector(tiny, THREE).features(x).square().sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0


def test_a_delta_makes_another_projector_the_same(tiny: Clip) -> None:
    a, b = shaken(Projector(tiny, THREE)), Projector(tiny, THREE, ProjectorOptions(seed=9))
    x = pictures(3, 32)
    assert not torch.equal(a.delta()["tower.conv1.weight.A"], b.delta()["tower.conv1.weight.A"])
    b.load_delta(a.delta())
    with torch.no_grad():
        assert torch.equal(a(x), b(x))
    assert {"head.weight.A", "head.weight.B", "tower.layer1.0.conv2.weight.B"} <= a.delta().keys()
    assert set(Projector(tiny, THREE, ProjectorOptions(head="full")).delta()) == {
        name for name in a.delta() if name.startswith("tower.")
    } | {"head.weight"}


def test_a_delta_of_another_projector(tiny: Clip) -> None:
    projector = Projector(tiny, THREE)
    with pytest.raises(UserError, match=r"delta: head.weight is unknown \(3 names differ\)"):
        projector.load_delta(Projector(tiny, THREE, ProjectorOptions(head="full")).delta())
    with pytest.raises(UserError, match=r"delta: head.weight.A is \(2, 12\), expected \(3, 12\)"):
        projector.load_delta(Projector(tiny, THREE.head(2)).delta())
    with pytest.raises(UserError, match=r"tower.conv1.weight.A is \(9, 9\), expected \(24, 9\)"):
        projector.load_delta(Projector(tiny, THREE, ProjectorOptions(conv_rank=3)).delta())


def test_merged_gives_the_same_labels(tiny: Clip) -> None:
    for head in ("text", "full"):
        projector = shaken(Projector(tiny, THREE, ProjectorOptions(head=head)))  # type: ignore[arg-type]
        with torch.no_grad():
            expected = projector(pictures(3, 32))
            torch.testing.assert_close(projector.merged()(pictures(3, 32)), expected, rtol=1e-4, atol=1e-4)
        assert projector.count == 0


def test_bf16_leaves_head_and_normalisation_in_float32(tiny: Clip) -> None:
    projector = shaken(Projector(tiny, THREE))
    x = pictures(3, 32)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        features, logits = projector.features(x), projector(x)
    assert (features.dtype, logits.dtype) == (torch.bfloat16, torch.float32)
    unit = F.normalize(features.float(), dim=-1)
    with torch.no_grad():
        assert torch.equal(logits, projector.head(tiny.logit_scale * unit))


def test_scratch_needs_no_names(tiny: Clip) -> None:
    nameless = Classes(("n01440764", "n02102040"), ("n01440764", ""))
    with pytest.raises(UserError, match="class n01440764: has no name"):
        Projector(tiny, nameless)
    projector = Projector(tiny, nameless, ProjectorOptions(head="scratch"))
    with torch.no_grad():
        assert not projector(pictures(2, 32)).any()


def test_what_would_end_a_fit_later_is_found_at_once(tmp_path: Path) -> None:
    check_clip(saved(tmp_path / "a"), "3x3", texts=True)
    about = tmp_path / "a" / CONFIG
    content = json.loads(about.read_text())
    content["model_cfg"]["text_cfg"] |= {"hf_tokenizer_name": "nobody/none"}
    about.write_text(json.dumps(content))
    check_clip(str(tmp_path / "a"), "3x3", texts=False)
    with pytest.raises(UserError, match="the tokenizer of nobody/none cannot be loaded"):
        check_clip(str(tmp_path / "a"), "3x3", texts=True)
    save_clip(str(tmp_path / "b"), CONFIGS["resnet"], clips.model("vit").state_dict())
    with pytest.raises(UserError, match="its weights are not of its configuration"):
        check_clip(str(tmp_path / "b"), None, texts=False)


def test_ranks_of_the_head() -> None:
    ranks = [ProjectorOptions().rank_of_head(classes, 1024) for classes in (10, 100, 101, 1000)]
    assert ranks == [10, 64, 128 - 27, 128]
    assert ProjectorOptions(head_rank=5).rank_of_head(1000, 4) == 4


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"head": "linear"}, "head 'linear': expected text, full, scratch"),
        ({"layout": "1x1"}, "layout '1x1': expected 3x3, peft"),
        ({"conv_rank": -1}, "conv_rank -1"),
        ({"head_rank": -1}, "head_rank -1"),
    ],
)
def test_options_that_are_none(options: dict[str, Any], text: str) -> None:
    with pytest.raises(UserError, match=text):
        ProjectorOptions(**options)


def test_options_survive_json() -> None:
    options = ProjectorOptions(conv_rank=4, head_rank=3, layout="peft", templates=["a {}", "the {}"])  # type: ignore[arg-type]
    assert ProjectorOptions.from_dict(options.to_dict()) == options


@pytest.mark.gpu
@pytest.mark.usefixtures("full_float32")
@pytest.mark.parametrize("kind", ["resnet", "vit"])
def test_cuda_gives_the_cpus_logits(tmp_path: Path, kind: str) -> None:
    clip = open_clip_model(saved(tmp_path, kind), device="cpu")
    here, there = (shaken(Projector(clip, THREE, device=device)) for device in ("cpu", "cuda"))
    for x in (pictures(4, 50), pictures(4, SIDES[kind], 1)):
        with torch.no_grad():
            expected, actual = here(x), there(x)
        assert actual.is_cuda
        torch.testing.assert_close(actual.cpu(), expected, rtol=1e-3, atol=1e-3)
    with torch.no_grad():
        torch.testing.assert_close(there.merged()(x), actual, rtol=1e-3, atol=1e-3)
