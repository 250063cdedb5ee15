"""Which stages of a pipeline an option matters to, seen from the fingerprints that a run computes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raycond.core import records
from raycond.core.errors import UserError

Parts = dict[str, Any]


class FinishedRun:
    """A run that is finished, and what its stages' fingerprints were made of."""

    def __init__(self, out: Path, run: Callable[[str, dict[str, Any]], object]) -> None:
        """run: carries the pipeline out in a folder, with some options changed."""
        self.out, self.run = out, run
        self.fingerprint = records.fingerprint
        self.parts: dict[str, Parts] = {}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(records, "fingerprint", self._noted)
            run(str(out), {})

    def stages(self, copy: Path, options: dict[str, Any]) -> set[str]:
        """The stages whose fingerprints change with the options; `refused` if none does and the run raises UserError.

        The pipeline runs again on a copy of the finished run. A fingerprint that is new is noted, and replaced by the
        one that it had, so that the stage is taken for finished and a later one is seen for itself.
        """
        shutil.copytree(self.out, copy)
        changed: set[str] = set()

        def fingerprint(**parts: Any) -> str:
            digest = self.fingerprint(**parts)
            if digest in self.parts:
                return digest
            changed.add(stage_of(parts))
            return self._nearest(parts) or digest

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(records, "fingerprint", fingerprint)
            try:
                self.run(str(copy), options)
            except UserError:
                return changed or {"refused"}
        return changed

    def _noted(self, **parts: Any) -> str:
        digest = self.fingerprint(**parts)
        self.parts[digest] = parts
        return digest

    def _nearest(self, parts: Parts) -> str | None:
        """The fingerprint of the finished run that differs in the fewest parts."""
        same = {digest: known for digest, known in self.parts.items() if stage_of(known) == stage_of(parts)}
        return min(same, key=lambda digest: sum(same[digest].get(k) != v for k, v in parts.items()), default=None)


def stage_of(parts: Parts) -> str:
    """The stage that a fingerprint is of; `write` for the last one of a training, which has no name."""
    return str(parts.get("stage", "write"))
