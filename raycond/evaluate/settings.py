"""The settings of an evaluation protocol: everything that changes a test accuracy."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from raycond.core.errors import UserError
from raycond.core.registry import did_you_mean
from raycond.core.text import shown
from raycond.training.augment import dsa_operations
from raycond.training.augment.diffaug import diffaug_operations

RENAMED = {"smoothing": "cosine_smoothing", "normalise": "normalize"}
"""Former names of settings, which protocol files and `--set` may still use, and the names they have now."""

SINCE = ("diffaug", "divisor", "labeler", "lr_from", "train_size", "view_size", "test_resize")
"""Settings that came after completion records were first written."""

Divisor = Literal["n - 1", "n"]

MOST_STEPS = 10**9  # more is a slip of the pen
MOST_CHECKS = 10_000


@dataclass(frozen=True)
class EvaluationProtocol:
    """The recipe by which a student is trained and tested; cells of different protocols do not compare.

    Raises UserError for a value out of range.
    """

    name: str
    """The protocol's name, as tables and reports show it."""

    source: str
    """The paper or code that the recipe comes from."""

    batch: int
    """Images in one optimization step; the whole set where it has fewer."""

    lr: float
    """Learning rate at the start, or what the largest stable one is multiplied with (`lr_from`)."""

    steps: int | None = None
    """Optimization steps, the same for every set size. Exactly one of `steps` and `epochs` is set."""

    epochs: int | None = None
    """Passes over the training set."""

    reported: str = "last"
    """Which accuracy the source prints, in words; raycond's own headline is always the last."""

    divisor: Divisor = "n - 1"
    """What the sum of squares of a standard deviation over seeds is divided by; `n` where the source takes np.std."""

    assumed: dict[str, str] = field(default_factory=dict)
    """Settings that the source leaves open, each with what it leaves open and what was put in."""

    lr_from: Literal["given", "ntk"] = "given"
    """Where the learning rate comes from. ntk: `lr` times the largest one that is stable for the mean squared error, by
    the network's empirical tangent kernel on 50 real images at the start: test images, without their labels."""

    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    """The optimizer."""

    weight_decay: float = 0.0
    """Weight decay: decoupled for adamw, an L2 penalty for adam and sgd."""

    decay_norms: bool = True
    """Whether every parameter decays. If not, only those of two or more dimensions with `weight` in their name do, as
    in the code of SRe2L and RDED: no biases and norm layers, and no class tokens or position embeddings."""

    momentum: float = 0.0
    """Momentum of sgd."""

    schedule: Literal["cosine", "steps", "constant"] = "cosine"
    """How the learning rate moves. cosine: ½(1 + cos(π·t / (cosine_smoothing·T))) at step t of T."""

    cosine_smoothing: float = 1.0
    """Stretches the cosine: 1 ends at 0, 2 ends at half the learning rate."""

    milestones: tuple[float, ...] = ()
    """Of schedule steps: epochs, or shares of all epochs (below 1), rounded down, after which the rate drops."""

    gamma: float = 0.1
    """What the learning rate is multiplied with at each milestone."""

    restart: bool = False
    """Whether the optimizer forgets its momentum at each milestone."""

    schedule_by: Literal["step", "epoch"] = "step"
    """Whether the cosine moves at every step or only between epochs."""

    loss: Literal["cross-entropy", "kl", "mse+ce", "mse"] = "cross-entropy"
    """With soft targets p, the labeler's logits t and the student's s. cross-entropy: −Σ p log softmax(s).
    kl: KL(softmax(t/T) ‖ softmax(s/T)) without the factor T². mse+ce: mean (s − t + mean t)² + ce_weight · hard
    cross-entropy. mse: ½ mean (s − y)² without a labeler; y are the labels that a set has learned for its images, or
    one-hot labels minus 1/classes."""

    temperature: float = 1.0
    """T of the soft targets."""

    ce_weight: float = 0.1
    """Share of the hard cross-entropy in loss mse+ce."""

    labels: str = "hard"
    """What the source trains with, in words."""

    labeler: str | None = None
    """What the source trains with on ImageNet-1K, as --labeler takes it, which it is where none is given; None for hard
    labels."""

    weights: Literal["class-mean-one", "given", "none"] = "class-mean-one"
    """How an image's weight w enters the mean of w·loss: scaled to mean 1 in each class, as stored, or as 1."""

    mix_weights: Literal["own", "mix"] = "own"
    """The weight of a mixed image: that of the first, w_i, or λ·w_i + (1 − λ)·w_j."""

    train_size: int | None = None
    """Side in pixels to which training images are brought first (bilinear, antialiased); None leaves them as they are
    stored. Augmentation happens in the order of these settings."""

    shuffle: int = 1
    """Patches on each side that are shuffled (RDED); 1 leaves images as they are."""

    view_size: int | None = None
    """Side in pixels of what students see, in training and in tests, whatever the images are stored at; None for the
    side of the stored images."""

    scale: tuple[float, float] | None = None
    """Smallest and largest area of the random resized crop, as shares of the image; None for no crop."""

    shift: float = 0.0
    """Largest shift, as a share of the side."""

    flip: bool = False
    """Whether half of the images are mirrored."""

    jitter: tuple[float, float, float] | None = None
    """Brightness, contrast and saturation: each factor is drawn from 1 ± the value, the order of the three at random,
    and nothing is clamped (IDC); None for no change."""

    lighting: float = 0.0
    """Standard deviation of AlexNet's color noise along the principal components; color images only."""

    mix: Literal["none", "cutmix", "mixup"] = "none"
    """How the images of a batch are mixed with each other."""

    mix_beta: float = 1.0
    """λ ~ Beta(mix_beta, mix_beta), drawn once for each batch."""

    mix_probability: float = 1.0
    """The probability that a batch is mixed."""

    dsa: str | None = None
    """Differentiable siamese augmentation after normalization, such as color_crop_cutout_flip_scale_rotate."""

    dsa_rotate: float = 15.0
    """Largest rotation of DSA in degrees."""

    diffaug: str | None = None
    """IDC's augmentation after normalization, such as color_crop_flip_scale_rotate: flip and color always, and one of
    the other operations. Images are mixed after it."""

    normalize: Literal["train", "imagenet", "real"] = "train"
    """Pixels are brought to mean 0 and deviation 1 by the statistics of the training images, by ImageNet's usual
    constants (color images only), or by the statistics of the real images that a set was made from: they travel with
    the set, or are measured on the source."""

    test_crop: float = 1.0
    """Share of a test image's side that its central crop keeps: 224/256 in most recipes. Test images are resized
    bilinearly, the shorter side to what leaves students' views after the crop, however the set's own were resized."""

    test_resize: Literal["share", "sevenths"] = "share"
    """How the side before the central crop follows from that of a view: side / test_crop, or side // 7 · 8 (RDED),
    which is 256 of 224, 72 of 64 and 32 of 32."""

    max_size: int | None = None
    """Training and test images with a larger side, in pixels, are averaged down to this one; None for never."""

    tasks: int = 1
    """Class-incremental learning: the classes come in this many parts, with a new student after each."""

    precision: Literal["float32", "bf16"] = "float32"
    """bf16 is autocast: faster on GPUs, and on CPUs with AMX."""

    compile: bool = False
    """Whether the student goes through torch.compile, which is slower to start."""

    checks: int = 1
    """How often the student is tested, evenly spread over the end; the last time is after the last step."""

    checks_from: float = 0.0
    """Share of the training that passes before the first of the checks counts."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    def __post_init__(self) -> None:
        self._check_length()
        self._check_numbers()
        self._check_schedule()
        for name, operations in (("dsa", dsa_operations), ("diffaug", diffaug_operations)):
            strategy = getattr(self, name)
            if strategy is not None:
                try:
                    operations(strategy)
                except UserError as error:
                    raise self._wrong(f"{name}:", str(error)) from error
        if self.dsa is not None and self.diffaug is not None:
            raise self._wrong("dsa and diffaug", "are two augmentations of the same kind: give one of them")

    def _check_length(self) -> None:
        if (self.steps is None) == (self.epochs is None):
            raise self._wrong("steps or epochs", "exactly one of the two must be set")
        for name in ("steps", "epochs", "batch", "checks", "max_size", "train_size", "view_size", "shuffle", "tasks"):
            value, most = getattr(self, name), MOST_CHECKS if name == "checks" else MOST_STEPS
            if value is not None and not 1 <= value <= most:
                limit = "at least 1" if value < 1 else f"at most {most:,}"
                raise self._wrong(name, f"must be {limit}, not {shown(value, 40)}")

    def _check_numbers(self) -> None:
        for name in ("lr", "temperature", "mix_beta", "cosine_smoothing", "gamma"):
            if not 0 < getattr(self, name) < math.inf:
                raise self._wrong(name, f"must be above 0, not {getattr(self, name)}")
        for name in ("weight_decay", "ce_weight", "lighting"):
            if not 0 <= getattr(self, name) < math.inf:
                raise self._wrong(name, f"must be 0 or more, not {getattr(self, name)}")
        for name, low, high in (("mix_probability", 0, 1), ("checks_from", 0, 0.99), ("test_crop", 0.1, 1)):
            if not low <= getattr(self, name) <= high:
                raise self._wrong(name, f"must be from {low} to {high}, not {getattr(self, name)}")
        if self.test_resize == "sevenths" and self.test_crop != 1:
            raise self._wrong("test_crop", "goes with test_resize share: sevenths says itself what is cropped")
        if not 0 <= self.momentum < 1:
            raise self._wrong("momentum", f"must be in [0, 1), not {self.momentum}")
        if self.loss == "mse" and self.tasks > 1:
            raise self._wrong("loss", "mse is of the labels of all classes at once, and tasks brings them one by one")
        if self.momentum and self.optimizer != "sgd":
            raise self._wrong("momentum", f"is of sgd, and the optimizer is {self.optimizer}")
        if not 0 <= self.shift <= 0.5:
            raise self._wrong("shift", f"must be a share of a side from 0 to 0.5, not {self.shift}")
        if self.scale is not None and not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise self._wrong("scale", f"must be two areas with 0 < low <= high <= 1, not {self.scale}")
        if self.jitter is not None and not all(0 <= value < math.inf for value in self.jitter):
            raise self._wrong("jitter", f"must be three numbers from 0 up, not {self.jitter}")
        if not 0 <= self.dsa_rotate <= 360:
            raise self._wrong("dsa_rotate", f"must be from 0 to 360 degrees, not {self.dsa_rotate}")

    def _check_schedule(self) -> None:
        if (self.schedule == "steps") != bool(self.milestones):
            raise self._wrong("milestones", "go with schedule steps, and with no other")
        positive = all(0 < milestone < math.inf for milestone in self.milestones)
        if self.milestones and (self.epochs is None or not positive):
            raise self._wrong("milestones", "are epochs, or shares of all epochs, and need epochs, not steps")
        if self.lr_from == "ntk" and (self.loss, self.optimizer) != ("mse", "sgd"):
            raise self._wrong("lr_from", "ntk is of loss mse and optimizer sgd")
        if self.restart and self.schedule != "steps":
            raise self._wrong("restart", "happens at milestones: it goes with schedule steps")

    def _wrong(self, name: str, message: str) -> UserError:
        return UserError(f"protocol {shown(self.name)}: {name} {message}")

    @property
    def needs_labeler(self) -> bool:
        """Whether the loss compares with the logits of a labeler."""
        return self.loss in ("kl", "mse+ce")

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> EvaluationProtocol:
        """Checked and converted from plain data (numbers may be text), under present or former names of settings.

        Raises UserError naming the setting that is unknown or wrong.
        """
        from pydantic import TypeAdapter, ValidationError

        values = current_names(value)
        try:
            return TypeAdapter(cls).validate_python(values)
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(shown(part, 80) for part in first["loc"])
            known = [f.name for f in dataclasses.fields(cls)]
            problem = f"{shown(first['msg'])}. Settings: {', '.join(known)}"
            if first["type"].startswith("unexpected"):
                problem = f"is not a setting{did_you_mean(name, known) or '.'} Settings: {', '.join(known)}"
            raise UserError(f"protocol {shown(values.get('name', '?'), 80)}: {name}: {problem}") from error

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def identity(self) -> dict[str, Any]:
        """All settings under the names they had when completion records were first written: a setting that only
        changed its name, or came later and is at its default, makes no record stale."""
        former = {now: name for name, now in RENAMED.items()}
        later = {f.name: f.default for f in dataclasses.fields(self) if f.name in SINCE}
        values = {
            former.get(name, name): value
            for name, value in self.to_dict().items()
            if name not in later or value != later[name]
        }
        values["assumed"] = {former.get(name, name): text for name, text in self.assumed.items()}
        return values

    def override(self, **fields: Any) -> EvaluationProtocol:
        """The same protocol with some settings changed; setting steps unsets epochs and the reverse."""
        return self.from_dict(changed(self.to_dict(), fields))

    def without_augmentation(self) -> EvaluationProtocol:
        """The same recipe without augmentation (for DD-Ranking's augmentation-robust score); views keep their size."""
        return self.override(
            shuffle=1, scale=None, shift=0.0, flip=False, jitter=None, lighting=0.0, mix="none", dsa=None, diffaug=None
        )

    def view_side(self, size: int) -> int:
        """Side of the views of images that are stored with `size` pixels a side."""
        view = self.view_size or size
        return view if self.max_size is None else min(view, self.max_size)

    def test_side(self, size: int) -> int:
        """Pixels of a test image's shorter side before its central `view_size` or `size` pixels are cut out."""
        view = self.view_size or size
        return max(view, view // 7 * 8) if self.test_resize == "sevenths" else round(view / self.test_crop)

    def total_steps(self, count: int) -> int:
        """Optimization steps for a training set of `count` images; the last batch of an epoch may be short."""
        return self.steps or (self.epochs or 0) * self.steps_per_epoch(count)

    def steps_per_epoch(self, count: int) -> int:
        """A single image that would be left over joins the batch before it: BatchNorm has no variance of one."""
        full, rest = divmod(count, min(self.batch, count))
        return full + (rest > 1)


def current_names(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings under their present names, the keys of `assumed` too. Raises UserError for a setting given twice."""
    result: dict[str, Any] = {}
    for name, value in values.items():
        now = RENAMED.get(name, name)
        if now in result:
            raise UserError(f"protocol setting {now}: given twice; {name} is its former name")
        result[now] = value
    if isinstance(result.get("assumed"), Mapping):
        result["assumed"] = {RENAMED.get(name, name): text for name, text in result["assumed"].items()}
    return result


def changed(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with some of them changed; setting steps unsets epochs and the reverse."""
    changes = current_names(changes)
    result = {**current_names(values), **changes}
    for one, other in (("steps", "epochs"), ("epochs", "steps")):
        if changes.get(one) is not None and other not in changes:
            result[other] = None
    return result
