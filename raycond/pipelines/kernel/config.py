"""The configuration of a condensation with infinite-width kernels: from a preset, a YAML file and the command line."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from pydantic.dataclasses import dataclass

from raycond.core.errors import OptionError, named
from raycond.core.options import STRICT, Configuration, option, options_of
from raycond.methods.kernels.architecture import Architecture, Shape
from raycond.methods.kernels.registry import kernel
from raycond.pipelines.loading import layers, merge, presets, require_lists, settle, validated
from raycond.pipelines.options import (
    DecodingOptions,
    ImageOptions,
    MachineOptions,
    MessageOptions,
    RunOptions,
    SourceOptions,
    ValidationSource,
)
from raycond.runtime.resources import Resources

SMALL_BLOCK, LARGE_BLOCK = 64, 512
CHEAP = 2**13  # activations of one image pair up to which large blocks are computed in seconds


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SquareImages(ImageOptions):
    """The form in which images are decoded."""

    GROUP = "image"

    size: int = option(32, ge=1)
    """Pixels on each side of the square that images are brought to when they are read. The time of a pooled kernel
    grows with the fourth power of it."""

    channels: Literal[1, 3] = option(3)
    """Channels of the images: 3 for color, 1 for gray."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PreprocessingOptions(Configuration):
    """From pixels to what the kernels see. It is fitted on all training images and kept with the set."""

    GROUP = "preprocessing"

    preprocess: Literal["standard", "zca"] = option("standard")
    """What is done to pixels. standard: each channel minus its mean, divided by its standard deviation, published for
    gray images; zca: then regularized ZCA whitening, published for color images."""

    zca_reg: float = option(0.1, gt=0)
    """With --preprocess zca: what is added to the diagonal of the covariance, as a share of its mean diagonal, and
    0.1 as published."""

    layer_norm: bool | None = option(None, unset="with --preprocess zca only")
    """Subtract from each image its own mean and divide it by its norm, before the whitening."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class KernelOptions(Configuration):
    """The infinitely wide network whose tangent kernel is used. Published values are the defaults."""

    GROUP = "kernel"

    kernel: str = option("convnet", metavar="NAME")
    """The network: fcN (N hidden layers), conv-vecN (N convolutions without pooling), convnet, convnet3, myrtle5,
    myrtle7 or myrtle10. fcN costs little on any machine; pooled ones (convnet, myrtle) cost ten thousand times as much
    and want GPUs."""

    activation: Literal["relu", "erf"] = option("relu")
    """The activation of every layer."""

    head: Literal["flatten", "gap"] | None = option(None, unset="gap for myrtle, else flatten")
    """What comes before the read-out: flatten, or global average pooling, which costs more."""

    w_std: float = option(math.sqrt(2), gt=0)
    """Standard deviation of the weights of every layer, in NTK parameterization."""

    b_std: float = option(0.1, ge=0)
    """Standard deviation of the biases of every layer."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SupportOptions(Configuration):
    """What is learned: the support, whose images or labels predict all others by kernel ridge regression."""

    GROUP = "support"

    method: Literal["kip", "ls"] = option("kip")
    """How a support is made: kip (Kernel Inducing Points) learns images, and labels with --learn-labels, by gradients;
    ls (Label Solve) takes real images and solves for the labels that fit the targets best, in one pass."""

    ipc: tuple[int, ...] = option((1, 10, 50))
    """Images per class; a set holds one version for each number, each learned by itself."""

    targets: int | None = option(None, ge=1, unset="all training images")
    """Number of training images that the support is fitted to, drawn by --seed, of all classes alike. ls uses every one
    of them once; kip draws its batches from them."""

    reg: float = option(1e-6, ge=0)
    """Regularization of the regression, as a share of the mean diagonal of the support's kernel. Published: 1e-6."""

    raise_reg: bool = option(False)
    """Raise the regularization tenfold, up to 0.1, where the kernel is singular with it, instead of stopping."""

    dtype: Literal["auto", "float32", "float64"] = option("auto")
    """Number format of kernels between support and targets; `auto` is float64 for ls, whose equations square the
    condition number, and float32 for kip. The support's kernel with itself and all that is solved are float64."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class InducingOptions(Configuration):
    """With --method kip: how images and labels are learned. Published values are the defaults."""

    GROUP = "kip"

    steps: int = option(1000, ge=1)
    """Steps of Adam, each on a fresh batch of targets. Published runs of fc1 converge in about 1,000, those of convnet
    go up to 50,000."""

    lr: float = option(4e-2, gt=0)
    """Learning rate of Adam, for images and labels."""

    batch: int = option(5000, ge=1)
    """Targets of one step, of all classes alike. Fewer cost less and make gradients noisier."""

    learn_labels: bool = option(False)
    """Learn the labels too. Regression gains by it, networks that are trained on the set may lose."""

    checks: int = option(10, ge=0)
    """How often on the way, at steps that grow by a factor, the support is kept and tested, for the curve in the
    report; it is always tested before the first and after the last step."""

    augment_share: float = option(0.0, ge=0, le=1)
    """Share of each batch of targets that is augmented, as the options below say. Published runs used augmentation with
    ranges that are not known."""

    augment_rotate: float = option(0.0, ge=0, le=180)
    """Largest rotation, in degrees."""

    augment_shift: float = option(0.0, ge=0, le=1)
    """Largest shift, as a share of a side."""

    augment_flip: bool = option(False)
    """Mirror an image with probability one half. Leave it off where left and right differ, as in digits."""

    augment_channel: float = option(0.0, ge=0)
    """Largest addition to each channel, in its standard deviations."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class StudentOptions(Configuration):
    """The tests at the end of the run: kernel ridge regression, and students that are trained on the set."""

    GROUP = "evaluation"

    evaluate: bool = option(True)
    """Train students on the set and on its baselines when it is written. Without it only regression is tested, where
    there are validation images."""

    protocol: str = option("kip-transfer", metavar="NAME")
    """Recipe under which students are trained and tested. kip-transfer is the published one: mean squared error on the
    set's own labels and float images, whitened test images, and a learning rate from the network's tangent kernel."""

    students: tuple[str, ...] = option(("kipnet3-w64",), metavar="NAME")
    """Networks that are trained from scratch; published: kipnet3-w1024, for GPUs."""

    seeds: tuple[int, ...] = option((0, 1, 2))
    """Seeds of the trainings; every student is trained once with each."""

    methods: tuple[Literal["random", "kip", "ls", "full"], ...] = option(("random", "kip", "ls", "full"))
    """Rows of the comparison: random real images, the set (kip or ls, as --method says), and all training images."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class BlockOptions(MachineOptions, DecodingOptions):
    """How the work is spread. Together these change no more than the last bits of a result."""

    GROUP = "machine"

    block: int | None = option(None, ge=1, unset="512, or 64 for pooled kernels")
    """Images on each side of a block of the kernel matrix, the unit of work of a worker. Smaller ones need less memory
    and lose less with a worker; larger ones send less. `--dry-run` says what a block takes."""

    workers: int = option(0, ge=0, unset="as many as fit")
    """Blocks that are computed at once."""

    gpus_per_worker: float = option(-1, unset="1 where there are GPUs")
    """GPUs of each worker, 0 or 1. Give 0 to work on CPUs beside GPUs that others use."""

    cpus_per_worker: int = option(1, ge=1)
    """CPUs of each worker, and its torch threads. float32 sums depend on it: keep it to get the same bytes again."""

    checkpoint_every: int = option(10, ge=1, metavar="STEPS")
    """Steps of kip between checkpoints, from which a run that was stopped goes on; lower it where a step is slow. ls
    keeps its sums after every eight rows of blocks."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class KernelConfig(
    RunOptions,
    SourceOptions,
    ValidationSource,
    SquareImages,
    PreprocessingOptions,
    KernelOptions,
    SupportOptions,
    InducingOptions,
    StudentOptions,
    BlockOptions,
    MessageOptions,
):
    """Everything that `raycond kernel` can be given."""

    def __post_init__(self) -> None:
        if not self.data:
            raise ValueError("--data: give a URI, or a --preset that has one")
        require_lists(self, "ipc", "seeds", "students", "methods")
        if self.gpus_per_worker not in (-1, 0, 1):
            raise ValueError(f"--gpus-per-worker {self.gpus_per_worker:g}: expected 0 or 1")

    @property
    def resources(self) -> Resources:
        """What one worker asks for."""
        return Resources(self.cpus_per_worker, self.gpus_per_worker, "worker")

    @property
    def shape(self) -> Shape:
        """Channels, height and width of the images."""
        return self.channels, self.size, self.size

    @property
    def network(self) -> Architecture:
        """The infinitely wide network. Raises UserError for one that does not exist or does not take the images."""
        found = kernel(self.kernel, activation=self.activation, head=self.head, w_std=self.w_std, b_std=self.b_std)
        found.check(self.shape)
        return found

    @property
    def precision(self) -> Literal["float32", "float64"]:
        """Of kernels between support and targets."""
        if self.dtype != "auto":
            return self.dtype
        return "float64" if self.method == "ls" else "float32"

    @property
    def block_size(self) -> int:
        """Images on each side of a block. It does not depend on the machine: another size gives other last bits."""
        if self.block is not None:
            return self.block
        return LARGE_BLOCK if self.network.activations(self.shape) <= CHEAP else SMALL_BLOCK


def load_kernel_config(
    options: Mapping[str, Any], *, preset: str | None = None, config: str | None = None
) -> KernelConfig:
    """The configuration of a preset, a YAML file and options, the strongest last.

    options: name of an option → its value. Raises OptionError that names a wrong one, and UserError for a kernel that
    does not exist or is not defined for such images.
    """
    merged = merge(KernelConfig, layers(options, presets("kernel"), preset, config))
    settle(KernelConfig, merged, "-kernel")
    found = validated(KernelConfig, merged)
    unused = [one.flag for one in options_of(InducingOptions) if one.name in options]
    if found.method == "ls" and unused:  # presets hold what either method needs; what is typed is meant
        raise OptionError(f"{unused[0]}: does nothing with --method ls")
    with named("--kernel"):
        found.network  # noqa: B018 - raises
    return found
