"""Trials on Ray Tune: as many at once as their requests allow."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import wait
from typing import Any

from ray import tune

from raycond.runtime.background import in_thread
from raycond.runtime.trials import Trial, Watcher, details, reason

MAX_RESTARTS = 3  # of a trial whose worker or node died
POLL_SECONDS = 0.5
STOP_SECONDS = 10  # for Tune to end its trials, before Ray is taken from under it


def run_trials(trials: Sequence[Trial], watcher: Watcher, *, folder: str, at_once: int) -> None:
    """Run every trial; `watcher` hears of each check, result and failure. Trials that fail do not stop the rest."""
    if not trials:
        return
    # the longest first, so that the end of the grid does not wait for one of them
    order = sorted(range(len(trials)), key=lambda k: -trials[k].cost)
    trainable = tune.with_resources(
        tune.with_parameters(_trial, trials=list(trials)),
        lambda config: tune.PlacementGroupFactory([trials[config["trial"]["position"]].request.to_dict()]),
    )
    _quiet()
    callback, stopper = _Callback(trials, watcher), _Stopper()
    tuner = tune.Tuner(
        trainable,
        param_space={"trial": tune.grid_search([{"position": k, **trials[k].parameters} for k in order])},
        tune_config=tune.TuneConfig(
            max_concurrent_trials=at_once or None,
            reuse_actors=True,  # a new process for every student would import torch every time
            trial_name_creator=lambda trial: trials[trial.config["trial"]["position"]].name,
            trial_dirname_creator=lambda trial: f"{trials[trial.config['trial']['position']].slug}-{trial.trial_id}",
        ),
        run_config=tune.RunConfig(
            name=time.strftime("%Y%m%d-%H%M%S"),
            storage_path=folder,
            failure_config=tune.FailureConfig(max_failures=MAX_RESTARTS),
            callbacks=[callback],
            stop=stopper,
            verbose=0,
        ),
    )
    _fit(tuner, stopper)
    callback.close()


def _trial(config: dict[str, Any], trials: Sequence[Trial]) -> None:
    """One trial. What raycond or torch complains about is reported, not raised: trying again would not help.

    A trial that is repeated because its worker died finds what it had finished.
    """
    trial = trials[config["trial"]["position"]]
    x_axis: dict[str, int] = {}  # by Tune's name; without it TensorBoard shows the number of the report

    def check(values: dict[str, float]) -> None:
        if "step" in values:
            x_axis["timesteps_total"] = int(values["step"])
        tune.report({**values, **x_axis})

    try:
        result = trial.finished()
        if result is None:
            result = trial.run(check)
    except Exception as error:
        tune.report({"failure": reason(error), "details": details(error)})
    else:
        numbers = {name: value for name, value in result.items() if isinstance(value, (int, float))}
        tune.report({**numbers, **x_axis, "result": result})


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
    """Tells the watcher what Tune tells, and of each trial's end once: one that had ended may be repeated."""

    def __init__(self, trials: Sequence[Trial], watcher: Watcher) -> None:
        self.trials, self.watcher = trials, watcher
        self._open = {trial.place: trial for trial in trials}

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles callbacks to restore them, which nobody does here; a terminal cannot be pickled

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.watcher.started(self._of(trial))

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        ours = self._of(trial)
        if "failure" in result:
            self._failed(ours, result["failure"], result["details"])
        elif "result" in result:
            if self._open.pop(ours.place, None):
                self.watcher.done(ours, result["result"])
        else:
            numbers = {name: value for name, value in result.items() if isinstance(value, (int, float))}
            self.watcher.checked(ours, numbers)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._failed(self._of(trial), f"its worker died {MAX_RESTARTS + 1} times")

    def close(self) -> None:
        """Nothing is left out without a word, whatever made Tune stop early."""
        for trial in list(self._open.values()):
            self._failed(trial, "Tune stopped before it had ended")

    def _failed(self, trial: Trial, why: str, details: str = "") -> None:
        if self._open.pop(trial.place, None):
            self.watcher.failed(trial, why, details)

    def _of(self, trial: Any) -> Trial:
        return self.trials[trial.config["trial"]["position"]]


def _quiet() -> None:
    """Our own table says what Tune's messages would."""
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # the newer output prints a banner even at verbose=0
    os.environ.setdefault("TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S", "0")
    # at Ctrl-C Tune would end as if all was done; ours is to stop, and to say so
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
