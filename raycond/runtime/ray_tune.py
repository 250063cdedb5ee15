"""The evaluation grid on Ray Tune: one student per trial, as many at once as memory and processors hold."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import wait
from dataclasses import asdict, dataclass
from typing import Any

import ray
from ray import tune

from raycond.core import files
from raycond.core.errors import UserError
from raycond.evaluate.table import Check, Row
from raycond.pipelines.evaluate.config import GridConfig
from raycond.pipelines.evaluate.memory import Need, measure
from raycond.pipelines.evaluate.units import Trial, carry_out
from raycond.runtime.background import in_thread
from raycond.runtime.connect import connect
from raycond.runtime.trials import Watcher, reason

HEADROOM = 1.15  # over measured memory: allocators differ from run to run
GRAIN = 128 * 2**20  # Tune goes on in the same process only for trials that ask for the same bytes
MAX_RESTARTS = 3  # of a trial whose worker or node died
POLL_SECONDS = 0.5
STOP_SECONDS = 10  # for Tune to end its trials, before Ray is taken from under it


@dataclass(frozen=True)
class Slots:
    """What the cluster has: processors in all, the bytes of its largest node and of its smallest GPU."""

    cpus: int
    gpus: int
    node_bytes: int
    gpu_bytes: int


class TuneRunner:
    """Runs units as Tune trials on the cluster that there is, or on a Ray started here. See `connect`."""

    def __init__(self, config: GridConfig, out: str) -> None:
        self.config, self.out = config, out
        self.started = connect(config.dashboard)
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        cpus, gpus = (int(sum(node.get(kind, 0) for node in nodes)) for kind in ("CPU", "GPU"))
        use_gpu = gpus > 0 and config.gpus_per_trial != 0
        self.device = "cuda" if use_gpu else "cpu"
        self.slots = Slots(cpus, gpus if use_gpu else 0, int(max(n.get("memory", 0) for n in nodes)), 0)
        if config.gpus_per_trial > 0 and not gpus:
            self.close()
            raise UserError(f"--gpus-per-trial {config.gpus_per_trial:g}: the cluster has no GPU")
        if all(node.get("CPU", 0) < config.cpus_per_trial for node in nodes):
            self.close()
            raise UserError(f"--cpus-per-trial {config.cpus_per_trial}: no node has them; there are {cpus} in all")

    def run(self, units: Sequence[Trial], watcher: Watcher) -> None:
        """Train every unit; `watcher` hears of each check, row and failure. Trials that fail do not stop the rest."""
        if not units:
            return
        needs = self._needs(units)
        requests = [self._request(unit, needs) for unit in units]
        # the longest first, so that the end of the grid does not wait for one of them
        order = sorted(range(len(units)), key=lambda k: -_cost(units[k]))
        trainable = tune.with_resources(
            tune.with_parameters(_trial, units=list(units)),
            lambda config: tune.PlacementGroupFactory([requests[config["unit"]["position"]]]),
        )
        _quiet()
        callback, stopper = _Callback(units, watcher), _Stopper()
        tuner = tune.Tuner(
            trainable,
            param_space={"unit": tune.grid_search([_parameters(k, units[k]) for k in order])},
            tune_config=tune.TuneConfig(
                max_concurrent_trials=self.config.trials_at_once or None,
                reuse_actors=True,  # a new process for every student would import torch every time
                trial_name_creator=lambda trial: units[trial.config["unit"]["position"]].cell.name,
                trial_dirname_creator=lambda trial: (
                    f"{units[trial.config['unit']['position']].cell.slug}-{trial.trial_id}"
                ),
            ),
            run_config=tune.RunConfig(
                name=time.strftime("%Y%m%d-%H%M%S"),
                storage_path=files.join(self.out, "tune"),
                failure_config=tune.FailureConfig(max_failures=MAX_RESTARTS),
                callbacks=[callback],
                stop=stopper,
                verbose=0,
            ),
        )
        _fit(tuner, stopper)
        callback.close()

    def once(self, function: Callable[[Any], Any], argument: Any) -> Any:
        """`function(argument)` on a worker that has what one trial has; raises what it raises there."""
        gpus = 1 if self.device == "cuda" else 0
        try:
            return ray.get(ray.remote(num_cpus=1, num_gpus=gpus)(function).remote(argument))
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None

    def _needs(self, units: Sequence[Trial]) -> dict[str, Need]:
        """Measured in processes of their own, one for each student and batch."""
        kinds = {Need.key(unit.cell): unit.cell for unit in units}
        found = {}
        remote = ray.remote(num_cpus=1, num_gpus=1 if self.device == "cuda" else 0, max_calls=1)(measure)
        waiting = {key: remote.remote(cell) for key, cell in kinds.items()}
        for key, reference in waiting.items():
            try:
                found[key] = ray.get(reference)
            except Exception:  # the training itself will say what is wrong, with its name
                found[key] = Need(0, 0)
        return found

    def _request(self, unit: Trial, needs: dict[str, Need]) -> dict[str, float]:
        need = needs[Need.key(unit.cell)]
        total = -(-int((need.bytes + unit.data_bytes) * HEADROOM) // GRAIN) * GRAIN
        request: dict[str, float] = {"CPU": self.config.cpus_per_trial}
        if self.device == "cuda":
            share = self.config.gpus_per_trial
            if share <= 0:
                share = 1.0 if not need.device_bytes else min(1.0, -(-100 * total // need.device_bytes) / 100)
            request["GPU"] = share
        elif self.slots.node_bytes:
            request["memory"] = min(total if need.bytes else self.slots.node_bytes, self.slots.node_bytes)
        return request

    def describe(self) -> dict[str, Any]:
        return {
            "runner": "ray tune",
            "nodes": sum(node["Alive"] for node in ray.nodes()),
            "cpus": self.slots.cpus,
            "gpus": self.slots.gpus,
        }

    def close(self) -> None:
        if self.started:
            ray.shutdown()


def _trial(config: dict[str, Any], units: Sequence[Trial]) -> None:
    """One training. What raycond or torch complains about is reported, not raised: trying again would not help.

    A trial that is repeated because its worker died finds what it had finished.
    """
    unit = units[config["unit"]["position"]]

    def check(found: Check) -> None:
        tune.report({"step": found.step, "epoch": found.epoch, "top1": found.top1, "loss": found.loss})

    try:
        done = unit.finished()
        row = carry_out(unit, check) if done is None else asdict(done)
    except Exception as error:
        tune.report({"failure": reason(error)})
    else:
        tune.report({**{name: row[name] for name in ("top1", "best", "seconds", "memory")}, "row": row})


def _fit(tuner: tune.Tuner, stopper: _Stopper) -> None:
    """Fit in a thread of its own, so that Ctrl-C and SIGTERM always meet this loop.

    A KeyboardInterrupt that is raised in the middle of Tune or Ray can be lost there, or leave a lock taken.
    """
    fitted = in_thread(tuner.fit)
    try:
        while wait([fitted], POLL_SECONDS).not_done:
            pass
    except BaseException:
        stopper.stopped = True
        wait([fitted], STOP_SECONDS)
        raise
    fitted.result()


class _Stopper(tune.Stopper):
    """Ends the trials of a grid that was told to stop."""

    stopped = False

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return self.stopped

    def stop_all(self) -> bool:
        return self.stopped


class _Callback(tune.Callback):
    """Tells the watcher what Tune tells, and of each unit's end once: a trial that had ended may be repeated."""

    def __init__(self, units: Sequence[Trial], watcher: Watcher) -> None:
        self.units, self.watcher = units, watcher
        self._open = {unit.place: unit for unit in units}

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles callbacks to restore them, which nobody does here; a terminal cannot be pickled

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.watcher.started(self._unit(trial))

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        unit = self._unit(trial)
        if "failure" in result:
            self._failed(unit, result["failure"])
        elif "row" in result:
            if self._open.pop(unit.place, None):
                self.watcher.done(unit, Row.from_dict(result["row"]))
        else:
            self.watcher.checked(unit, Check(result["step"], result["epoch"], result["top1"], result["loss"]))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._failed(self._unit(trial), f"its worker died {MAX_RESTARTS + 1} times")

    def close(self) -> None:
        """Nothing is left out without a word, whatever made Tune stop early."""
        for unit in list(self._open.values()):
            self._failed(unit, "Tune stopped before it had ended")

    def _failed(self, unit: Trial, why: str) -> None:
        if self._open.pop(unit.place, None):
            self.watcher.failed(unit, why)

    def _unit(self, trial: Any) -> Trial:
        return self.units[trial.config["unit"]["position"]]


def _parameters(position: int, unit: Trial) -> dict[str, Any]:
    """What dashboards show of a trial."""
    cell = unit.cell
    return {
        "position": position,
        "method": cell.method,
        "ipc": cell.ipc or 0,
        "student": cell.student,
        "seed": cell.seed,
        "variant": cell.variant,
    }


def _cost(unit: Trial) -> float:
    """Images that pass through the student."""
    protocol = unit.cell.protocol
    return protocol.total_steps(unit.images) * min(protocol.batch, unit.images) * protocol.tasks


def _quiet() -> None:
    """Our own table says what Tune's messages would."""
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # the newer output prints a banner even at verbose=0
    os.environ.setdefault("TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S", "0")
    # at Ctrl-C Tune would end as if all was done; ours is to stop, and to say so
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
    for name in ("ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(logging.ERROR)
