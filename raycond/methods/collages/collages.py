"""RDED's images (CVPR 2024, arXiv 2312.03526): collages of the crops that a teacher is surest of."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from raycond.core import files
from raycond.core.errors import BadImage, RaycondError, UserError
from raycond.data.images import Decoding, load_many
from raycond.data.labelled import LabelledImages, labelled
from raycond.data.quarantine import BadRecord
from raycond.data.refs import ImageRef
from raycond.data.sources import Source
from raycond.labels.projector.network import Projector, ProjectorOptions
from raycond.labels.teacher import open_teacher
from raycond.methods.collages.image_update import Features, UpdateOptions, update_images
from raycond.models.clip import open_clip_model

AREA = (0.08, 1.0)  # share of an image that a crop takes, as in torchvision's RandomResizedCrop
CROP_BATCH = 64  # images whose crops are scored at once
Logits = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class CollageOptions:
    """pool: images of a class that are looked at. crops: of each of them. factor: patches a side of a collage.

    RDED takes 300 images, 5 crops, and factor 2 for ImageNet, 1 for images of 32 pixels. Raises UserError for less
    than 1.
    """

    pool: int = 300
    crops: int = 5
    factor: int = 2

    def __post_init__(self) -> None:
        for name in ("pool", "crops", "factor"):
            if getattr(self, name) < 1:
                raise UserError(f"collages: {name} must be at least 1, not {getattr(self, name)}")


@dataclass(frozen=True)
class Made:
    """images: (IPC, size, size, channels) uint8. ids: of the images whose patches are in each. good: how many images
    were looked at. bad: those left out."""

    images: np.ndarray
    ids: tuple[str, ...]
    good: int
    bad: tuple[BadRecord, ...] = ()


@dataclass(frozen=True)
class Collages:
    """IPC collages of each class from a source, drawn by `seed`, chosen by `teacher` (as `labels.open_teacher` takes).

    Images are decoded at factor times their size, so that a patch may show a small part of one without being enlarged;
    RDED crops from the whole picture, here from its central square. clip: for HeLlO's image update, what
    `open_clip_model` takes: the chosen patches are then reduced with `update` (None: its defaults); "" for none. Raises
    UserError for an IPC below 1 and for an update of patches that are not reduced.
    """

    source: Source
    ipc: int
    seed: int
    teacher: str
    choice: CollageOptions = CollageOptions()
    device: str = "cpu"
    clip: str = ""
    update: UpdateOptions | None = None

    def __post_init__(self) -> None:
        if self.ipc < 1:
            raise UserError(f"collages: ipc must be at least 1, not {self.ipc}")
        if self.clip and self.choice.factor == 1:
            raise UserError("collages: one patch fills its image, so that there is nothing to update: take factor 2")

    def load(self, classes: int, options: Decoding) -> LabelledImages:
        models = self.models()
        images = [self.of_class(label, options, *models).images for label in range(classes)]
        labels = [label for label in range(classes) for _ in range(self.ipc)]
        return labelled(np.concatenate(images), labels, classes, None)

    def models(self) -> tuple[Logits, Features | None]:
        """The teacher, and the image tower of `clip` if images are to be updated."""
        teacher = open_teacher(self.teacher, classes=self.source.classes, device=self.device)
        if not self.clip:
            return teacher, None
        clip = open_clip_model(self.clip, device=self.device)
        bare = ProjectorOptions(conv_rank=0, head="scratch")
        return teacher, Projector(clip, self.source.classes, bare, self.device).features

    def of_class(self, label: int, options: Decoding, logits: Logits, features: Features | None = None) -> Made:
        """The IPC collages of a class. Raises as `at`."""
        return self.at([self.ipc], label, options, logits, features)[self.ipc]

    def at(
        self,
        ipcs: Sequence[int],
        label: int,
        options: Decoding,
        logits: Logits,
        features: Features | None = None,
    ) -> dict[int, Made]:
        """The collages of a class at several IPCs, of crops that are made and scored once where they are of one pool.

        Raises RaycondError where the class has too few usable images.
        """
        factor = self.choice.factor
        if factor > options.size:
            raise UserError(f"collages: images of {options.size} pixels cannot have {factor}x{factor} patches")
        pools: dict[int, list[int]] = {}
        for ipc in ipcs:
            pools.setdefault(max(self.choice.pool, ipc * factor**2), []).append(ipc)
        made: dict[int, Made] = {}
        for pool, some in pools.items():
            found = self._scored(pool, label, options, logits, whole=features is not None)
            made |= {ipc: self._made(found, ipc, label, options, features) for ipc in some}
        return made

    def _scored(self, pool: int, label: int, options: Decoding, logits: Logits, *, whole: bool) -> _Found:
        """The surest crop of each of `pool` images; whole: at the size of the picture, not of a patch of it."""
        seed = int(files.digest(["collages", self.seed, self.source.classes.ids[label]])[:15], 16)
        generator = torch.Generator().manual_seed(seed)
        refs = self.source.refs(label)
        order = np.random.default_rng(seed).permutation(len(refs))
        bad: list[BadRecord] = []
        patch = options.size // self.choice.factor
        return _surest(
            *(self._images([refs[i] for i in order], options, pool, bad), label, logits, generator),
            crops=self.choice.crops,
            patch=patch,
            side=options.size,
            kept=options.size if whole else patch,
            bad=bad,
        )

    def _made(self, found: _Found, ipc: int, label: int, options: Decoding, features: Features | None) -> Made:
        factor, class_id = self.choice.factor, self.source.classes.ids[label]
        wanted, bad = ipc * factor**2, found.bad
        if len(found.ids) < wanted:
            raise RaycondError(
                f"class {class_id}: {len(found.ids)} usable images, and {ipc} collages need {wanted}, one a patch"
                + (f"; {len(bad)} cannot be read, the first is {bad[0].uri}: {bad[0].reason}" if bad else "")
            )
        best = found.losses.argsort(stable=True)[:wanted]
        patches = found.patches[best]
        if features is not None:
            side = options.size // factor
            update = update_images(patches, features, size=side, options=self.update, device=self.device)
            patches = update.images.cpu()
        made = collages(patches, side=options.size, factor=factor)
        pixels = (made * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
        ids = [[found.ids[i] for i in best[k::ipc].tolist()] for k in range(ipc)]
        return Made(pixels, tuple(" ".join(some) for some in ids), len(found.ids), tuple(bad))

    def _images(
        self, refs: Sequence[ImageRef], options: Decoding, most: int, bad: list[BadRecord]
    ) -> Iterator[tuple[list[str], Tensor]]:
        """Ids and pixels (n, c, side, side) in [0, 1] of the first `most` good images, some at a time."""
        wanted = itertools.islice(self._good(refs, options, bad), most)
        while some := list(itertools.islice(wanted, CROP_BATCH)):
            pixels = torch.from_numpy(np.stack([image for _, image in some]))
            yield [image_id for image_id, _ in some], pixels.permute(0, 3, 1, 2).float() / 255

    def _good(
        self, refs: Sequence[ImageRef], options: Decoding, bad: list[BadRecord]
    ) -> Iterator[tuple[str, np.ndarray]]:
        for ref, image, _ in load_many(
            refs,
            size=options.size * self.choice.factor,
            resize=options.resize,
            channels=options.channels,
            max_pixels=options.max_pixels,
        ):
            if isinstance(image, BadImage):
                bad.append(BadRecord.of(ref, self.source.classes.ids[ref.label], image.reason))
            else:
                yield ref.id, image


@dataclass(frozen=True)
class _Found:
    losses: Tensor
    patches: Tensor
    ids: list[str]
    bad: list[BadRecord]


def _surest(
    chunks: Iterator[tuple[list[str], Tensor]],
    label: int,
    logits: Logits,
    generator: torch.Generator,
    *,
    crops: int,
    patch: int,
    side: int,
    kept: int,
    bad: list[BadRecord],
) -> _Found:
    """Of each image the crop with the smallest cross-entropy of its class: its loss (n,), its pixels (n, c, p, p).

    kept: p, the side in pixels at which the crops come out; they are scored at `patch`. bad: filled while `chunks` are
    read.
    """
    losses, patches, ids = [torch.empty(0)], [], []
    for names, images in chunks:
        boxes = torch.stack([random_boxes(images, generator) for _ in range(crops)])
        cut = torch.stack([cropped(images, some, patch) for some in boxes])
        loss = torch.stack([confidence_loss(some, label, logits, side) for some in cut])
        best, at = loss.argmin(0), torch.arange(len(images))
        losses.append(loss[best, at])
        patches.append(cut[best, at] if kept == patch else cropped(images, boxes[best, at], kept))
        ids += names
    return _Found(torch.cat(losses), torch.cat(patches) if patches else torch.empty(0), ids, bad)


def random_boxes(images: Tensor, generator: torch.Generator) -> Tensor:
    """A random square of each image (n, c, h, h), of `AREA` of it: (n, 3) int64 rows of top, left and side."""
    side = images.shape[-1]
    area, x, y = torch.rand(3, len(images), generator=generator)
    edge = (side * (AREA[0] + (AREA[1] - AREA[0]) * area).sqrt()).round().long().clamp(1, side)
    return torch.stack([(y * (side - edge + 1)).long(), (x * (side - edge + 1)).long(), edge], 1)


def cropped(images: Tensor, boxes: Tensor, size: int) -> Tensor:
    """The boxes of the images, brought to (n, c, size, size), antialiased."""
    found = [
        F.interpolate(image[None, :, i : i + e, j : j + e], (size, size), mode="bilinear", antialias=True)
        for image, (i, j, e) in zip(images, boxes.tolist(), strict=True)
    ]
    return torch.cat(found)


def confidence_loss(patches: Tensor, label: int, logits: Logits, side: int) -> Tensor:
    """Cross-entropy (n,) of `label` for patches in the middle of a picture of `side` pixels that shows nothing else.

    Nothing is the teacher's mean pixel, which its normalisation makes 0, as in RDED.
    """
    blank = getattr(logits, "mean", None)
    canvas = torch.zeros(1, patches.shape[1], 1, 1) if blank is None else blank.detach().cpu()
    canvas = canvas.mean(1, keepdim=True) if canvas.shape[1] not in (1, patches.shape[1]) else canvas
    canvas = canvas.expand(len(patches), patches.shape[1], side, side).clone()
    low = (side - patches.shape[-1]) // 2
    canvas[:, :, low : low + patches.shape[-1], low : low + patches.shape[-1]] = patches
    found = logits(canvas).float().cpu()
    return F.cross_entropy(found, torch.full((len(found),), label), reduction="none")


def collages(patches: Tensor, *, side: int, factor: int) -> Tensor:
    """(n · factor², c, p, p) in order of confidence → (n, c, side, side): patch k of collage i is number k · n + i.

    So the surest patches are spread over all collages. Patches are brought to side // factor pixels, the first
    side % factor rows and columns to one more, so that they fill the picture.
    """
    n, rest = divmod(len(patches), factor**2)
    if rest:
        raise UserError(f"{len(patches)} patches do not make collages of {factor}x{factor}")
    edges = [side // factor + (k < side % factor) for k in range(factor)]
    grid = patches.view(factor, factor, n, *patches.shape[1:])
    rows = [
        torch.cat([_fitted(patch, height, width) for patch, width in zip(row, edges, strict=True)], 3)
        for row, height in zip(grid, edges, strict=True)
    ]
    return torch.cat(rows, 2)


def _fitted(patches: Tensor, height: int, width: int) -> Tensor:
    if patches.shape[2:] == (height, width):
        return patches
    return F.interpolate(patches, (height, width), mode="nearest")
