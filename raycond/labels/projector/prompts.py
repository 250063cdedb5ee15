"""Class names as texts for CLIP, and the classifier that their embeddings make."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from raycond.core.errors import UserError
from raycond.data.classes import Classes
from raycond.models.clip import Clip
from raycond.models.imagenet_names import curated, curated_templates
from raycond.models.texts import as_read, require_distinct

# "simple" are the seven that OpenAI found to do as well as their eighty (CLIP's notebook Prompt_Engineering)
TEMPLATES: dict[str, tuple[str, ...]] = {
    "photo": ("a photo of a {}.",),
    "simple": (
        "itap of a {}.",
        "a bad photo of the {}.",
        "a origami {}.",
        "a photo of the large {}.",
        "a {} in a video game.",
        "art of the {}.",
        "a photo of the small {}.",
    ),
}
IMAGENET = "imagenet"
"""Name of the eighty texts of CLIP's authors, with their curated names of ImageNet's classes."""

CURATED = "{curated}"
"""In a template: the curated name, by WordNet id; the class's own name where it is not one of ImageNet-1K's."""

_NAME_THEM = (
    'give them different names in a classes.json ({"ID": "NAME", …}) beside the class folders, or take head=scratch, '
    "which uses no texts"
)
_NUMBERED = re.compile(r"n\d{8}")  # a WordNet id: says nothing to a text tower


def class_names(classes: Classes) -> tuple[str, ...]:
    """What each class is called in a text: `_` and runs of blanks become one blank.

    Raises UserError that names a class without a name, or whose name is only its WordNet id, and two classes whose
    names read the same.
    """
    names = tuple(" ".join(name.replace("_", " ").split()) for name in classes.names)
    for class_id, name in zip(classes.ids, names, strict=True):
        if not name or _NUMBERED.fullmatch(name):
            raise UserError(
                f"class {class_id}: has no name, and CLIP's text tower needs one: name the classes in a classes.json "
                '({"ID": "NAME", …}) beside the class folders, or take head=scratch, which uses no texts'
            )
    require_distinct(classes, [as_read(name) for name in names], "CLIP's text", _NAME_THEM)
    return names


def class_texts(classes: Classes, templates: Sequence[str]) -> list[list[str]]:
    """The texts of each class, one for each template, whose {} becomes the name, or {curated} ImageNet's curated one.

    Raises UserError as `class_names` does.
    """
    if not templates or any(not is_template(template) for template in templates):
        raise UserError(f"templates {list(templates)}: expected at least one, each with one {{}} for the class's name")
    if any(CURATED in template for template in templates):
        names = class_names(Classes(classes.ids, curated(classes)))
    else:
        names = class_names(classes)
    return [[template.replace(CURATED, name).replace("{}", name) for template in templates] for name in names]


def is_template(text: str) -> bool:
    """Whether a text has one place for a class's name."""
    return text.count("{}") + text.count(CURATED) == 1


def templates_of(given: Sequence[str]) -> tuple[str, ...] | None:
    """The templates that a name stands for, or those that were given; None where one of them is none."""
    if list(given) == [IMAGENET]:
        return curated_templates(CURATED)
    if len(given) == 1 and given[0] in TEMPLATES:
        return TEMPLATES[given[0]]
    return tuple(given) if given and all(map(is_template, given)) else None


def text_head(clip: Clip, classes: Classes, templates: Sequence[str]) -> Tensor:
    """(C, d) float32: the mean of each class's text embeddings, to unit length; CLIP's zero-shot classifier.

    arXiv 2103.00020, section 3.1.4; HeLlO's Proposition 1 starts from it (arXiv 2408.08201). Raises UserError as
    `class_texts` does, and for two classes whose texts are the same to this CLIP.
    """
    texts = class_texts(classes, templates)
    embedded = clip.encode_text([text for of_class in texts for text in of_class])
    mean = embedded.reshape(len(classes), len(templates), -1).mean(1)
    if not mean.is_meta:  # names may differ only in what is cut off, or in letters that the tokenizer does not know
        seen = [row.tobytes() for row in mean.cpu().numpy()]
        require_distinct(classes, seen, "what CLIP sees of the text", _NAME_THEM)
    return F.normalize(mean, dim=-1)
