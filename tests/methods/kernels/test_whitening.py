from __future__ import annotations

import pytest
import torch
from safetensors import torch as safetensors
from torch import Tensor

from raycond.core.errors import UserError
from raycond.methods.kernels.whitening import Preprocessing, fit_preprocessing


@pytest.fixture
def images() -> Tensor:
    """(60, 3, 4, 4) uint8 with neighbors alike."""
    random = torch.Generator().manual_seed(0)
    small = torch.rand(60, 3, 2, 2, generator=random)
    rough = torch.rand(60, 3, 4, 4, generator=random)
    return (200 * small.repeat_interleave(2, 2).repeat_interleave(2, 3) + 50 * rough).to(torch.uint8)


def test_standard(images: Tensor) -> None:
    preprocessing = fit_preprocessing(images)
    x = preprocessing.apply(images)
    assert x.dtype == torch.float32
    torch.testing.assert_close(x.mean((0, 2, 3)), torch.zeros(3), atol=1e-6, rtol=0)
    torch.testing.assert_close(x.std((0, 2, 3), correction=0), torch.ones(3))
    torch.testing.assert_close(preprocessing.invert(x), images.double(), atol=1e-3, rtol=0)


@pytest.mark.parametrize("reg", [1e-9, 0.1])
def test_zca_whitens_what_the_regularization_leaves(images: Tensor, reg: float) -> None:
    x = fit_preprocessing(images, "zca", zca_reg=reg, layer_norm=False).apply(images, torch.float64).flatten(1)
    standard = fit_preprocessing(images).apply(images, torch.float64).flatten(1)
    covariance, before = x.t() @ x / 60, standard.t() @ standard / 60
    values, vectors = torch.linalg.eigh(before)
    expected = values / (values + reg * before.trace() / 48)
    torch.testing.assert_close((vectors.t() @ covariance @ vectors).diagonal(), expected, atol=1e-6, rtol=1e-6)
    off = vectors.t() @ covariance @ vectors - torch.diag(expected)
    assert off.abs().max() < 1e-6


def test_zca_turns_back_to_pixels(images: Tensor) -> None:
    exact = fit_preprocessing(images, "zca", layer_norm=False)
    torch.testing.assert_close(exact.invert(exact.apply(images, torch.float64)), images.double(), atol=1e-6, rtol=0)
    # with layer norm each image comes back but for its brightness and contrast
    normed = fit_preprocessing(images, "zca")
    back = normed.invert(normed.apply(images, torch.float64))
    for one, other in zip(((images - normed.mean) / normed.std), ((back - normed.mean) / normed.std), strict=True):
        assert float(torch.corrcoef(torch.stack((one.flatten(), other.flatten())))[0, 1]) == pytest.approx(1)
    assert 0.8 < float(back.std() / images.double().std()) < 1.2


def test_layer_norm(images: Tensor) -> None:
    x = fit_preprocessing(images, "standard", layer_norm=True).apply(images, torch.float64)
    torch.testing.assert_close(x.flatten(1).norm(dim=1), torch.ones(60).double())
    torch.testing.assert_close(x.flatten(1).mean(1), torch.zeros(60).double(), atol=1e-12, rtol=0)


def test_other_images_go_by_the_training_statistics(images: Tensor) -> None:
    preprocessing = fit_preprocessing(images[:40], "zca")
    together = preprocessing.apply(images)
    torch.testing.assert_close(preprocessing.apply(images[40:]), together[40:])
    assert preprocessing.apply(images[:0]).shape == (0, 3, 4, 4)


@pytest.mark.parametrize("kind", ["standard", "zca"])
def test_is_kept_in_a_file(images: Tensor, kind: str) -> None:
    preprocessing = fit_preprocessing(images, kind)
    again = Preprocessing.load(safetensors.load(safetensors.save(preprocessing.tensors())))
    assert torch.equal(again.apply(images), preprocessing.apply(images))
    assert torch.equal(again.invert(again.apply(images)), preprocessing.invert(preprocessing.apply(images)))


def test_images_without_statistics(images: Tensor) -> None:
    images[:, 1] = 7
    with pytest.raises(UserError, match="a channel of the training images does not vary"):
        fit_preprocessing(images)
    broken = images.double()
    broken[0, 0, 0, 0] = torch.nan
    with pytest.raises(UserError, match="not finite"):
        fit_preprocessing(broken)
    with pytest.raises(UserError, match=r"not \(0, 3, 4, 4\)"):
        fit_preprocessing(images[:0])
    images[:, 1] = torch.arange(4)
    with pytest.raises(UserError, match="zca_reg must be above 0, not 0"):
        fit_preprocessing(images, "zca", zca_reg=0.0)
