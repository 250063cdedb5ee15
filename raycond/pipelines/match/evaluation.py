"""The evaluation at the end of a matching run: the evaluation pipeline on the set and, if asked for, on snapshots."""

from __future__ import annotations

from dataclasses import replace

from raycond.evaluate.method_names import ROUNDED
from raycond.pipelines.evaluate.config import GridConfig
from raycond.pipelines.evaluate.run import prepare, train
from raycond.pipelines.match.config import MatchingConfig
from raycond.pipelines.match.snapshots import snapshots
from raycond.pipelines.match.summary import MatchRun
from raycond.runtime.runner import Runner


def evaluate(config: MatchingConfig, run: MatchRun, runner: Runner, listing: str) -> None:
    """Train students on the float tensors of the set, on its 8-bit images and on the baselines.

    listing: digest of what the source lists. `run` gets the rows, the failures and the validation images that cannot be
    read. Raises UserError for too many bad validation images.
    """
    grid = prepare(_grid(config, run), run.source, run.val, listing)
    grid.bad = run.bad  # one quarantine file has both
    own = (config.row, f"{config.row} {ROUNDED}")
    train(grid, runner, (*config.baselines, *own))
    run.rows = [replace(row, set="") for row in grid.rows]
    run.failures += grid.failures
    run.overlap, run.bad = grid.overlap, grid.bad
    if config.curve:
        _curve(config, run, runner, listing)


def _curve(config: MatchingConfig, run: MatchRun, runner: Runner, listing: str) -> None:
    """A training on every snapshot, with one student and one seed."""
    found = snapshots(config.row, run.phases)
    few = replace(_grid(config, run), students=config.student_names[:1], seeds=config.seeds[:1], baselines=("none",))
    grid = prepare(few, run.source, run.val, listing)
    grid.bad = run.bad
    train(grid, runner, [one.method for one in found], more=found)
    run.failures += grid.failures
    by_row = {(row.method, row.ipc): row.top1 for row in grid.rows}
    for one in found:
        ipc = one.ipcs[0]
        if ipc is not None and (top1 := by_row.get((one.method, ipc))) is not None:
            run.accuracies[ipc, one.step] = top1


def _grid(config: MatchingConfig, run: MatchRun) -> GridConfig:
    """The evaluation's configuration. Its records lie in this run's folder, so a rerun finds them."""
    return GridConfig(
        sets=(run.layout.condensed,),
        out=config.out,
        data=config.data,
        val=config.val,
        allow_overlap=config.allow_overlap,
        students=config.student_names,
        ipc=config.ipc,
        protocol=config.protocol_name,
        seeds=config.seeds,
        baselines=config.baselines,
        max_bad=config.max_bad,
        max_pixels=config.max_pixels,
        runner=config.runner,
        dashboard=config.dashboard,
    )
