"""sklearn's 8x8 digits as a training and a test set."""

from __future__ import annotations

import dataclasses

import torch

from raycond.data.labelled import LabelledImages
from raycond.evaluate.train import Outcome

STUDENT = "convnet3-w32"


def digits() -> tuple[LabelledImages, LabelledImages]:
    """Every fifth image of a class is held out."""
    from sklearn.datasets import load_digits

    data = load_digits()
    images = torch.from_numpy((data.images * 255 / 16).round().astype("uint8"))[:, None]
    labels = torch.from_numpy(data.target).long()
    held_out = torch.zeros(len(labels), dtype=torch.bool)
    for label in range(10):
        held_out[(labels == label).nonzero()[::5, 0]] = True
    return tuple(LabelledImages(images[m], labels[m], 10) for m in (~held_out, held_out))  # type: ignore[return-value]


TRAIN, TEST = digits()


def subset(ipc: int, weights: torch.Tensor | None = None) -> LabelledImages:
    """The first `ipc` training images of each digit."""
    index = torch.cat([(TRAIN.labels == label).nonzero()[:ipc, 0] for label in range(10)])
    return LabelledImages(TRAIN.images[index], TRAIN.labels[index], 10, weights)


def result(outcome: Outcome) -> Outcome:
    """What two equal trainings have in common: all but their time."""
    return dataclasses.replace(outcome, seconds=0.0)
