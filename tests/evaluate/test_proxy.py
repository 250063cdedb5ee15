"""Scores and features of real digits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from raycond.core.errors import UserError
from raycond.data.labelled import LabelledImages
from raycond.evaluate.coresets import choose
from raycond.evaluate.proxy import Proxy, _el2n, measure, read, write
from tests.support.digits import TRAIN

STUDENT = "convnet3-w16"


def proxy(train: LabelledImages, **more: int) -> Proxy:
    return measure(train, student=STUDENT, device="cpu", threads=1, **({"steps": 60, "nets": 2, "seed": 0} | more))


@pytest.fixture(scope="module")
def clean() -> Proxy:
    return proxy(TRAIN)


def test_el2n_is_the_length_of_the_error() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.25], [1e-30, 1.0, 1e-30]]))
    expected = [(0.5**2 + 0.25**2 + 0.25**2) ** 0.5, 2**0.5]
    assert _el2n(logits, torch.tensor([0, 2])).tolist() == pytest.approx(expected)


def test_wrong_labels_score_high(clean: Proxy) -> None:
    generator = torch.Generator().manual_seed(0)
    wrong = torch.rand(len(TRAIN), generator=generator) < 0.1
    noise = torch.randint(1, 10, (len(TRAIN),), generator=generator)
    noised = torch.where(wrong, (TRAIN.labels + noise) % 10, TRAIN.labels)
    found = proxy(LabelledImages(TRAIN.images, noised, 10))
    assert found.el2n[wrong].mean() > 2 * found.el2n[~wrong].mean()
    assert clean.el2n.mean() < found.el2n.mean()
    assert not wrong[choose("el2n", found, noised, 20, 0)].any()


def test_one_row_an_image_and_float32(clean: Proxy) -> None:
    assert len(clean.features) == len(clean.el2n) == len(TRAIN)
    assert clean.features.dtype == clean.el2n.dtype == torch.float32
    assert 0 <= float(clean.el2n.min()) < float(clean.el2n.max()) <= 2**0.5 + 1e-6


def test_features_know_the_classes(clean: Proxy) -> None:
    means = torch.stack([clean.features[TRAIN.labels == label].mean(0) for label in range(10)])
    assert (torch.cdist(clean.features, means).argmin(1) == TRAIN.labels).float().mean() > 0.9


def test_same_seed_same_bits() -> None:
    few = LabelledImages(TRAIN.images[:100], TRAIN.labels[:100], 10)
    first, second, other = (proxy(few, steps=5, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.features, second.features)
    assert torch.equal(first.el2n, second.el2n)
    assert not torch.equal(first.el2n, other.el2n)


def test_scores_are_averaged_over_nets_and_features_are_of_one() -> None:
    few = LabelledImages(TRAIN.images[:100], TRAIN.labels[:100], 10)
    one, two = (proxy(few, steps=5, nets=nets) for nets in (1, 2))
    assert one.features.shape == two.features.shape
    assert not torch.equal(one.el2n, two.el2n)
    with pytest.raises(UserError, match="at least one network"):
        proxy(few, nets=0)


def test_it_comes_back(tmp_path: Path, clean: Proxy) -> None:
    uri = str(tmp_path / "a" / "proxy.npz")
    write(uri, clean)
    found = read(uri)
    assert torch.equal(found.features, clean.features)
    assert torch.equal(found.el2n, clean.el2n)


def broken(path: Path, what: str, proxy: Proxy) -> None:
    if what == "pickle":
        np.savez(path, features=np.array([{}], dtype=object), el2n=np.zeros(1))
    elif what == "other":
        np.savez(path, other=np.zeros(1))
    elif what == "text":
        np.savez(path, features=np.array([["a"]]), el2n=np.zeros(1))
    elif what == "npy":
        with path.open("wb") as file:
            np.save(file, np.zeros(1))
    else:
        write(str(path), proxy)
        path.write_bytes(b"" if what == "empty" else path.read_bytes()[:-100])


@pytest.mark.parametrize("what", ["pickle", "other", "text", "npy", "empty", "cut"])
def test_what_is_not_a_proxy_is_said(tmp_path: Path, clean: Proxy, what: str) -> None:
    path = tmp_path / "proxy.npz"
    broken(path, what, clean)
    with pytest.raises(UserError, match=r"proxy.npz: cannot be read as a proxy"):
        read(str(path))


def test_a_proxy_must_fit_together() -> None:
    with pytest.raises(UserError, match=r"\(3, 2\) and \(4,\)"):
        Proxy(torch.zeros(3, 2), torch.zeros(4))


def test_a_proxy_of_objects_or_of_other_numbers(tmp_path: Path) -> None:
    path = tmp_path / "proxy.npz"
    for features in (np.array([[None]]), np.zeros((1, 1)), np.zeros(1, np.float32)):
        np.savez(path, features=features, el2n=np.zeros(1, np.float32), allow_pickle=True)
        read.cache_clear()
        with pytest.raises(UserError):
            read(str(path))
