"""What a grid opens and checks before heavy work: its sets, its protocol, and where its real images come from."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from raycond.core import files
from raycond.core.errors import UserError, named
from raycond.core.options import command_line
from raycond.data.classes import Classes, require_same
from raycond.data.images import Channels, Decoding
from raycond.data.quarantine import Limit
from raycond.data.rows import RowSource
from raycond.data.sources import open_source
from raycond.evaluate import coresets, protocol
from raycond.evaluate.continual import seen_classes
from raycond.evaluate.method_names import FULL
from raycond.labels import registry
from raycond.models import students
from raycond.pipelines.evaluate.config import GridConfig, load_grid_config
from raycond.pipelines.evaluate.contenders import OpenedSet, from_sets, open_sets
from raycond.pipelines.evaluate.summary import GridRun
from raycond.pipelines.layout import GridLayout, Layout
from raycond.pipelines.loading import shown
from raycond.pipelines.prepare import require_reachable, validation_source, with_validation

PROXIED = tuple(kind for kind in coresets.CORESETS.names() if kind != "medoid")  # coresets that a proxy chooses
MAY_CHANGE = ("out", "max_bad", "trials_at_once", "gpus_per_trial", "cpus_per_trial", "runner", "dashboard", "verbose")
"""Options that change no result, which a grid that goes on may be given anew."""


def resumed(out: str, options: dict[str, Any]) -> GridConfig:
    """The configuration that an earlier grid left in `out`, for `--resume`.

    options: what else was given: the same values as then, or others for what does not change results. Raises UserError
    for a value that differs.
    """
    uri = GridLayout(files.absolute(out)).config
    if not files.exists(uri):
        raise UserError(f"--resume: {out} holds no grid; start it without --resume")
    saved = _json(uri)
    if "sets" not in saved:
        raise UserError(f"--resume: {uri} is not of a grid; give --out the folder of one")
    before, now = load_grid_config(saved), load_grid_config({**saved, **options})
    for option in command_line(GridConfig):
        field = option.path[0]
        was, is_now = getattr(before, field), getattr(now, field)
        if field not in MAY_CHANGE and was != is_now:
            raise UserError(
                f"{option.flag}: the grid in {out} has {_shown(was)}, not {_shown(is_now)}; leave the option out to go "
                "on with it, or start another grid without --resume"
            )
    return now


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        value = [f"{key}={setting}" for key, setting in value.items()]
    return shown(value) if isinstance(value, list | tuple) else str(value)


def _json(uri: str) -> dict[str, Any]:
    """What a config.json holds; nothing if it is not one of raycond's."""
    try:
        found = files.read_json(uri)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def prepare(
    config: GridConfig,
    source: RowSource | None = None,
    val: RowSource | None = None,
    digest: str = "",
    val_digest: str = "",
) -> GridRun:
    """Open and check everything that can be checked before heavy work. Raises UserError, ClassMismatch.

    source, val: what the baselines and the test images come from, where they are open already. digest, val_digest: of
    what the two list, where that is known.
    """
    require_reachable(config.out, config.runner)
    with named("--max-bad"):
        Limit.parse(config.max_bad)
    sets = open_sets(config.sets)
    classes = sets[0].manifest.classes
    for other in sets[1:]:
        require_same(classes, other.manifest.classes, f"--sets {sets[0].path}", other.path)
    ipcs = tuple(dict.fromkeys(config.ipc or sets[0].manifest.ipcs))
    from_sets(sets, ipcs, config.weights)
    with named("--protocol"):
        recipe = protocol.recipe(config.protocol)
    with named("--set"):
        recipe = recipe.override(**config.changes)
    content = sets[0].manifest.content
    channels: Channels = 3 if int(content["channels"]) == 3 else 1
    options = Decoding(
        int(content["size"]),
        content["config"]["resize"],
        channels,
        config.max_pixels,
        content["config"].get("max_value"),
    )
    baselines = _baselines(config, recipe)
    _require_fit(config, recipe, len(classes), ipcs, options)
    _warn_of_enlarged_views(config, recipe, len(classes), ipcs, options.size)
    if set(baselines) & set(PROXIED):
        with named("--proxy-student"):
            students.build(config.proxy_student, classes=len(classes), size=options.size, channels=options.channels)
    with named("--labeler"):
        _, labels_digest = registry.identity(config.labeler, classes)
    origin = source
    if val is None:
        source, val, origin = _sources(config, sets, baselines)
    layout = GridLayout(config.out)
    return GridRun(
        config, layout, sets, ipcs, recipe, options, baselines, source, val, labels_digest, digest, val_digest, origin
    )


