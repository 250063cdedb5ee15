"""The commands about labels of condensed sets: `raycond attach | store-labels | collages`."""

from __future__ import annotations

import argparse
import json
from typing import Any

from raycond.cli.fields import SOURCE
from raycond.core.errors import UserError


def attach_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="PATH", help="folder of a condensed set")
    parser.add_argument("projector", metavar="PROJECTOR", help="folder of a fitted projector")


def store_options(parser: argparse.ArgumentParser) -> None:
    parser.argument_default = argparse.SUPPRESS
    option = parser.add_argument
    option("path", metavar="PATH", help="folder of a condensed set")
    option("out", metavar="OUT", help="folder that `--labeler stored:OUT` then names")
    option("--labeler", required=True, metavar="KIND:WHERE", help="teacher:WHERE or projector:WHERE")
    option("--protocol", required=True, metavar="NAME", help="whose views are labelled: a preset or a .yaml file")
    option("--set", dest="changes", nargs="+", metavar="FIELD=VALUE", help="settings of the protocol to change")
    option("--ipc", type=int, nargs="+", metavar="N", help="default: all of the set")
    option("--views", type=int, metavar="N", help="of each image, shown in turn (default: one for every epoch)")
    option("--top-k", type=int, metavar="K", help="keep the K largest logits of each label (default: all, float16)")
    option("--rest", choices=["zero", "minimum"], help="what the others are taken for (default zero probability)")
    option("--seed", type=int, metavar="N", help="of the views")
    option("--device", metavar="NAME", help="cpu (default) or cuda")


def collage_options(parser: argparse.ArgumentParser) -> None:
    parser.argument_default = argparse.SUPPRESS
    option = parser.add_argument
    option("out", metavar="OUT", help="folder of the set to write")
    option("--data", required=True, metavar="URI", help=SOURCE)
    option("--teacher", required=True, metavar="SPEC", help="NAME[@FILE][,OPTION=VALUE…]: chooses the crops")
    option("--size", type=int, required=True, metavar="N", help="pixels per side of a collage")
    option("--ipc", type=int, nargs="+", required=True, metavar="N", help="images per class")
    option("--pool", type=int, metavar="N", help="images of a class that are looked at (default 300)")
    option("--crops", type=int, metavar="N", help="of each of them (default 5)")
    option("--factor", type=int, metavar="N", help="patches a side of a collage (default 2)")
    option("--clip", metavar="MODEL:TAG|DIR", help="update the patches against this CLIP (HeLlO; default: as they are)")
    option("--channels", type=int, choices=[1, 3], help="1 for grey images (default 3)")
    option("--seed", type=int, metavar="N")
    option("--max-bad", metavar="N|P%", help="bad images allowed (default 1%%)")
    option("--name", metavar="NAME", help="of the set (default: of its folder)")
    option("--device", metavar="NAME", help="cpu (default) or cuda")


def attach(options: dict[str, Any]) -> int:
    from raycond.sets.attach import attach_projector, bytes_table

    manifest = attach_projector(options["path"], options["projector"])
    print(json.dumps({name: manifest[name] for name in ("label_generator", "storage_bytes")}, indent=2))
    base = manifest["label_generator"]["base"]
    elsewhere = "" if base["carried"] or ":" in base["name"] else ",clip=FOLDER"
    print(f"\n{bytes_table(manifest)}use       --labeler projector:{options['path']}{elsewhere}")
    return 0


def store_labels(options: dict[str, Any]) -> int:
    from raycond.evaluate.protocol import parse_settings, recipe
    from raycond.labels.stored.labels import Encoding
    from raycond.pipelines.store_labels import store_set_labels

    found = recipe(options.pop("protocol")).override(**parse_settings(options.pop("changes", ())))
    kept = {name: options.pop(name) for name in ("top_k", "rest") if name in options}
    _require_device(options)
    store_set_labels(
        options.pop("out"),
        options.pop("path"),
        recipe=found,
        ipcs=options.pop("ipc", ()),
        encoding=Encoding(**kept),
        report=lambda ipc, index: print(f"ipc{ipc}: {index['views']} views of {index['images']} images", flush=True),
        **options,
    )
    return 0


def collages(options: dict[str, Any]) -> int:
    from raycond.core import files
    from raycond.data.images import MAX_PIXELS, Decoding
    from raycond.data.sources import open_source
    from raycond.methods.collages.collages import CollageOptions, Collages
    from raycond.methods.collages.image_update import UpdateOptions
    from raycond.pipelines.collages import write_collages

    _require_device(options)
    out = files.absolute(options["out"])
    source = open_source(options["data"], index_dir=files.join(f"{out}-work", "index"))
    choice = CollageOptions(**{name: options[name] for name in ("pool", "crops", "factor") if name in options})
    clip, ipcs = options.get("clip", ""), options["ipc"]
    made = Collages(
        *(source, max(ipcs), options.get("seed", 0), options["teacher"], choice, options.get("device", "cpu"), clip),
        UpdateOptions() if clip else None,
    )
    size = Decoding(options["size"], "crop", options.get("channels", 3), MAX_PIXELS)
    name, max_bad = options.get("name", out.rpartition("/")[2]), options.get("max_bad", "1%")
    run = write_collages(out, made, size, ipcs=ipcs, name=name, max_bad=max_bad)
    print(f"set       {out}: {sum(cell['images'] for cell in run.manifest['cells'].values())} images")
    if run.bad:
        print(f"left out  {len(run.bad)} images that cannot be read, listed in {run.quarantine}")
    return 0


def _require_device(options: dict[str, Any]) -> None:
    import torch

    name = options.get("device", "cpu")
    try:
        kind = torch.device(name).type
    except RuntimeError:
        kind = ""
    if kind not in ("cpu", "cuda"):
        raise UserError(f"--device {name}: expected cpu or cuda")
    if kind == "cuda" and not torch.cuda.is_available():
        raise UserError(f"--device {name}: torch {torch.__version__} finds no usable GPU on this machine")
