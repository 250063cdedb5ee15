"""Where everything of a run lies in its folder."""

from __future__ import annotations

from dataclasses import dataclass

from raycond.core import files


@dataclass(frozen=True)
class Layout:
    """Names inside a run folder. `work/` holds what resuming needs and may be deleted after the run.

    elsewhere: a folder for the part of it that does not depend on the set, where runs share that.
    """

    out: str
    elsewhere: str | None = None

    @property
    def work(self) -> str:
        return self.elsewhere or files.join(self.out, "work")

    @property
    def config(self) -> str:
        return files.join(self.out, "config.json")

    @property
    def index(self) -> str:
        return files.join(self.work, "index")

    @property
    def condensed(self) -> str:
        return files.join(self.out, "set")

    @property
    def set_record(self) -> str:
        return files.join(self.out, "work", "set")

    @property
    def quarantine(self) -> str:
        return files.join(self.out, "quarantine.parquet")

    @property
    def results(self) -> str:
        return files.join(self.out, "results.csv")

    @property
    def report(self) -> str:
        return files.join(self.out, "report.html")

    def codec(self, digest: str) -> str:
        return files.join(self.work, "codec", digest[:16])

    def codec_training(self, digest: str) -> str:
        """Folder of what a stopped training of the codec goes on from."""
        return files.join(self.work, "codec", f"{digest[:16]}-training")

    def codebook(self, ipc: int, label: int) -> str:
        return files.join(self.work, "codebooks", f"ipc{ipc}", f"{label:05d}.safetensors")

    def images(self, generator: str, ipc: int, label: int) -> str:
        return files.join(self.work, "images", generator, f"ipc{ipc}", f"{label:05d}.parquet")

    def pixels(self, split: str) -> str:
        return files.join(self.work, "pixels", f"{split}.safetensors")

    def cell(self, name: str) -> str:
        return files.join(self.out, "work", "cells", name)


@dataclass(frozen=True)
class GridLayout:
    """Names inside the folder of an evaluation grid; `work/` as in `Layout`."""

    out: str

    @property
    def config(self) -> str:
        return files.join(self.out, "config.json")

    @property
    def index(self) -> str:
        return files.join(self.out, "work", "index")

    @property
    def results(self) -> str:
        """Without its ending: .csv and .parquet."""
        return files.join(self.out, "results")

    @property
    def summary(self) -> str:
        return files.join(self.out, "summary.txt")

    @property
    def report(self) -> str:
        return files.join(self.out, "report.html")

    @property
    def quarantine(self) -> str:
        return files.join(self.out, "quarantine.parquet")

    @property
    def tune(self) -> str:
        """Ray Tune's own folder: TensorBoard files of every trial."""
        return files.join(self.out, "tune")

    @property
    def selections(self) -> str:
        """Folder of the decoded images of random selections and medoids."""
        return files.join(self.out, "work", "selections")

    @property
    def agreement(self) -> str:
        """Record of how the labeler agrees with hard labels."""
        return files.join(self.out, "work", "agreement")

    @property
    def overlap(self) -> str:
        """Record of how many validation images are training images too."""
        return files.join(self.out, "work", "overlap")

    @property
    def proxy(self) -> str:
        return files.join(self.out, "work", "proxy.npz")

    def pixels(self, split: str) -> str:
        return files.join(self.out, "work", "pixels", f"{split}.safetensors")

    def cell(self, name: str) -> str:
        return files.join(self.out, "work", "cells", name)


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

    @property
    def latents(self) -> str:
        """Folder of the latents, one file per class."""
        return files.join(self.out, "work", "latents")


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

    @property
    def pixel_files(self) -> str:
        """Folder of the decoded images, one file per class."""
        return files.join(self.out, "work", "pixels")


@dataclass(frozen=True)
class MatchLayout(Layout):
    """As a quantization's, with the curve, pictures of snapshots, and the phases in `work/`."""

    @property
    def pixel_files(self) -> str:
        """Folder of the decoded images, one file per class."""
        return files.join(self.out, "work", "pixels", "classes")

    def phase(self, digest: str) -> str:
        return files.join(self.out, "work", "phases", digest[:16])

    @property
    def medoids(self) -> str:
        """Folder of the records of the real images that stand for each class."""
        return files.join(self.out, "work", "medoids")

    @property
    def curve(self) -> str:
        return files.join(self.out, "curve.csv")

    @property
    def pictures(self) -> str:
        """Folder of the pictures of snapshots."""
        return files.join(self.out, "images")

    @property
    def tensorboard(self) -> str:
        return files.join(self.out, "tensorboard")


@dataclass(frozen=True)
class KernelLayout(Layout):
    """Of a condensation with kernels."""

    @property
    def preprocessing(self) -> str:
        """What takes pixels to what kernels see."""
        return files.join(self.work, "preprocessing.safetensors")

    def support(self, ipc: int) -> str:
        """Record of a finished support."""
        return files.join(self.work, "supports", f"ipc{ipc}")

    def snapshots(self, ipc: int, digest: str) -> str:
        """Folder of a support on its way: its state, and what is kept of it."""
        return files.join(self.work, "supports", f"ipc{ipc}-{digest[:16]}")

    def score(self, ipc: int) -> str:
        """Record of the accuracies of regression."""
        return files.join(self.out, "work", "scores", f"ipc{ipc}")
