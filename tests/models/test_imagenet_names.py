from __future__ import annotations

from raycond.data.classes import Classes
from raycond.models.imagenet_names import curated, curated_templates, imagenet_index, synsets
from raycond.models.texts import as_read

IDS = ("n01440764", "n02012849", "n03126707", "n03773504", "n04008634")
CLASSES = Classes(IDS, ("fish", "bird", "machine", "rocket", "projectile"))


def test_lines_of_synonyms_as_d4m_has_them() -> None:
    expected = ("tench, Tinca tinca", "crane bird", "construction crane", "missile", "projectile, missile")
    assert synsets(CLASSES) == expected


def test_curated_names_go_by_wordnet_id() -> None:
    assert curated(CLASSES) == ("tench", "crane bird", "construction crane", "missile", "projectile, missile")
    assert curated(Classes(IDS[::-1], CLASSES.names)) == curated(CLASSES)[::-1]


def test_no_two_classes_of_imagenet_read_the_same() -> None:
    ids = tuple(imagenet_index())
    for names in (synsets(Classes(ids, ids)), curated(Classes(ids, ids))):
        assert len(set(map(as_read, names))) == 1000


def test_other_classes_have_their_own_name() -> None:
    others = Classes(("cat", "n00000000"), ("a cat", "nothing"))
    assert synsets(others) == curated(others) == ("a cat", "nothing")


def test_templates_are_those_of_clips_authors() -> None:
    found = curated_templates("{}")
    assert len(set(found)) == 80
    assert found[0] == "a bad photo of a {}."
    assert all(text.count("{}") == 1 for text in found)
