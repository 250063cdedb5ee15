"""A training as a trial: it leaves a completion record, and a rerun trains only what has none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from raycond.core import records
from raycond.evaluate.cell import TESTED, Cell, run_cell
from raycond.evaluate.method_names import former_name
from raycond.evaluate.table import Check, Row
from raycond.evaluate.train import streams
from raycond.runtime.trials import Request
from raycond.training.augment import drawn


@dataclass(frozen=True)
class Trial:
    """A cell, where its record lies, and the fingerprint of everything that its accuracy depends on."""

    cell: Cell
    place: str
    """Where the completion record lies."""

    fingerprint: str
    data: str = ""
    """Digest of the images that it trains on, whatever the seed."""

    images: int = 1
    """Images that it trains on."""

    tests: int = 0
    """Images that it is tested on."""

    held: int = 0
    """Images of the decoded split that the training images are taken from, where they are."""

    request: Request = field(default_factory=Request)

    @property
    def name(self) -> str:
        return self.cell.name

    @property
    def slug(self) -> str:
        return self.cell.slug

    @property
    def cost(self) -> float:
        """Images that pass through the student."""
        protocol = self.cell.protocol
        return protocol.total_steps(self.images) * min(protocol.batch, self.images) * protocol.tasks

    @property
    def parameters(self) -> dict[str, Any]:
        cell = self.cell
        return {
            "method": cell.method,
            "ipc": cell.ipc or 0,
            "student": cell.student,
            "seed": cell.seed,
            "variant": cell.variant,
        }

    @property
    def data_bytes(self) -> int:
        """Bytes of the images trained and tested on, as they lie on the device; a CPU keeps whole splits."""
        options = self.cell.options
        view = self.cell.protocol.view_size or options.size
        copies, images = (2, max(self.images, self.held)) if self.cell.device == "cpu" else (1, self.images)
        train = images * options.channels * options.size**2
        if streams(train, self.cell.device):
            train = 0
        return copies * (train + self.tests * options.channels * view**2)

    @classmethod
    def of(
        cls,
        cell: Cell,
        place: str,
        data: str,
        test: str,
        labels: str = "",
        images: int = 1,
        tests: int = 0,
        held: int = 0,
    ) -> Trial:
        """data, test, labels: digests of the images trained and tested on, and of the labeler."""
        fingerprint = records.fingerprint(
            stage="evaluate",
            method=former_name(cell.method),
            ipc=cell.ipc,
            student=cell.student,
            seed=cell.seed,
            protocol=cell.protocol.identity(),
            options=cell.options.identity,
            weights=cell.weights,
            labeler=labels,
            variant=cell.variant,
            data=data,
            test=test,
            device=cell.device,
            tested=TESTED,
            **drawn(cell.protocol.scale, cell.protocol.jitter),
            **({} if cell.normalization is None else {"normalization": cell.normalization.identity}),
        )
        return cls(cell, place, fingerprint, data, images, tests, held)

    def finished(self) -> dict[str, Any] | None:
        """The row of an earlier run as plain values, if it stands for the same."""
        facts = records.find(self.place, self.fingerprint)
        return None if facts is None else {**facts["row"], "method": self.cell.method}

    @property
    def row(self) -> Row | None:
        """The row of an earlier run."""
        values = self.finished()
        return None if values is None else Row.from_dict(values)

    def run(self, report: Callable[[dict[str, float]], None]) -> dict[str, Any]:
        """Train, and write the record here, so that nothing is lost with the driver. Returns the row."""

        def check(values: Check) -> None:
            report(asdict(values))

        row = asdict(run_cell(self.cell, check))
        records.finish(self.place, self.fingerprint, None, row=row)
        return row
