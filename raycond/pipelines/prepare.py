"""What every pipeline checks before heavy work: where its files go, and the source of its images."""

from __future__ import annotations

from typing import Any, Protocol

from raycond.core.errors import UserError, named
from raycond.data.quarantine import Limit
from raycond.data.sources import Source, open_source


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
    def image_column(self) -> str | None: ...

    @property
    def label_column(self) -> str | None: ...

    @property
    def max_bad(self) -> str: ...


def require_reachable(out: str, runner: str) -> None:
    """Raise UserError for a run folder that other processes cannot see."""
    if runner == "ray" and out.startswith("memory://"):
        raise UserError(f"--out {out}: is of one process; use --runner local, or a place that workers can reach")


def source_options(config: SourceConfig, index_dir: str) -> dict[str, Any]:
    """What `open_source` is given for the training and for the validation images alike."""
    return {
        "index_dir": index_dir,
        "max_classes": config.classes,
        "image_column": config.image_column,
        "label_column": config.label_column,
    }


def training_source(config: SourceConfig, index_dir: str) -> Source:
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
