"""A proxy: features and scores of every training image from networks trained for a short time, which coresets use."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from raycond.core import files, stream
from raycond.core.errors import UserError, parsing
from raycond.core.text import shown
from raycond.data.labelled import LabelledImages
from raycond.evaluate.protocol import preset
from raycond.evaluate.train import images_per_test_batch, trained
from raycond.models import students


@dataclass(frozen=True)
class Proxy:
    """What short trainings show of every image of a split."""

    features: Tensor
    """(N, d) float32, the input of the last linear layer."""

    el2n: Tensor
    """(N,) float32 from 0 to √2, the norm of the error early in training; small for images that are easy to learn."""

    def __post_init__(self) -> None:
        if self.features.ndim != 2 or self.el2n.shape != self.features.shape[:1]:
            raise UserError(
                f"a proxy has features (N, d) and scores (N,), not {tuple(self.features.shape)} and "
                f"{tuple(self.el2n.shape)}"
            )


def measure(
    train: LabelledImages,
    *,
    student: str,
    steps: int = 200,
    nets: int = 3,
    seed: int,
    device: str | torch.device,
    threads: int | None = None,
) -> Proxy:
    """Train `nets` networks on all of `train` for `steps` steps each and look at every image, un-augmented.

    EL2N is Paul et al.'s (arXiv 2107.07075): ‖softmax(f(x)) − onehot(y)‖₂ early in training, averaged over networks.
    They take 10 networks after 10 to 20 epochs of 128 images; the defaults are smaller. The recipe is that of
    protocol `quick`, which brings images above 64 pixels down to 64. The features are those of the last network
    alone; on the CPU, 4·d bytes an image. The same arguments on the same machine give the same bits. Raises
    UserError for nets or steps below 1, and as `trained` does.
    """
    if nets < 1:
        raise UserError(f"a proxy needs at least one network, not {nets}")
    protocol = preset("quick").override(name="proxy", steps=steps, checks=1)
    train = train.at_most(protocol.max_size)
    total = torch.zeros(len(train), dtype=torch.float64)
    features = torch.empty(0)
    for k in range(nets):
        net, normalize = trained(
            train,
            student=student,
            protocol=protocol,
            seed=int(files.digest(["proxy", seed, k])[:15], 16),
            device=device,
            threads=threads,
        )
        with _threads(threads):
            total += _el2n(_through(net, normalize, train.images, device), train.labels.cpu())
            if k == nets - 1:
                features = _through(students.embedding(net), normalize, train.images, device)
    return Proxy(features, (total / nets).float())


def _el2n(logits: Tensor, labels: Tensor) -> Tensor:
    """(N,) float64 of logits (N, C)."""
    errors = logits.double().softmax(1)
    errors[torch.arange(len(labels)), labels] -= 1
    return torch.linalg.vector_norm(errors, dim=1)


@torch.no_grad()
def _through(
    net: nn.Module | Callable[[Tensor], Tensor],
    normalize: Callable[[Tensor], Tensor],
    images: Tensor,
    device: str | torch.device,
) -> Tensor:
    """What `net` makes of uint8 images (N, c, h, w): (N, d) float32 on the CPU."""
    size = images_per_test_batch(images.shape[-1], device)
    return torch.cat([net(normalize(part.to(device))).float().cpu() for part in images.split(size)])


def write(uri: str, proxy: Proxy) -> None:
    """The proxy as an uncompressed npz, at a local path or a remote address, all or nothing."""
    with stream.writer(uri) as file:
        np.savez(file, features=proxy.features.numpy(), el2n=proxy.el2n.numpy())


@lru_cache(maxsize=1)
def read(uri: str) -> Proxy:
    """The proxy that `write` wrote, read once per process. Raises UserError, naming the file, where it is not one."""
    with stream.reader(uri) as file, parsing(shown(uri), "a proxy", "delete it, and it will be made again"):
        with np.load(file, allow_pickle=False) as arrays:
            features, el2n = arrays["features"], arrays["el2n"]
        if (features.dtype, el2n.dtype) != (np.float32, np.float32):
            raise ValueError(f"features are {features.dtype} and scores {el2n.dtype}, not float32")
        return Proxy(torch.from_numpy(features), torch.from_numpy(el2n))


@contextlib.contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(count or before)
        yield
    finally:
        torch.set_num_threads(before)
