from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from raycond.methods.quantize.quantization import quantize
from raycond.methods.quantize.wasserstein import mean_rows, w2, w2_study, w2_uniform
from tests.methods.quantize.make import low_rank, squared


def test_w2_is_the_cheapest_matching() -> None:
    x, c = low_rank(5, 7), low_rank(5, 7, seed=1)
    cost = squared(x, c).numpy()
    cheapest = min(sum(cost[i, p] for i, p in enumerate(order)) for order in itertools.permutations(range(5)))
    assert w2_uniform(x, c) ** 2 == pytest.approx(cheapest / 5, rel=1e-9)


def test_mass_of_any_scale() -> None:
    x, c = low_rank(40, 5), low_rank(3, 5, seed=1)
    assert w2(x, c, torch.tensor([1, 2, 5])) == pytest.approx(w2(x, c, torch.tensor([0.25, 0.5, 1.25])), rel=1e-9)
    assert w2(x, c, torch.ones(3)) == w2_uniform(x, c)


def test_study_rows() -> None:
    x = low_rank(300, 50)
    book = quantize(x, [12], kind="lloyd", seed=0, restarts=3)[0]
    rows = {(r["centroids"], r["weights"]): r for r in w2_study(x, book.centroids)}
    assert list(rows) == [("d4m", "uniform"), ("d4m", "voronoi"), ("ours", "uniform"), ("ours", "voronoi")]
    assert rows["ours", "voronoi"]["w2"] == pytest.approx(book.distortion**0.5, rel=1e-6)
    assert rows["ours", "uniform"]["w2"] == pytest.approx(w2_uniform(x, book.centroids))
    assert rows["ours", "voronoi"]["ess"] == pytest.approx(float(300**2 / book.counts.square().sum()) / 12)
    for name in ("d4m", "ours"):
        assert rows[name, "voronoi"]["w2"] <= rows[name, "uniform"]["w2"]
        assert rows[name, "uniform"]["ess"] == 1
        assert 0 < rows[name, "voronoi"]["ess"] < 1
    assert rows["ours", "voronoi"]["w2"] < rows["d4m", "voronoi"]["w2"]


def test_study_measures_centroids_as_they_are() -> None:
    """A centroid that serves nobody stays where it is, and its mass is zero."""
    x = low_rank(60, 8)
    c = torch.cat([x[:4], torch.full((1, 8), 1e3)])
    voronoi = w2_study(x, c)[3]
    distance = squared(x, c)
    assert voronoi["w2"] == pytest.approx(float(distance.min(1).values.mean()) ** 0.5, rel=1e-6)
    mass = torch.bincount(distance.argmin(1)).double()
    assert voronoi["ess"] == pytest.approx(float(mass.sum() ** 2 / mass.square().sum()) / 5)


def test_mean_rows() -> None:
    def rows(a: float, b: float) -> list[dict]:
        names = ("d4m", "ours")
        return [
            {"centroids": n, "weights": "uniform", "w2": w, "ess": w / 10} for n, w in zip(names, (a, b), strict=True)
        ]

    found = mean_rows([rows(4.0, 2.0), rows(6.0, 5.0)])
    assert [(r["centroids"], r["w2"], r["ess"]) for r in found] == [("d4m", 5.0, 0.5), ("ours", 3.5, 0.35)]


def test_as_many_centroids_as_points() -> None:
    x = low_rank(6, 5)
    rows = mean_rows([w2_study(x, x), w2_study(x, x)])
    assert [(row["centroids"], row["w2"], row["ess"]) for row in rows[2:]] == [("ours", 0.0, 1.0)] * 2


@pytest.mark.slow
def test_d4m_on_real_latents(real_data: Path, real_weights: Path) -> None:
    """One class of Imagenette: weights take 10 to 30 % off D4M's W2, and converged cells are closer still."""
    from raycond.data.images import load_many
    from raycond.data.refs import ImageRef
    from raycond.models.codecs.registry import open_codec

    files = sorted((real_data / "imagenette" / "train" / "n01440764").iterdir())[:300]
    refs = [ImageRef(f.name, 0, str(f)) for f in files]
    images = [image for _, image, _ in load_many(refs, size=64, threads=2) if isinstance(image, np.ndarray)]
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    codec = open_codec(f"taef2:{real_weights}", dtype="float32")
    latents = torch.cat([codec.encode(part) for part in pixels.split(32)]).flatten(1)
    for count in (10, 50):
        book = quantize(latents, [count], kind="lloyd", seed=0, restarts=5)[0]
        d4m_uniform, d4m_voronoi, ours_uniform, ours_voronoi = (r["w2"] for r in w2_study(latents, book.centroids))
        assert 0.10 < 1 - d4m_voronoi / d4m_uniform < 0.30
        assert ours_voronoi < d4m_voronoi
        assert ours_voronoi <= ours_uniform
        assert ours_uniform < d4m_uniform
