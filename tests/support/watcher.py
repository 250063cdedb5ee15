"""A watcher of trials that keeps what it hears, in order."""

from __future__ import annotations

from typing import Any


class Recorder:
    """What a runner said of its trials."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []
        """(what happened, name of the trial)."""

        self.results: dict[str, dict[str, Any]] = {}
        """What finished trials returned, by their place."""

        self.failures: dict[str, str] = {}
        """Why trials failed, by their name."""

        self.details: dict[str, str] = {}
        """Tracebacks of the failures, by the name of the trial."""

    def started(self, trial: Any) -> None:
        self.events.append(("started", trial.name))

    def checked(self, trial: Any, values: dict[str, float]) -> None:
        self.events.append((f"step {values['step']:.0f}", trial.name))

    def done(self, trial: Any, result: dict[str, Any]) -> None:
        self.events.append(("done", trial.name))
        assert trial.place not in self.results
        self.results[trial.place] = result

    def failed(self, trial: Any, why: str, details: str = "") -> None:
        self.events.append(("failed", trial.name))
        self.failures[trial.name], self.details[trial.name] = why, details