def _require_fit(
    config: GridConfig, recipe: protocol.Recipe, classes: int, ipcs: tuple[int, ...], options: Decoding
) -> None:
    """That every student can be built, and trained at every IPC with the labels that there are."""
    for student in config.students:
        protocols = [recipe.resolve(ipc=ipc, classes=classes, student=student, size=options.size) for ipc in ipcs]
        for size in {p.view_side(options.size) for p in protocols}:
            with named("--students"):
                students.build(student, classes=classes, size=size, channels=options.channels)
        for p in protocols:
            with named(f"--protocol {config.protocol}"):
                seen_classes(classes, p.tasks, seed=0)
                if config.labeler == "hard" and p.needs_labeler:
                    raise UserError(
                        f"its loss {p.loss} learns soft labels: give --labeler (such as teacher:resnet18), or --set "
                        "loss=cross-entropy for hard ones"
                    )


def _warn_of_enlarged_views(
    config: GridConfig, recipe: protocol.Recipe, classes: int, ipcs: tuple[int, ...], size: int
) -> None:
    """Say so where the images are stored smaller than the protocol's students see them."""
    pairs = [(student, ipc) for student in config.students for ipc in ipcs]
    found = [recipe.resolve(ipc=ipc, classes=classes, student=student, size=size) for student, ipc in pairs]
    if (view := max(p.view_side(size) for p in found)) > size:
        print(
            f"WARNING    images are stored at {size} pixels, and students of protocol {recipe.name} see {view}: views "
            f"are enlarged, and the accuracy is not that of a set that is stored at {view} pixels or more",
            file=sys.stderr,
        )


def _baselines(config: GridConfig, recipe: protocol.Recipe) -> tuple[str, ...]:
    if config.baselines == ("none",):
        return ()
    chosen: list[str] = ["random", "medoid", *(config.baselines or ())]
    same_cost = config.baselines is None and recipe.resolve(ipc=10, classes=10, student="").steps
    if same_cost or (config.scores and config.full_accuracy is None):
        chosen.append(FULL)
    return tuple(dict.fromkeys(chosen))


WAYS_OUT = (
    "Give --val URI for other images, or make the set with --val-share 0.1, which holds a tenth of each class out"
)


def _sources(
    config: GridConfig, sets: Sequence[OpenedSet], baselines: tuple[str, ...]
) -> tuple[RowSource | None, RowSource, RowSource | None]:
    """The source of the baselines (None without them), the validation images, and what the first set was made from."""
    first = sets[0]
    layout = Layout(first.path.rpartition("/")[0])
    run = _json(layout.config) if files.exists(layout.config) else {}
    about, classes = first.manifest.content["config"], first.manifest.classes
    data = config.data or run.get("data") or _built_in(first)
    val = config.val or (run.get("val") if not config.data else None)
    share = config.val_share or (None if config.val else about.get("val_share"))
    if val is None and data is None:
        raise UserError(f"--val: {first.path} does not say where its source is; give --val URI (and --data URI)")
    options: dict[str, Any] = {
        "index_dir": layout.index if files.exists(layout.index) else GridLayout(config.out).index,
        "max_classes": about.get("classes"),
        "image_column": about.get("image_column"),
        "label_column": about.get("label_column"),
        "class_list": config.class_list or run.get("class_list"),
        "image_root": config.image_root or run.get("image_root"),
    }
    if not baselines and share is None:
        tests = validation_source(classes, data or "", val, options, first.path, WAYS_OUT)
        return None, tests, _made_from(data, about.get("limit"), classes, options)
    if share is not None and not config.allow_overlap:
        _require_held_out(sets, share)
    if data is None:
        raise UserError(f"--data: baselines need the source of {first.path}: give --data URI, or --baselines none")
    with named("--data"):
        source = open_source(data, split="train", limit=about.get("limit"), **options)
    require_same(classes, source.classes, first.path, f"--data {data}")
    source, tests = with_validation(source, data, val, share, int(first.manifest.content["seed"]), options, WAYS_OUT)
    return source, tests, source


def _made_from(data: str | None, limit: int | None, classes: Classes, options: dict[str, Any]) -> RowSource | None:
    """The images that a set was made from, to look for validation images among them; None where they are not there."""
    if data is None:
        return None
    try:
        return open_source(data, split="train", limit=limit, classes=classes, **options)
    except UserError:
        return None


def _require_held_out(sets: Sequence[OpenedSet], share: float) -> None:
    """Raise UserError for a set that was made from the images that are to be tested on.

    Which images a share holds out is decided by the seed of the first set.
    """
    seed = sets[0].manifest.content["seed"]
    for one in sets:
        content = one.manifest.content
        if (content["config"].get("val_share"), content["seed"]) != (share, seed):
            raise UserError(
                f"--val-share {share:g}: {one.path} was made without holding these images out, and would be tested on "
                f"what it was made from; make it with --val-share {share:g} --seed {seed}, or give --val URI "
                "(--allow-overlap goes on all the same)"
            )


def _built_in(first: OpenedSet) -> str | None:
    """The address in the manifest, if it is a data set that comes with a library: a set that somebody made must not
    have other addresses fetched."""
    uri = str(first.manifest.content["source"]["uri"])
    return uri if uri.endswith(":") else None
