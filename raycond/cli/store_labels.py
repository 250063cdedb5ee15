"""Labels the views that a protocol shows of every image of the set, by a teacher or a projector, and stores the labels
by image and number of view: `raycond evaluate --labeler stored:OUT --baselines none` trains on them without the
teacher. The same command again goes on where it was stopped.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic.dataclasses import dataclass

from raycond.cli.command import Command
from raycond.cli.device import require_device
from raycond.core.options import STRICT, Configuration, option
from raycond.pipelines.loading import load


@dataclass(frozen=True, kw_only=True, config=STRICT)
class StoreOptions(Configuration):
    """Which labels of which views are stored."""

    GROUP = "labels"

    path: str = option(metavar="PATH", positional=True)
    """Folder of a condensed set."""

    out: str = option(metavar="OUT", positional=True)
    """Folder for the labels, which `--labeler stored:OUT` then names."""

    labeler: str = option(metavar="KIND:WHERE")
    """What gives the labels: teacher:NAME[@FILE] for a trained classifier, projector:DIR for a fitted projector."""

    protocol: str = option(metavar="NAME")
    """Recipe whose views are labeled: a preset such as rded, or a .yaml file of your own. Train with the same one."""

    changes: tuple[str, ...] = option((), name="set", metavar="FIELD=VALUE", unset="the protocol as it is")
    """Settings of the protocol to change, as in `raycond evaluate --set`."""

    ipc: tuple[int, ...] = option((), unset="all of the set")
    """Images per class, of those that the set has."""

    views: int | None = option(None, ge=1, unset="one for every epoch")
    """Views of each image that are stored; a longer training shows them again in turn. Fewer take less room."""

    top_k: int | None = option(None, ge=1, metavar="K", unset="all")
    """Number of logits of each label that are kept, the largest ones. Fewer take less room; see --rest."""

    rest: Literal["zero", "minimum"] = option("zero")
    """With --top-k: what the logits left out are taken for: probability zero, or the smallest logit kept."""

    seed: int = option(0, ge=0)
    """Seed of the views."""

    device: str = option("cpu", metavar="NAME")
    """Where the labels are computed: cpu or cuda."""


def run(options: dict[str, Any]) -> int:
    """Store the labels of each IPC."""
    config = load(StoreOptions, options)
    from raycond.evaluate.protocol import parse_settings, recipe
    from raycond.labels.stored.labels import Encoding
    from raycond.pipelines.store_labels import store_set_labels

    protocol = recipe(config.protocol).override(**parse_settings(config.changes))
    require_device(config.device)
    store_set_labels(
        config.out,
        config.path,
        labeler=config.labeler,
        recipe=protocol,
        ipcs=config.ipc,
        device=config.device,
        views=config.views,
        seed=config.seed,
        encoding=Encoding(top_k=config.top_k, rest=config.rest),
        report=lambda ipc, index: print(f"ipc{ipc}: {index['views']} views of {index['images']} images", flush=True),
    )
    return 0


COMMAND = Command(
    run,
    (StoreOptions,),
    examples=(
        "raycond store-labels runs/digits/set runs/digits-labels --labeler teacher:resnet18@teacher.pt --protocol rded",
        "raycond store-labels runs/A/set runs/A-labels --labeler projector:runs/P --protocol rded --views 100",
    ),
    text=__doc__,
)
