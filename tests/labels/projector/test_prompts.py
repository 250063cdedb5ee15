from __future__ import annotations

from pathlib import Path

import open_clip
import pytest
import torch

from raycond.core.errors import UserError
from raycond.data.classes import Classes
from raycond.labels.projector.prompts import TEMPLATES, class_names, class_texts, templates_of, text_head
from raycond.models.clip import open_clip_model
from tests.labels.clips import THREE, saved


def test_texts() -> None:
    assert class_names(THREE) == ("tench", "English springer", "cassette player")
    texts = class_texts(THREE, ("a photo of a {}.", "{} {{x}}".replace("{{x}}", "(x)")))
    assert texts[1] == ["a photo of a English springer.", "English springer (x)"]
    odd = Classes.of(("1",), ("a {0} {name}",))  # braces in a name are letters
    assert class_texts(odd, ("the {}",)) == [["the a {0} {name}"]]


@pytest.mark.parametrize("name", ["", " _ ", "n01440764"])
def test_a_class_without_a_name(name: str) -> None:
    classes = Classes(("dog", "n01440764"), ("dog", name))
    with pytest.raises(UserError, match=r"class n01440764: has no name.*classes.json"):
        class_texts(classes, TEMPLATES["photo"])


def test_imagenets_texts_are_open_clips() -> None:
    templates = templates_of(["imagenet"])
    assert templates is not None
    classes = Classes(("n02012849", "n03126707", "dog"), ("crane", "crane (machine)", "my_dog"))
    texts = class_texts(classes, templates)
    for of_class, name in zip(texts, ("crane bird", "construction crane", "my dog"), strict=True):
        assert of_class == [template(name) for template in open_clip.OPENAI_IMAGENET_TEMPLATES]
    assert templates_of(["photo"]) == TEMPLATES["photo"]
    assert templates_of(["the {curated}"]) == ("the {curated}",)
    assert templates_of(["imagenet", "photo"]) is None


@pytest.mark.parametrize("templates", [(), ("a photo",), ("{} and {}",), ("{} and {curated}",)])
def test_templates_without_a_place_for_the_name(templates: tuple[str, ...]) -> None:
    with pytest.raises(UserError, match="templates"):
        class_texts(THREE, templates)


@pytest.mark.parametrize("kind", ["photo", "simple"])
def test_the_head_is_open_clips_zero_shot_classifier(tmp_path: Path, kind: str) -> None:
    folder = saved(tmp_path)
    theirs = open_clip.create_model(f"local-dir:{folder}", require_pretrained=True).eval()
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    expected = open_clip.build_zero_shot_classifier(theirs, tokenizer, class_names(THREE), TEMPLATES[kind])
    found = text_head(open_clip_model(folder, device="cpu"), THREE, TEMPLATES[kind])
    torch.testing.assert_close(found, expected.T, rtol=0, atol=1e-6)
    assert found.dtype == torch.float32


@pytest.mark.parametrize(
    "names", [("crane", "crane"), ("crane", "Crane"), ("tank top", "tank_top"), ("café", "cafe\u0301"), ("a  b", "a b")]
)
def test_two_classes_never_share_a_text(names: tuple[str, str]) -> None:
    classes = Classes(("n02012849", "n03126707", "n1"), (*names, "dog"))
    with pytest.raises(
        UserError, match=r"classes n02012849 \(.*\) and n03126707 .*text of both is the same.*classes.json"
    ):
        class_texts(classes, TEMPLATES["photo"])


def test_texts_that_differ_only_where_clip_does_not_read(tmp_path: Path) -> None:
    clip = open_clip_model(saved(tmp_path), device="cpu")
    long = "very " * 100
    with pytest.raises(UserError, match=r"classes a .* and b .*: what CLIP sees of the text of both is the same"):
        text_head(clip, Classes(("a", "b"), (f"{long} dog", f"{long} cat")), TEMPLATES["photo"])
