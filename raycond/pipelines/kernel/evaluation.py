"""The trainings at the end of a run: the evaluation pipeline on the set that was just written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from raycond.evaluate.method_names import FULL, kind_of
from raycond.pipelines.evaluate.config import GridConfig
from raycond.pipelines.evaluate.run import prepare, train
from raycond.pipelines.kernel.config import KernelConfig
from raycond.pipelines.kernel.summary import KernelRun
from raycond.runtime.runner import Runner


def evaluate(config: KernelConfig, run: KernelRun, runner: Runner, listing: str) -> None:
    """Train students on the set and on the baselines that `--methods` names.

    listing: digest of what the source lists. `run` gets the rows, each with the accuracy of regression on the same
    images where that is known, the failures, and the validation images that cannot be read. Raises UserError for too
    many of these.
    """
    wanted = [method for method in config.methods if method in ("random", FULL, config.method)]
    grid = prepare(_grid(config, run, wanted), run.source, run.val, listing)
    grid.bad = run.bad  # one quarantine file has both
    train(grid, runner, wanted)
    regressions = {row.ipc: row.top1 for row in run.rows if row.method == config.method}
    for row in grid.rows:
        method = kind_of(row.method)
        krr = regressions.get(row.ipc) if method == config.method else None
        run.rows.append(replace(row, method=method, set="", krr_top1=krr))
    run.failures += grid.failures
    run.bad = grid.bad


def _grid(config: KernelConfig, run: KernelRun, wanted: Sequence[str]) -> GridConfig:
    """The evaluation's configuration. Its records lie in this run's folder, so a rerun finds them."""
    baselines: Any = tuple(method for method in wanted if method != config.method) or ("none",)
    return GridConfig(
        sets=(run.layout.condensed,),
        out=config.out,
        data=config.data,
        val=config.val,
        allow_overlap=config.allow_overlap,
        students=config.students,
        ipc=config.ipc,
        protocol=config.protocol,
        seeds=config.seeds,
        weights=("uniform",),
        baselines=baselines,
        max_bad=config.max_bad,
        max_pixels=config.max_pixels,
        runner=config.runner,
        dashboard=config.dashboard,
    )
