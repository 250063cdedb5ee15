"""The evaluation at the end of a matching run: the evaluation pipeline on the set and, if asked for, on snapshots."""

from __future__ import annotations

from dataclasses import replace

from raycond.evaluate.method_names import ROUNDED
from raycond.pipelines.evaluate.config import GridConfig
from raycond.pipelines.evaluate.own_set import evaluate_own_set, own_grid
from raycond.pipelines.match.config import MatchingConfig
from raycond.pipelines.match.snapshots import snapshots
from raycond.pipelines.match.summary import MatchRun
from raycond.runtime.runner import Runner


def evaluate(config: MatchingConfig, run: MatchRun, runner: Runner, listing: str) -> None:
    """Train students on the float tensors of the set, on its 8-bit images and on the baselines.

    listing: digest of what the source lists. `run` gets the rows, the failures and the validation images that cannot be
    read. Raises UserError for too many bad validation images.
    """
    own = (config.row, f"{config.row} {ROUNDED}")
    rows = (*config.baselines, *own)
    trained = evaluate_own_set(run, _grid(config, run), runner, listing=listing, rows=rows)
    run.rows = [replace(row, set="") for row in trained.rows]
    if config.curve:
        _curve(config, run, runner, listing)


def _curve(config: MatchingConfig, run: MatchRun, runner: Runner, listing: str) -> None:
    """A training on every snapshot, with one student and one seed."""
    found = snapshots(config.row, run.phases)
    few = replace(_grid(config, run), students=config.student_names[:1], seeds=config.seeds[:1], baselines=("none",))
    trained = evaluate_own_set(run, few, runner, listing=listing, rows=[one.method for one in found], more=found)
    by_row = {(row.method, row.ipc): row.top1 for row in trained.rows}
    for one in found:
        ipc = one.ipcs[0]
        if ipc is not None and (top1 := by_row.get((one.method, ipc))) is not None:
            run.accuracies[ipc, one.step] = top1


def _grid(config: MatchingConfig, run: MatchRun) -> GridConfig:
    return own_grid(
        config,
        run.layout.condensed,
        students=config.student_names,
        protocol=config.protocol_name,
        baselines=config.baselines,
    )
