"""A protocol: the named recipe under which a student is trained and tested."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, ClassVar, Literal

from raycond.core.errors import UserError
from raycond.training.augment import dsa_operations

CONDITIONS = ("ipc_min", "ipc_max", "classes_min", "classes_max", "students")


@dataclass(frozen=True)
class EvaluationProtocol:
    """Every setting that changes a test accuracy; cells of different protocols do not compare.

    A preset may depend on images per class, number of classes and student: `resolve` settles that. `assumed` names
    the fields whose value the source leaves open, with what was put in. Raises UserError for a value out of range.
    """

    name: str
    source: str  # the paper or code the recipe comes from
    batch: int  # images a step; the whole set where it has fewer
    lr: float
    steps: int | None = None  # optimiser steps, the same for every set size ...
    epochs: int | None = None  # ... or passes over the set; exactly one of the two
    reported: str = "last"  # which accuracy the source prints; raycond's headline is always the last
    assumed: dict[str, str] = field(default_factory=dict)  # field → what the source leaves open about it

    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    weight_decay: float = 0.0
    decay_norms: bool = True  # False: no decay of biases and of norm layers (parameters of one dimension)
    momentum: float = 0.0  # of sgd
    # cosine: ½(1 + cos(π·t / (smoothing·T))), so it ends at 0 with smoothing 1 and at half the lr with 2
    schedule: Literal["cosine", "steps", "constant"] = "cosine"
    smoothing: float = 1.0
    milestones: tuple[float, ...] = ()  # of schedule steps: epochs, or shares of all epochs (below 1) rounded down
    gamma: float = 0.1  # the factor at each milestone
    restart: bool = False  # a new optimiser, without momentum, at each milestone
    schedule_by: Literal["step", "epoch"] = "step"

    # soft targets p of the labeler, student logits s. cross-entropy: −Σ p log softmax(s); kl: KL(softmax(t/T) ‖
    # softmax(s/T)), t the labeler's logits, no T² factor; mse+ce: mean (s − t + mean t)² + ce_weight · hard
    # cross-entropy
    loss: Literal["cross-entropy", "kl", "mse+ce"] = "cross-entropy"
    temperature: float = 1.0
    ce_weight: float = 0.1
    labels: str = "hard"  # what the source trains with, in words; here the labeler is an argument of its own
    # class-mean-one: mean of w·loss with w scaled to mean 1 in each class; given: w as stored; none: w = 1
    weights: Literal["class-mean-one", "given", "none"] = "class-mean-one"
    mix_weights: Literal["own", "mix"] = "own"  # of a mixed image: w_i, or λ·w_i + (1 − λ)·w_j

    # augmentation, in this order
    shuffle: int = 1  # patches a side that are shuffled (RDED); 1: off
    scale: tuple[float, float] | None = None  # area of the random resized crop; None: off
    shift: float = 0.0  # share of a side an image moves at most; 0: off
    flip: bool = False
    jitter: tuple[float, float, float] | None = None  # brightness, contrast, saturation; each factor 1 ± value
    lighting: float = 0.0  # standard deviation of the PCA colour noise; colour images only
    mix: Literal["none", "cutmix", "mixup"] = "none"
    mix_beta: float = 1.0  # λ ~ Beta(mix_beta, mix_beta), one a batch
    mix_probability: float = 1.0  # that a batch is mixed
    dsa: str | None = None  # a DSA strategy such as color_crop_cutout_flip_scale_rotate; after normalisation
    dsa_rotate: float = 15.0  # degrees

    # train: mean and deviation of the training images given; imagenet: its usual constants (colour images only)
    normalise: Literal["train", "imagenet"] = "train"
    test_crop: float = 1.0  # share of a test image's side that its central crop keeps: 224/256 in most recipes
    max_size: int | None = None  # larger images, of training and test, are averaged down to this side; None: never
    tasks: int = 1  # class-incremental: the classes come in this many parts, with a new student after each
    precision: Literal["float32", "bf16"] = "float32"  # bf16 is autocast: faster on GPUs, and on CPUs with AMX
    compile: bool = False  # torch.compile of the student: slower to start
    checks: int = 1  # how often the student is tested, evenly spread over the end; the last is after the last step
    checks_from: float = 0.0  # share of the training before the first of them counts

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.epochs is None):
            raise self._wrong("steps or epochs", "exactly one of the two must be set")
        for name in ("steps", "epochs", "batch", "checks", "max_size", "shuffle", "tasks"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise self._wrong(name, f"must be at least 1, not {value}")
        for name in ("lr", "temperature", "mix_beta", "smoothing", "gamma"):
            if not 0 < getattr(self, name) < float("inf"):
                raise self._wrong(name, f"must be above 0, not {getattr(self, name)}")
        for name in ("weight_decay", "ce_weight", "lighting"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise self._wrong(name, f"must be 0 or more, not {getattr(self, name)}")
        for name, low, high in (("mix_probability", 0, 1), ("checks_from", 0, 0.99), ("test_crop", 0.1, 1)):
            if not low <= getattr(self, name) <= high:
                raise self._wrong(name, f"must be from {low} to {high}, not {getattr(self, name)}")
        if not 0 <= self.momentum < 1:
            raise self._wrong("momentum", f"must be in [0, 1), not {self.momentum}")
        if self.momentum and self.optimizer != "sgd":
            raise self._wrong("momentum", f"is of sgd, and the optimizer is {self.optimizer}")
        if not 0 <= self.shift <= 0.5:
            raise self._wrong("shift", f"must be a share of a side from 0 to 0.5, not {self.shift}")
        if self.scale is not None and not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise self._wrong("scale", f"must be two areas with 0 < low <= high <= 1, not {self.scale}")
        if self.jitter is not None and min(self.jitter) < 0:
            raise self._wrong("jitter", f"must be three numbers from 0 up, not {self.jitter}")
        if (self.schedule == "steps") != bool(self.milestones):
            raise self._wrong("milestones", "go with schedule steps, and with no other")
        if self.milestones and (self.epochs is None or min(self.milestones) <= 0):
            raise self._wrong("milestones", "are epochs, or shares of all epochs, and need epochs, not steps")
        if self.dsa is not None:
            try:
                dsa_operations(self.dsa)
            except UserError as error:
                raise self._wrong("dsa:", str(error)) from error
        if self.restart and self.schedule != "steps":
            raise self._wrong("restart", "happens at milestones: it goes with schedule steps")

    def _wrong(self, name: str, message: str) -> UserError:
        return UserError(f"protocol {self.name}: {name} {message}")

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> EvaluationProtocol:
        """Checked and converted from plain data (numbers may be text). Raises UserError."""
        from pydantic import TypeAdapter, ValidationError

        try:
            return TypeAdapter(cls).validate_python(dict(value))
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"])
            problem = "is not a setting" if first["type"].startswith("unexpected") else first["msg"]
            known = ", ".join(f.name for f in dataclasses.fields(cls))
            raise UserError(f"protocol {value.get('name', '?')}: {name}: {problem}. Settings: {known}") from error

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def override(self, **fields: Any) -> EvaluationProtocol:
        """The same protocol with some settings changed; setting steps unsets epochs and the reverse."""
        return self.from_dict(_changed(self.to_dict(), fields))

    def without_augmentation(self) -> EvaluationProtocol:
        """The same recipe on the images as they are (for DD-Ranking's augmentation-robust score)."""
        off = {"shuffle": 1, "scale": None, "shift": 0.0, "flip": False, "jitter": None, "lighting": 0.0}
        return self.override(**off, mix="none", dsa=None)

    def total_steps(self, count: int) -> int:
        """Optimiser steps for a training set of `count` images; the last batch of an epoch may be short."""
        return self.steps or (self.epochs or 0) * self.steps_per_epoch(count)

    def steps_per_epoch(self, count: int) -> int:
        """A single image that would be left over joins the batch before it: BatchNorm has no variance of one."""
        full, rest = divmod(count, min(self.batch, count))
        return full + (rest > 1)


@dataclass(frozen=True)
class Recipe:
    """A protocol before images per class, classes and student are known: its fields and the rules that change them.

    rules: each has `if` (ipc_min, ipc_max, classes_min, classes_max, students: names with * and ?; all must hold)
    and `set` (fields); later rules win. changes: settings that the user fixed; they win over every rule.
    """

    fields: dict[str, Any]
    rules: tuple[dict[str, Any], ...] = ()
    changes: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return str(self.fields["name"])

    def override(self, **fields: Any) -> Recipe:
        """Some settings fixed for every cell. Raises UserError for a setting that does not exist or fit."""
        changed = dataclasses.replace(self, changes={**self.changes, **fields})
        changed.resolve(ipc=10, classes=10, student="")
        return changed

    def resolve(self, *, ipc: int | None, classes: int, student: str) -> EvaluationProtocol:
        """The protocol of one cell; ipc None is the whole data, larger than any bound."""
        values = dict(self.fields)
        for rule in self.rules:
            if _holds(rule["if"], ipc, classes, student):
                values = _changed(values, rule["set"])
        return EvaluationProtocol.from_dict(_changed(values, self.changes))

    def to_dict(self) -> dict[str, Any]:
        return {**self.fields, "rules": list(self.rules), "changes": self.changes}


def _holds(condition: Mapping[str, Any], ipc: int | None, classes: int, student: str) -> bool:
    size = float("inf") if ipc is None else ipc
    return (
        condition.get("ipc_min", 0) <= size <= condition.get("ipc_max", float("inf"))
        and condition.get("classes_min", 0) <= classes <= condition.get("classes_max", float("inf"))
        and any(fnmatch.fnmatchcase(student, name) for name in condition.get("students", ["*"]))
    )


def _changed(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    result = {**values, **changes}
    for one, other in (("steps", "epochs"), ("epochs", "steps")):
        if changes.get(one) is not None and other not in changes:
            result[other] = None
    return result


def presets() -> list[str]:
    """The names `preset` takes, sorted."""
    folder = resources.files("raycond") / "presets" / "protocols"
    return sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml"))


def recipe(name: str) -> Recipe:
    """A protocol that comes with raycond, or a YAML file of the same form (a name with a slash or .yaml).

    Raises UserError, listing them all, for an unknown name, and for a file that is not a protocol.
    """
    import yaml

    from raycond.core import files

    if name.endswith((".yaml", ".yml")):
        try:
            text = files.read_bytes(files.absolute(name)).decode()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"protocol {name}: cannot be read: {error}") from error
    elif name in presets():
        text = (resources.files("raycond") / "presets" / "protocols" / f"{name}.yaml").read_text("utf-8")
    else:
        raise UserError(f"protocol {name!r} is not known: use one of {', '.join(presets())}, or a .yaml file")
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"protocol {name}: not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise UserError(f"protocol {name}: expected `setting: value` lines")
    return _recipe(name, values)


def _recipe(name: str, values: dict[str, Any]) -> Recipe:
    rules: Sequence[Any] = values.pop("when", [])
    parent = values.pop("base", None)
    base = recipe(parent) if parent else Recipe({})
    for rule in rules:
        if not isinstance(rule, dict) or set(rule) != {"if", "set"}:
            raise UserError(f"protocol {name}: a rule of `when` has `if` and `set`, not {rule!r}")
        if unknown := set(rule["if"]) - set(CONDITIONS):
            raise UserError(f"protocol {name}: {', '.join(sorted(unknown))}: conditions are {', '.join(CONDITIONS)}")
        EvaluationProtocol.from_dict(
            _changed(_changed(base.fields, values), rule["set"])
        )  # names the field that is wrong
    made = Recipe(_changed(base.fields, values), (*base.rules, *rules))
    made.resolve(ipc=10, classes=10, student="")
    return made


def preset(name: str) -> EvaluationProtocol:
    """A preset that depends on nothing, as it is for 10 classes at IPC 10. Raises UserError as `recipe` does."""
    return recipe(name).resolve(ipc=10, classes=10, student="")


def parse_settings(texts: Sequence[str]) -> dict[str, Any]:
    """`field=value` texts, the values as YAML. Raises UserError for one without `=`."""
    import yaml

    found = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator:
            raise UserError(f"--set {text}: expected field=value")
        try:
            found[name.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise UserError(f"--set {text}: the value is not valid YAML: {error}") from error
    return found
