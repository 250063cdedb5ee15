from __future__ import annotations

from pathlib import Path

import pytest
import torch

from raycond.core.errors import UserError
from raycond.labels import teacher
from raycond.labels.projector.labeler import identity, open_logits
from tests.labels.clips import THREE, pictures, saved
from tests.labels.projectors import written


def test_labels_of_a_fitted_projector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    projector, x = written(tmp_path), pictures(5, 20)
    found, logits = open_logits(str(tmp_path), THREE, torch.device("cpu"))
    assert found == identity(str(tmp_path), THREE)
    with torch.no_grad():
        expected = projector(x)
    torch.testing.assert_close(logits(x), expected, rtol=1e-4, atol=1e-4)
    assert not logits(x).requires_grad
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(logits(x), logits(x.clone()))
        torch.testing.assert_close(logits(x), expected, rtol=1e-4, atol=1e-4)
    monkeypatch.setitem(teacher.CHUNK_PIXELS, "cpu", 2 * 32**2)
    seen: list[int] = []
    logits.projector.tower.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    torch.testing.assert_close(logits(x), expected, rtol=1e-4, atol=1e-4)
    assert seen == [2, 2, 1]


def test_the_clip_may_be_given(tmp_path: Path) -> None:
    elsewhere = saved(tmp_path / "tiny")
    written(tmp_path / "a", clip=elsewhere)
    where = f"{tmp_path}/a,clip={elsewhere}"
    assert open_logits(where, THREE, torch.device("cpu"))[0] == identity(where, THREE)


@pytest.mark.parametrize("where", ["", "x,clip=", "x,mean=1", "x,clip=a,clip=b", ",clip=a"])
def test_what_is_no_projector(where: str) -> None:
    with pytest.raises(UserError, match=r"expected DIR\[,clip=CLIP\]"):
        identity(where, THREE)
