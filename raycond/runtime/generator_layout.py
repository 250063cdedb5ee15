"""Where everything of a generator's training lies in its folder."""

from __future__ import annotations

from dataclasses import dataclass

from raycond import files
from raycond.runtime.layout import Layout


@dataclass(frozen=True)
class GeneratorLayout(Layout):
    """`out` is the DiTPipeline folder itself; `work/` in it may be deleted after the run."""

    @property
    def quarantine(self) -> str:
        return files.join(self.out, "work", "quarantine.parquet")

    @property
    def record(self) -> str:
        return files.join(self.out, "work", "generator")

    def training(self, digest: str) -> str:
        return files.join(self.out, "work", "training", digest[:16])

    def latents(self, label: int) -> str:
        return files.join(self.out, "work", "latents", f"{label:05d}.npy")
