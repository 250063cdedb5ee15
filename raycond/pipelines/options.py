"""Groups of options that several pipelines share: which images, at which size, through which codec, on what machine."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Literal

from pydantic.dataclasses import dataclass

from raycond.core.options import STRICT, Configuration, option
from raycond.models.codecs.registry import CODECS
from raycond.pipelines.places import place, spec_place

MAX_PIXELS = 178_956_970
"""Pixels of the largest image that is decoded, as Pillow draws the line: it refuses larger ones itself."""

CODEC = "kl:stabilityai/sd-vae-ft-mse"
"""The codec of most published latent diffusion models at 256 pixels, DiT among them."""


def fill_in_autoencoder(values: dict[str, Any], size: int) -> None:
    """Give `--codec train` the settings that are recommended for the image size, where the configuration has none."""
    if values.get("codec") == "train" and not values.get("autoencoder"):
        from raycond.models.codecs.recommended import recommended  # imports torch

        values["autoencoder"] = asdict(recommended(size, 3))


@dataclass(frozen=True, kw_only=True, config=STRICT)
class RunOptions(Configuration):
    """What the run is called, where its files go, and the seed of what is random in it."""

    GROUP = "run"

    name: str = option(unset="from --data")
    """Name of what is made, which is written into it; letters, digits, dots and dashes. Give one where the last folder
    of --data says nothing."""

    out: str = option("", metavar="DIR", unset="runs/NAME", place=place)
    """Folder of the run: local, s3:// or gs://. On a cluster every machine must be able to write there. Give the folder
    of an earlier run to go on with it."""

    seed: int = option(0, ge=0)
    """Seed of everything random in the run. The same seed on the same machine gives the same bytes; change it to see
    how much a result depends on chance."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SourceOptions(Configuration):
    """Which images are read, and what happens to those that cannot be used."""

    GROUP = "source"

    data: str = option("", metavar="URI", unset="the preset's", place=place)
    """Address of the training images: a tree of class folders, WebDataset .tar files, Parquet files, a folder of idx
    files, or digits: for the 1,797 digits that scikit-learn ships. It may be local, s3://, gs:// or hf://."""

    limit: int | None = option(None, ge=1, unset="all images")
    """Number of images of each class that are used, chosen by a hash of their names. Give a small number to try a
    command out."""

    classes: int | None = option(None, ge=1, unset="all classes")
    """Number of classes that are used, the first in class order. Give a small number to try a command out."""

    class_list: str | None = option(None, metavar="FILE", unset="found beside the images", place=place)
    """File with all classes in the order of their labels: a line for each with its id and, after a blank, its name, or
    JSON. Give it where the order that is found is not the one that labels were numbered by."""

    image_column: str | None = option(None, metavar="NAME", unset="found by type and name")
    """Column of a Parquet source that holds the images. Give it where there are several such columns."""

    label_column: str | None = option(None, metavar="NAME", unset="found by type and name")
    """Column of a Parquet source that holds the labels. Give it where there are several such columns."""

    image_root: str | None = option(None, metavar="DIR", unset="no other folder", place=place)
    """Folder that the paths of images in a Parquet source may lead to, besides the source itself. Give it where the
    images lie elsewhere, as after Dataset.to_parquet of local files; other paths in the data are not followed."""

    check_content: bool = option(False)
    """Tell whether an image has changed by its bytes, not by size and time of its file. Give it where images may be
    replaced without a trace, or were copied without their times; every image is read once more at each start, and the
    first run with it does everything again."""

    max_bad: str = option("1%", metavar="N|P%")
    """How many images may turn out unreadable before the run stops, as a number or a share of all. Those that are left
    out are listed in quarantine.parquet with the reason."""

    max_value: int | None = option(None, ge=1, unset="the largest that the file can hold")
    """Value that is white in gray images of more than 8 bits. Give 4095 for 12-bit values in 16-bit files, which come
    out nearly black otherwise."""

    max_pixels: int = option(MAX_PIXELS, ge=1)
    """Number of pixels above which an image is left out as a decompression bomb. Lower it where images come from people
    you do not trust; raise it where they are larger."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ValidationSource(Configuration):
    """Which images are tested on."""

    GROUP = "source"

    val: str | None = option(None, metavar="URI", unset="the val split of --data", place=place)
    """Address of the images that the evaluation tests on, in the same forms as --data."""

    val_share: float | None = option(None, gt=0, lt=1, unset="none are held out")
    """Share of each class of --data that is kept out of the condensation and tested on, drawn by --seed. Give it, such
    as 0.1, where there are no other validation images."""

    allow_overlap: bool = option(False)
    """Go on where more than 1 % of the validation images are training images too, byte for byte. Their accuracies are
    then not those of unseen images."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ImageOptions(Configuration):
    """The form in which images are decoded."""

    GROUP = "image"

    size: int = option(256, ge=1, le=8192)
    """Pixels on each side of the square that images are brought to when they are read. The codec's factor must divide
    it. With a diffusion model as the generator the default is the size that the model was made for."""

    resize: Literal["crop", "squash"] = option("crop")
    """How an image becomes a square: `crop` scales the shorter side and cuts the center out, `squash` scales both sides
    and keeps everything."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class CodecOptions(Configuration):
    """The autoencoder that takes images to latents, in which everything is computed, and back."""

    GROUP = "codec"

    codec: str = option(CODEC, metavar="KIND[:WHERE]", choices=CODECS.names, place=spec_place)
    """The codec: kl:WHERE or tiny:WHERE for an autoencoder of diffusers from a hub name or a folder, taef2:FOLDER,
    pixels for none, or train for a small one that is trained on the images first: as the `autoencoder` section of a
    preset or a --config file describes it, or with settings that suit the image size."""

    posterior: Literal["mean", "sample"] = option("mean")
    """What an AutoencoderKL gives for an image: the mean of its posterior, or one sample drawn with --seed."""

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = option("auto")
    """Number format in which codec and diffusion model compute; `auto` is bfloat16 on GPUs and float32 on CPUs. Give
    float32 where latents or images come out as NaN."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class MachineOptions(Configuration):
    """Where the work is done and with how much of the machine. None of these changes what the results mean."""

    GROUP = "machine"

    runner: Literal["ray", "local"] = option("ray")
    """`ray` spreads the work over a Ray cluster: the one that RAY_ADDRESS names, or one started on this machine;
    `local` does everything in this process, one thing after another."""

    dashboard: bool = option(True)
    """Start Ray's dashboard (port 8265) with a Ray that is started here. Leave it out to save memory and a few
    seconds."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class MessageOptions(Configuration):
    """What is printed."""

    GROUP = "message"

    verbose: bool = option(False)
    """Show everything that is written to the run's log file, raycond.log in --out, on the terminal too."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DecodingOptions(Configuration):
    """How images are decoded."""

    GROUP = "machine"

    decode_threads: int = option(0, ge=0, unset="CPUs of a worker + 1")
    """Threads of each worker that decode images while it computes. Raise it where a GPU waits for images."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class WorkerOptions(MachineOptions, DecodingOptions):
    """The workers of a training. Together they change no more than the last bits of a result: the order of its sums."""

    GROUP = "machine"

    checkpoint_every: int = option(1000, ge=1, metavar="STEPS")
    """Steps between checkpoints, from which a training goes on after it was stopped. Lower it where a step is slow or
    machines are taken away often."""

    workers: int = option(1, ge=1)
    """Workers that share each batch of every training; the batch must be a multiple of them. Only --runner ray has more
    than one."""

    gpus_per_worker: float = option(-1, unset="1 where there are GPUs")
    """GPUs of each worker, 0 or 1. Give 0 to train on CPUs beside GPUs that others use."""

    cpus_per_worker: int = option(1, ge=1)
    """CPUs of each worker, and its torch threads. float32 sums depend on it: keep it to get the same bytes again."""

    def require_workers(self) -> None:
        """Raise ValueError for a number of GPUs that a worker cannot have."""
        if self.gpus_per_worker not in (-1, 0, 1):
            raise ValueError(f"--gpus-per-worker {self.gpus_per_worker:g}: expected 0 or 1")
