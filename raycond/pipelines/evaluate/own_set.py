"""The trainings at the end of a run that made a set: the evaluation pipeline on it, in the run's own folder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from raycond.data.overlap import Overlap
from raycond.data.quarantine import BadRecord
from raycond.data.rows import RowSource
from raycond.pipelines.evaluate.config import GridConfig
from raycond.pipelines.evaluate.contenders import Contender
from raycond.pipelines.evaluate.prepare import prepare
from raycond.pipelines.evaluate.run import train
from raycond.pipelines.evaluate.summary import GridRun
from raycond.runtime.runner import Runner


class EvaluatedConfig(Protocol):
    """The options that such a run shares with its evaluation."""

    @property
    def out(self) -> str: ...

    @property
    def data(self) -> str: ...

    @property
    def val(self) -> str | None: ...

    @property
    def allow_overlap(self) -> bool: ...

    @property
    def ipc(self) -> tuple[int, ...]: ...

    @property
    def seeds(self) -> tuple[int, ...]: ...

    @property
    def max_bad(self) -> str: ...

    @property
    def max_pixels(self) -> int: ...

    @property
    def runner(self) -> Any: ...

    @property
    def dashboard(self) -> bool: ...


class EvaluatedRun(Protocol):
    """What the evaluation takes from such a run, and what it adds to it."""

    val: RowSource | None
    val_digest: str
    overlap: Overlap | None
    bad: list[BadRecord]
    failures: list[str]

    @property
    def source(self) -> RowSource: ...


def own_grid(config: EvaluatedConfig, condensed: str, **chosen: Any) -> GridConfig:
    """The evaluation's configuration: its records lie in the run's folder, so a rerun finds them.

    condensed: where the set is. chosen: students, protocol, baselines and whatever else the pipeline decides.
    """
    return GridConfig(
        sets=(condensed,),
        out=config.out,
        data=config.data,
        val=config.val,
        allow_overlap=config.allow_overlap,
        ipc=config.ipc,
        seeds=config.seeds,
        max_bad=config.max_bad,
        max_pixels=config.max_pixels,
        runner=config.runner,
        dashboard=config.dashboard,
        **chosen,
    )


def evaluate_own_set(
    run: EvaluatedRun,
    grid: GridConfig,
    runner: Runner,
    *,
    listing: str,
    rows: Sequence[str],
    more: Sequence[Contender] = (),
) -> GridRun:
    """Carry out the trainings of `grid`; `run` gets the failures, the overlap and the validation images left out.

    listing: digest of what the source lists. rows, more: as `train` takes them. Raises UserError for too many bad
    validation images.
    """
    trained = prepare(grid, run.source, run.val, listing, run.val_digest)
    trained.bad = run.bad  # one quarantine file has both
    train(trained, runner, rows, more)
    run.failures += trained.failures
    run.overlap, run.bad = trained.overlap, trained.bad
    return trained
