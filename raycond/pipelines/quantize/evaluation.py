"""The evaluation at the end of a quantization: the evaluation pipeline on the set that was just written."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from raycond.evaluate.method_names import UNIFORM, WEIGHTED
from raycond.pipelines.evaluate.own_set import evaluate_own_set, own_grid
from raycond.pipelines.quantize.config import QuantizeConfig
from raycond.pipelines.quantize.summary import QuantizeRun
from raycond.runtime.runner import Runner


def evaluate(config: QuantizeConfig, run: QuantizeRun, runner: Runner, listing: str) -> None:
    """Train students on the set, its uniform-weight twin and the baselines that `--methods` names.

    listing: digest of what the source lists. `run` gets the rows, the failures and the validation images that cannot be
    read. Raises UserError for too many bad validation images.
    """
    modes: dict[str, Any] = {UNIFORM: "uniform", WEIGHTED: config.weights}
    grid = own_grid(
        config,
        run.layout.condensed,
        students=config.students,
        protocol=config.protocol,
        weights=tuple(dict.fromkeys(mode for method, mode in modes.items() if method in config.methods)),
        # those that the protocol would add by itself, such as the full data, must be decoded first
        baselines=tuple(method for method in config.methods if method not in modes) or ("none",),
    )
    trained = evaluate_own_set(run, grid, runner, listing=listing, rows=config.methods)
    run.rows = [replace(row, set="") for row in trained.rows]
