"""The trainings at the end of a run: the evaluation pipeline on the set that was just written."""

from __future__ import annotations

from dataclasses import replace

from raycond.evaluate.method_names import FULL, kind_of
from raycond.pipelines.evaluate.own_set import evaluate_own_set, own_grid
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
    grid = own_grid(
        config,
        run.layout.condensed,
        students=config.students,
        protocol=config.protocol,
        weights=("uniform",),
        baselines=tuple(method for method in wanted if method != config.method) or ("none",),
    )
    trained = evaluate_own_set(run, grid, runner, listing=listing, rows=wanted)
    regressions = {row.ipc: row.top1 for row in run.rows if row.method == config.method}
    for row in trained.rows:
        method = kind_of(row.method)
        krr = regressions.get(row.ipc) if method == config.method else None
        run.rows.append(replace(row, method=method, set="", krr_top1=krr))
