"""What one worker asks for: processors and shares of a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

ANY_GPU = -1.0


@dataclass(frozen=True)
class Resources:
    """The processors and GPUs of one worker of a stage. Every stage states its own."""

    cpus: int = 1
    """Processors that Ray sets aside for one worker."""

    gpus: float = 0.0
    """GPUs of one worker; a fraction shares one. -1: one where the cluster has GPUs, else none."""

    unit: str = "worker"
    """What the options call it: --cpus-per-UNIT and --gpus-per-UNIT are named in errors."""

    def fits_on(self, node: Mapping[str, float]) -> int:
        """How many such workers one node holds, by Ray's table of its resources. `gpus` must be settled."""
        by_cpu = int(node.get("CPU", 0) // self.cpus) if self.cpus else int(node.get("CPU", 0))
        return min(by_cpu, int(node.get("GPU", 0) / self.gpus + 1e-6)) if self.gpus else by_cpu


@dataclass(frozen=True)
class Capacity:
    """What the cluster has at this moment."""

    cpus: int
    """Processors of all nodes together."""

    gpus: int
    """GPUs of all nodes together."""

    node_bytes: int
    """Memory that Ray hands out on the node that has most of it."""
