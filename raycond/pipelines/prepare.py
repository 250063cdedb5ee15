"""What every pipeline checks before heavy work: where its files go, and the sources of its images."""

from __future__ import annotations

from typing import Any, Protocol

from raycond.core import files
from raycond.core.errors import NoSplit, UserError, named
from raycond.data.classes import Classes, require_same
from raycond.data.decode import Interpolation
from raycond.data.holdout import hold_out
from raycond.data.images import Decoding, Resize
from raycond.data.quarantine import Limit
from raycond.data.rows import RowSource
from raycond.data.sources import open_source


class SourceConfig(Protocol):
    """The options that say which images a run takes; every configuration with a source has them."""

    @property
    def data(self) -> str: ...

    @property
    def out(self) -> str: ...

    @property
    def runner(self) -> str: ...

    @property
    def limit(self) -> int | None: ...

    @property
    def classes(self) -> int | None: ...

    @property
    def class_list(self) -> str | None: ...

    @property
    def image_root(self) -> str | None: ...

    @property
    def check_content(self) -> bool: ...

    @property
    def image_column(self) -> str | None: ...

    @property
    def label_column(self) -> str | None: ...

    @property
    def max_bad(self) -> str: ...


class ImageConfig(Protocol):
    """The options that say how images are decoded."""

    @property
    def size(self) -> int: ...

    @property
    def resize(self) -> Resize: ...

    @property
    def max_pixels(self) -> int: ...

    @property
    def max_value(self) -> int | None: ...


def decoding(config: ImageConfig, channels: int, interpolation: Interpolation = "bicubic") -> Decoding:
    """How the images of a run are decoded. channels: what the codec or the options ask for."""
    return Decoding(
        config.size, config.resize, 3 if channels == 3 else 1, config.max_pixels, config.max_value, interpolation
    )


def require_reachable(out: str, runner: str) -> None:
    """Raise UserError for a run folder that is none, or that other processes cannot see."""
    if files.is_local(out) and files.exists(out) and not files.is_dir(out):
        raise UserError(f"--out {out}: is a file; give a folder")
    if runner == "ray" and out.startswith("memory://"):
        raise UserError(f"--out {out}: is of one process; use --runner local, or a place that workers can reach")


def source_options(config: SourceConfig, index_dir: str) -> dict[str, Any]:
    """What `open_source` is given for the training and for the validation images alike."""
    return {
        "index_dir": index_dir,
        "max_classes": config.classes,
        "image_column": config.image_column,
        "label_column": config.label_column,
        "class_list": config.class_list,
        "image_root": config.image_root,
        "by_content": config.check_content,
    }


def training_source(config: SourceConfig, index_dir: str) -> RowSource:
    """Check the run folder and the options of the source, and open it. Cheap: nothing is decoded or downloaded.

    index_dir: where sources that need an index find or make it. Raises UserError.
    """
    with named("--max-bad"):
        Limit.parse(config.max_bad)
    require_reachable(config.out, config.runner)
    with named("--data"):
        source = open_source(config.data, split="train", limit=config.limit, **source_options(config, index_dir))
    if config.classes and len(source.classes) < config.classes:
        raise UserError(f"--classes {config.classes}: {config.data} has only {len(source.classes)}")
    return source


WAYS_OUT = (
    "Give --val URI for other images, --val-share 0.1 to hold a tenth of each class out, or --no-evaluate to test "
    "nothing"
)


def with_validation(
    source: RowSource,
    data: str,
    val: str | None,
    share: float | None,
    seed: int,
    options: dict[str, Any],
    ways_out: str = WAYS_OUT,
) -> tuple[RowSource, RowSource]:
    """(training images, validation images): those of `val`, a held-out share of `source`, or the val split of `data`.

    options: what `open_source` is given. Raises UserError that names the ways out where there are no validation images:
    images that were trained on must never be tested on without a word.
    """
    if val is not None and share is not None:
        raise UserError("--val and --val-share: give one of them")
    if share is not None:
        return hold_out(source, share, seed)
    return source, validation_source(source.classes, data, val, options, ways_out=ways_out)


def validation_source(
    classes: Classes,
    data: str,
    val: str | None,
    options: dict[str, Any],
    whose: str = "--data",
    ways_out: str = WAYS_OUT,
) -> RowSource:
    """The images of `val`, or else the val split of `data`. whose: what the classes are of, for the message. ways_out:
    what to do where there are none, in options of the command.

    Raises UserError, ClassMismatch.
    """
    if val is not None:
        with named("--val"):
            tests = open_source(val, split="val", **options)
        require_same(classes, tests.classes, whose, f"--val {val}")
        return tests
    try:
        return open_source(data, split="val", require_split=True, classes=classes, **options)
    except NoSplit as error:
        raise UserError(f"{error}, and images that are trained on must not be tested on. {ways_out}") from error
