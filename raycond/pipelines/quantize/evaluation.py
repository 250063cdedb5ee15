"""The evaluation at the end of a quantization: the evaluation pipeline on the set that was just written."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from raycond.evaluate.method_names import UNIFORM, WEIGHTED
from raycond.pipelines.evaluate.config import GridConfig
from raycond.pipelines.evaluate.run import prepare, train
from raycond.pipelines.quantize.config import QuantizeConfig
from raycond.pipelines.quantize.summary import QuantizeRun
from raycond.runtime.runner import Runner


def evaluate(config: QuantizeConfig, run: QuantizeRun, runner: Runner, listing: str) -> None:
    """Train students on the set, its uniform-weight twin and the baselines that `--methods` names.

    listing: digest of what the source lists. `run` gets the rows, the failures and the validation images that cannot be
    read. Raises UserError for too many bad validation images.
    """
    grid = prepare(_grid(config, run), run.source, run.val, listing)
    grid.bad = run.bad  # one quarantine file has both
    train(grid, runner, config.methods)
    run.rows = [replace(row, set="") for row in grid.rows]
    run.failures += grid.failures
    run.overlap = grid.overlap
    run.bad = grid.bad


def _grid(config: QuantizeConfig, run: QuantizeRun) -> GridConfig:
    """The evaluation's configuration. Its records lie in this run's folder, so a rerun finds them."""
    modes: dict[str, Any] = {UNIFORM: "uniform", WEIGHTED: config.weights}
    # those that the protocol would add by itself, such as the full data, must be decoded first
    baselines: Any = tuple(method for method in config.methods if method not in modes) or ("none",)
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
        weights=tuple(dict.fromkeys(mode for method, mode in modes.items() if method in config.methods)),
        baselines=baselines,
        max_bad=config.max_bad,
        max_pixels=config.max_pixels,
        runner=config.runner,
        dashboard=config.dashboard,
    )
