from __future__ import annotations

import torch

from raycond.sets.class_rows import class_rows


def test_rows_of_each_class_ascend_and_classes_may_be_empty() -> None:
    rows = class_rows(torch.tensor([2, 0, 2, 3, 0]), 5)
    assert [r.tolist() for r in rows] == [[1, 4], [], [0, 2], [3], []]
    assert all(r.dtype == torch.int64 for r in rows)


def test_no_rows_at_all() -> None:
    assert [r.tolist() for r in class_rows(torch.tensor([], dtype=torch.int64), 2)] == [[], []]
