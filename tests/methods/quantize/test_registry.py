from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from raycond.core.errors import UserError
from raycond.core.registry import Entry
from raycond.methods.quantize.base import Quantizer
from raycond.methods.quantize.quantization import quantize
from raycond.methods.quantize.registry import QUANTIZERS, open_quantizer
from raycond.pipelines.quantize.config import load_config


def test_every_quantizer_opens() -> None:
    opened = {name: open_quantizer(name, restarts=4) for name in QUANTIZERS.names()}
    assert all(isinstance(quantizer, Quantizer) and quantizer.restarts == 4 for quantizer in opened.values())
    assert [name for name, quantizer in opened.items() if quantizer.stream] == ["clvq"]


def test_an_unknown_quantizer_gets_the_nearest_name() -> None:
    with pytest.raises(
        UserError, match=r"--quantizer loyd: not one of lloyd, clvq, minibatch, faiss, gmm; did you mean lloyd\?"
    ):
        open_quantizer("loyd")
    with pytest.raises(UserError, match=r"--quantizer: expected one of lloyd, .* did you mean lloyd\?"):
        load_config({"data": "x", "quantizer": "loyd"})


def test_a_new_quantizer_is_one_file_and_one_entry(
    new_file: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = new_file("""
        from raycond.methods.quantize.base import SingleQuantizer

        class First(SingleQuantizer):
            def centroids(self, points, count, seed):
                return points[:count]
    """)
    monkeypatch.setitem(QUANTIZERS.entries, "first", Entry("first", "the first points", f"{module}:First"))
    points = torch.tensor([[0.0, 0.0], [10.0, 0.0], [11.0, 0.0], [12.0, 0.0]])
    book = quantize(points, [2], kind="first", seed=0, restarts=1)[0]
    assert book.centroids.tolist() == [[10.0, 0.0], [0.0, 0.0]]
    assert book.counts.tolist() == [3, 1]
    assert load_config({"data": "x", "quantizer": "first"}).quantizer == "first"
