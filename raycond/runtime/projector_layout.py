"""Where everything of a projector's fit lies in its folder."""

from __future__ import annotations

from dataclasses import dataclass

from raycond import files
from raycond.runtime.layout import Layout


@dataclass(frozen=True)
class ProjectorLayout(Layout):
    """`out` is the projector's folder itself, `clip/` in it the CLIP that was trained, `teachers/` the checkpoints;
    `work/` may be deleted after the run."""

    @property
    def quarantine(self) -> str:
        return files.join(self.out, "work", "quarantine.parquet")

    @property
    def record(self) -> str:
        return files.join(self.out, "work", "projector")

    @property
    def clip(self) -> str:
        return files.join(self.out, "clip")

    @property
    def clip_record(self) -> str:
        return files.join(self.out, "work", "clip")

    @property
    def teachers_record(self) -> str:
        return files.join(self.out, "work", "teachers")

    def teachers(self, digest: str) -> str:
        return files.join(self.out, "teachers", digest[:16])

    def training(self, stage: str, digest: str) -> str:
        return files.join(self.out, "work", "training", f"{stage}-{digest[:16]}")

    def pixels_of(self, label: int) -> str:
        return files.join(self.out, "work", "pixels", f"{label:05d}.npy")
