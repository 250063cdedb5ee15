"""Takes the crops of real images that a teacher is surest of and puts them together to collages (RDED, CVPR 2024),
optionally with HeLlO's update of the patches. Leaves a condensed set; train on it with `raycond evaluate --set
shuffle=2 scale=[0.25,1]`.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic.dataclasses import dataclass

from raycond.cli.command import Command
from raycond.cli.device import require_device
from raycond.core import files
from raycond.core.options import STRICT, Configuration, option
from raycond.pipelines.loading import load
from raycond.pipelines.places import place


@dataclass(frozen=True, kw_only=True, config=STRICT)
class CollageCommandOptions(Configuration):
    """Which images the collages are made from, and how."""

    GROUP = "collages"

    out: str = option(metavar="OUT", positional=True, place=place)
    """Folder of the set to write; what resuming needs is kept in OUT-work."""

    data: str = option(metavar="URI", place=place)
    """Address of the real images, in any of the forms that `raycond quantize --data` takes."""

    teacher: str = option(metavar="SPEC")
    """The trained classifier that chooses the crops: NAME[@FILE][,OPTION=VALUE…]."""

    size: int = option(ge=1)
    """Pixels on each side of a collage."""

    ipc: tuple[int, ...] = option()
    """Collages of each class; the set holds one version for each number."""

    pool: int = option(300)
    """Images of each class that crops are taken from. 300 is the paper's."""

    crops: int = option(5)
    """Crops of each of these images, of which the one that the teacher is surest of is kept. 5 is the paper's."""

    factor: int = option(2)
    """Patches on each side of a collage; 2 is the paper's for ImageNet, 1 for images of 32 pixels."""

    clip: str = option("", metavar="MODEL:TAG|DIR", unset="patches as they are")
    """CLIP against which the patches are updated after they were reduced, as HeLlO does: a model of open_clip, or a
    local folder of one."""

    channels: Literal[1, 3] = option(3)
    """Channels of the images: 1 for gray ones, 3 for color."""

    seed: int = option(0, ge=0)
    """Seed of the images and crops that are drawn."""

    max_bad: str = option("1%", metavar="N|P%")
    """How many images may turn out unreadable before the command stops, as a number or a share of all."""

    name: str = option("", unset="that of its folder")
    """Name of the set."""

    device: str = option("cpu", metavar="NAME")
    """Where the teacher and CLIP compute: cpu or cuda."""


def run(options: dict[str, Any]) -> int:
    """Write the set of collages."""
    config = load(CollageCommandOptions, options)
    require_device(config.device)
    from raycond.data.images import MAX_PIXELS, Decoding
    from raycond.data.sources import open_source
    from raycond.methods.collages.collages import CollageOptions, Collages
    from raycond.methods.collages.image_update import UpdateOptions
    from raycond.pipelines.collages import write_collages

    collages = Collages(
        source=open_source(config.data, index_dir=files.join(f"{config.out}-work", "index")),
        ipc=max(config.ipc, default=0),
        seed=config.seed,
        teacher=config.teacher,
        choice=CollageOptions(pool=config.pool, crops=config.crops, factor=config.factor),
        device=config.device,
        clip=config.clip,
        update=UpdateOptions() if config.clip else None,
    )
    result = write_collages(
        config.out,
        collages,
        Decoding(config.size, "crop", config.channels, MAX_PIXELS),
        ipcs=config.ipc,
        name=config.name or config.out.rpartition("/")[2],
        max_bad=config.max_bad,
    )
    print(f"set       {config.out}: {sum(cell['images'] for cell in result.manifest['cells'].values())} images")
    if result.bad:
        print(f"left out  {len(result.bad)} images that cannot be read, listed in {result.quarantine}")
    return 0


COMMAND = Command(
    run,
    (CollageCommandOptions,),
    examples=(
        "raycond collages runs/rded --data /data/imagenet/train --teacher resnet18 --size 224 --ipc 10 50",
        "raycond collages runs/mnist-rded --data /data/mnist --teacher convnet3@net.pt --size 28 --channels 1 --ipc 10 "
        "--factor 1",
    ),
    text=__doc__,
)
