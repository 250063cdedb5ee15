from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from raycond.core.errors import RaycondError, UserError
from raycond.methods.quantize.clvq import Clvq
from raycond.methods.quantize.codebook import Codebook
from raycond.methods.quantize.quantization import (
    StreamQuantizer,
    quantize,
    quantize_classes,
    require_enough,
    require_finite,
)
from raycond.methods.quantize.registry import QUANTIZERS
from raycond.methods.quantize.wasserstein import w2, w2_uniform
from tests.methods.quantize.make import low_rank, squared

KINDS = pytest.mark.parametrize("kind", QUANTIZERS.names())


def books(points: Tensor, counts: list[int], kind: str, seed: int = 7) -> list[Codebook]:
    return quantize(points, counts, kind=kind, seed=seed, restarts=3)


def stream(points: Tensor, counts: list[int], spill: Path, chunk: int, seed: int = 7) -> list[Codebook]:
    with StreamQuantizer(Clvq, counts, seed, str(spill)) as quantizer:
        for part in points.split(chunk):
            quantizer.add(part)
        return quantizer.codebooks()


def same(a: Codebook, b: Codebook) -> bool:
    parts = ((a.centroids, b.centroids), (a.counts, b.counts), (a.medoids, b.medoids))
    return all(torch.equal(x, y) for x, y in parts)


@KINDS
def test_voronoi_counts_give_the_optimal_transport_distance(kind: str) -> None:
    """W2² between data and count-weighted centroids is the distortion; uniform weights can only be worse."""
    x = low_rank(250, 60)
    for book in books(x, [1, 10, 40], kind):
        assert int(book.counts.sum()) == 250
        assert int(book.counts.min()) >= 1
        assert book.counts.tolist() == sorted(book.counts.tolist(), reverse=True)
        assert book.distortion == pytest.approx(w2(x, book.centroids, book.counts) ** 2, rel=1e-4)
        assert book.distortion**0.5 <= w2_uniform(x, book.centroids) * (1 + 1e-6)  # K = 1: equal but for float32
        labels = squared(x, book.centroids).argmin(1)
        assert torch.bincount(labels, minlength=len(book)).tolist() == book.counts.tolist()


@KINDS
def test_as_many_centroids_as_images(kind: str) -> None:
    x = low_rank(30, 12)
    book = books(x, [30], kind)[0]
    assert book.distortion == pytest.approx(0, abs=1e-9)
    assert book.counts.tolist() == [1] * 30
    assert sorted(book.medoids.tolist()) == list(range(30))
    for mode in ("uniform", "sqrt", "density"):
        assert book.weights(mode).tolist() == [1.0] * 30


@KINDS
def test_one_image(kind: str) -> None:
    book = books(torch.full((1, 2, 3, 3), 0.5), [1], kind)[0]
    assert book.centroids.shape == (1, 2, 3, 3)
    assert torch.equal(book.centroids, torch.full((1, 2, 3, 3), 0.5))
    assert (book.counts.tolist(), book.medoids.tolist(), book.distortion) == ([1], [0], 0)


@KINDS
def test_more_centroids_than_images(kind: str) -> None:
    with pytest.raises(ValueError, match="6 centroids asked of 5 points"):
        books(low_rank(5, 8), [6], kind)


@KINDS
def test_fewer_different_images_than_centroids(kind: str) -> None:
    x = low_rank(3, 9).repeat(4, 1)
    book = books(x, [6], kind)[0]
    assert int(book.counts.sum()) == 12
    assert int(book.counts.min()) >= 1
    assert w2(x, book.centroids, book.counts) == pytest.approx(0, abs=1e-5)
    torch.testing.assert_close(book.centroids, x[book.medoids])


@KINDS
def test_same_seed_same_bits(kind: str) -> None:
    x = low_rank(300, 20)
    assert same(books(x, [12], kind, seed=2**59)[0], books(x, [12], kind, seed=2**59)[0])


@KINDS
def test_classes_together_as_alone(kind: str) -> None:
    x = torch.stack([low_rank(100, 40, seed).view(100, 4, 2, 5) for seed in range(2)])
    together = quantize_classes(x, [3, 20], kind=kind, seeds=[1, 2], restarts=2)
    for b in range(2):
        alone = quantize(x[b], [3, 20], kind=kind, seed=1 + b, restarts=2)
        assert all(same(p, q) for p, q in zip(together[b], alone, strict=True))
        assert [p.centroids.shape for p in alone] == [(3, 4, 2, 5), (20, 4, 2, 5)]


@pytest.mark.parametrize(("n", "d"), [(80, 200), (200, 20)], ids=["gram", "direct"])
def test_order_of_images_only_permutes_clear_cells(n: int, d: int) -> None:
    group = torch.arange(n) * 7 % n < torch.tensor([[n // 2], [n // 4], [n // 8]])
    place = group.sum(0)
    x = 30 * torch.eye(4, d)[place] + 0.5 * low_rank(n, d)
    expected = sorted(torch.bincount(place).tolist(), reverse=True)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(0))
    for points in (x, x[order], x.flip(0)):
        assert books(points, [4], "lloyd")[0].counts.tolist() == expected


@pytest.mark.parametrize("chunk", [1, 50, 777])
def test_a_stream_gives_what_memory_gives(tmp_path: Path, chunk: int) -> None:
    x = low_rank(777, 36).view(777, 4, 3, 3)
    for streamed, held in zip(stream(x, [1, 13], tmp_path / "z", chunk), books(x, [1, 13], "clvq"), strict=True):
        assert torch.equal(streamed.centroids, held.centroids)
        assert torch.equal(streamed.counts, held.counts)
        assert torch.equal(streamed.medoids, held.medoids)
        assert streamed.distortion == pytest.approx(held.distortion, rel=1e-9)
        labels = squared(x.flatten(1), streamed.centroids.flatten(1)).argmin(1)
        assert torch.bincount(labels).tolist() == streamed.counts.tolist()


def test_a_stream_of_too_few_images(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="5 centroids asked of 4 points"):
        stream(low_rank(4, 6), [2, 5], tmp_path / "z", 2)


@pytest.mark.parametrize("kind", ["lloyd", "clvq"])
def test_latents_that_are_not_finite_are_refused(kind: str) -> None:
    x = low_rank(300, 20)
    x[17, 3] = float("nan")
    with pytest.raises(RaycondError, match="--dtype float32"):
        books(x, [5], kind)


def test_require_finite_names_the_class() -> None:
    x = low_rank(5, 4)
    require_finite("n01440764", x)
    x[1, 1] = float("inf")
    with pytest.raises(RaycondError, match=r"class n01440764: .*--dtype float32"):
        require_finite("n01440764", x)


def test_require_enough_names_the_class() -> None:
    require_enough("n01440764", 50, [10, 50])
    with pytest.raises(UserError, match=r"class n01440764: IPC 50 .* its 49 usable images.*--ipc"):
        require_enough("n01440764", 49, [50, 10])
