"""The rows of each class, found in one pass over the labels."""

from __future__ import annotations

import torch
from torch import Tensor


def class_rows(labels: Tensor, classes: int) -> list[Tensor]:
    """For each label from 0 to classes - 1 the rows that carry it, ascending: `classes` tensors of int64.

    labels: (n,) integers in [0, classes). One stable sort, so the time does not grow with the number of classes.
    """
    order = labels.argsort(stable=True)
    return list(order.split(torch.bincount(labels, minlength=classes).tolist()))
