"""The network of a matching step: drawn by the seed, trained between steps, and how its passes are computed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raycond.core.errors import UserError
from raycond.core.seeds import seed_of, seeded
from raycond.methods.match.config import MatchConfig
from raycond.methods.match.layers import quick
from raycond.models import students
from raycond.training.augment import cutmix
from raycond.training.augment.draws import on_host
from raycond.training.resumable import entries_of

FEATURES_TOGETHER = 512  # images whose features a GPU computes at once
CHUNK_BYTES = 4 << 20  # of the largest map of a chunk on a CPU: what is larger leaves the cache and is paged in anew


@dataclass(frozen=True)
class Passes:
    """How images go through a network.

    chunk: real images at once, 0 for all of a batch. first: bfloat16 where at most one derivative is taken; second:
    also where two are.
    """

    device: torch.device
    chunk: int = 0
    first: bool = False
    second: bool = False

    def once(self) -> contextlib.AbstractContextManager[Any]:
        """The precision of a pass that is differentiated at most once."""
        return self._precision(self.first)

    def twice(self) -> contextlib.AbstractContextManager[Any]:
        """The precision of a pass whose gradient is differentiated again."""
        return self._precision(self.second)

    def chunks(self, images: Tensor, net: nn.Module) -> tuple[Tensor, ...]:
        """The images in parts that fit the cache; in one if statistics of the batch count."""
        size = 0 if batch_statistics(net) else self.chunk
        return images.split(size) if size else (images,)

    def _precision(self, half: bool) -> contextlib.AbstractContextManager[Any]:
        return torch.autocast(self.device.type, torch.bfloat16) if half else contextlib.nullcontext()


def passes(config: MatchConfig, device: torch.device, largest_map: int) -> Passes:
    """largest_map: numbers of the largest map of one image in the network."""
    precision = config.precision
    if precision == "auto":
        precision = "mixed" if multiplies_bfloat16(device) else "float32"
    first = precision != "float32"
    chunk = config.chunk
    if not chunk and device.type == "cpu":
        chunk = max(1, CHUNK_BYTES // (largest_map * (2 if first else 4)))
    return Passes(device, chunk, first, precision == "bfloat16")


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the hardware multiplies bfloat16 numbers faster than float32 ones."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    known = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, bool)() for name in known)


def batch_norms(net: nn.Module) -> list[nn.Module]:
    return [module for module in net.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]


def batch_statistics(net: nn.Module) -> bool:
    """Whether the network, in its present mode, normalizes an image by the others of its batch."""
    return any(module.training for module in batch_norms(net))


class MatchedNetwork:
    """One network after the other, in the same tensors, with the optimizer that trains it between matching steps.

    shape: channels, height and width of an image. Raises UserError for a name that `networks.build` does not know.
    """

    def __init__(
        self, config: MatchConfig, *, shape: tuple[int, int, int], classes: int, seed: int, device: torch.device
    ) -> None:
        channels, height, width = shape
        if height != width:
            raise UserError(f"matching needs square images, not {height}x{width}")
        self.config, self.seed, self.device = config, seed, device
        self._options = {"classes": classes, "size": height, "channels": channels}
        net = self._drawn(0)
        if config.compile == "none":
            net = quick(net)
        self.largest = largest_map(net, shape)
        self.passes = passes(config, device, self.largest)
        self.net = net.to(device, memory_format=_layout(net, device)).train()  # type: ignore[call-overload]
        self.parameters = list(self.net.parameters())
        c = config.training
        self.optimizer = torch.optim.SGD(self.parameters, c.lr, momentum=c.momentum, weight_decay=c.weight_decay)
        self.forward: Any = self.net
        if config.compile != "none":
            self.forward = torch.compile(self.net, mode=config.compile)

    @property
    def has_batch_norm(self) -> bool:
        return bool(batch_norms(self.net))

    def _drawn(self, iteration: int) -> nn.Module:
        with seeded(seed_of(self.seed, "network", iteration)):
            return students.build(self.config.network, **self._options)

    def draw(self, iteration: int) -> None:
        """The new network of an iteration: initial weights by the seed, no momentum."""
        self.net.load_state_dict(self._drawn(iteration).state_dict())
        self.net.train()
        self.optimizer.state.clear()

    def freeze_statistics(self, images: Tensor) -> None:
        """Statistics of BatchNorm from one pass of these images, then fixed until the next network (VICO's DC)."""
        self.net.train()
        with torch.no_grad():
            self.net(images)
        for module in batch_norms(self.net):
            module.eval()

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """What the network's classifier sees of every image: (n, d) float32."""
        embed = students.embedding(self.net)
        with evaluating(self.net), self.passes.once():
            return torch.cat([full(embed(part)) for part in self.passes.chunks(images, self.net)])

    def learn(self, images: Tensor, labels: Tensor, random: torch.Generator) -> None:
        """One step of SGD on the cross-entropy of a batch, which CutMix may mix first."""
        self.net.train()
        c = self.config.training
        others, share = labels, 1.0
        if c.cutmix and float(torch.rand((), generator=on_host(random))) < c.cutmix:
            mixed = cutmix(images, 1.0, random)
            images, others, share = mixed.images, labels[mixed.partner], mixed.own
        size = len(self.passes.chunks(images, self.net)[0])
        totals: tuple[Tensor, ...] = ()
        for part, label, other in zip(images.split(size), labels.split(size), others.split(size), strict=True):
            with self.passes.once():
                logits = self.forward(part)
            loss = share * F.cross_entropy(full(logits), label, reduction="sum")
            if share < 1:
                loss = loss + (1 - share) * F.cross_entropy(full(logits), other, reduction="sum")
            totals = add(totals, torch.autograd.grad(loss / len(images), self.parameters))
        for parameter, gradient in zip(self.parameters, totals, strict=True):
            parameter.grad = gradient
        self.optimizer.step()
        self.optimizer.zero_grad()

    # ---- what a saved state keeps of it

    def state(self) -> dict[str, Tensor]:
        state = {f"net.{name}": value for name, value in self.net.state_dict().items()}
        for k, parameter in enumerate(self.parameters):
            momentum = self.optimizer.state[parameter].get("momentum_buffer")
            if momentum is not None:
                state[f"momentum.{k}"] = momentum
        return state

    def load(self, state: dict[str, Tensor]) -> None:
        self.net.load_state_dict(entries_of(state, "net"))
        self.optimizer.state.clear()
        for k, momentum in entries_of(state, "momentum").items():
            parameter = self.parameters[int(k)]
            self.optimizer.state[parameter]["momentum_buffer"] = torch.empty_like(parameter).copy_(momentum).detach()


@contextlib.contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """The network in evaluation mode; then every layer in the mode that it had, as some BatchNorms may be frozen."""
    modes = {module: module.training for module in net.modules()}
    net.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def logits_and_features(net: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Both outputs of one pass: (n, classes), and what the last linear layer saw (n, d).

    Raises UserError for a network without a linear layer.
    """
    linear = [module for module in net.modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise UserError(f"{type(net).__name__} has no linear layer, so it has no features to match: use convnet3")
    seen: list[Tensor] = []
    hook = linear[-1].register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    try:
        logits = net(images)
    finally:
        hook.remove()
    return logits, seen[-1]


def full(values: Tensor) -> Tensor:
    """In float32 where they have half precision, else as they are."""
    return values.float() if values.dtype.itemsize < 4 else values


def add(totals: tuple[Tensor, ...], gradients: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Sums of gradients, in place where there are some already."""
    if totals:
        torch._foreach_add_(totals, gradients)
        return totals
    return gradients


def largest_map(net: nn.Module, shape: tuple[int, int, int]) -> int:
    """Numbers of the largest tensor that a layer of the network gives for one image of `shape`."""
    sizes = [1]

    def note(_module: nn.Module, _arguments: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            sizes.append(output.numel())

    hooks = [module.register_forward_hook(note) for module in net.modules()]
    with torch.no_grad(), evaluating(net):
        net(torch.zeros(1, *shape))
    for hook in hooks:
        hook.remove()
    return max(sizes)


def _layout(net: nn.Module, device: torch.device) -> torch.memory_format:
    """Channels last, except on a CPU for GroupNorm, whose backward pass is up to three times slower in it."""
    grouped = device.type == "cpu" and any(isinstance(module, nn.GroupNorm) for module in net.modules())
    return torch.contiguous_format if grouped else torch.channels_last
