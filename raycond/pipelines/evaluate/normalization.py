"""The constants of real images that a protocol normalizes by: those of the sets, or measured on their source."""

from __future__ import annotations

from raycond.core import files
from raycond.core.errors import UserError
from raycond.data.labelled import pixel_statistics, pixels
from raycond.pipelines.evaluate.summary import GridRun
from raycond.pipelines.stages.splits import decode_split
from raycond.sets.normalization import Normalization

AS_TRAINED = "--set normalize=train"  # the way out: each training set's own statistics


def normalization(run: GridRun) -> Normalization | None:
    """What all trainings of a grid are normalized by; None where the protocol has other constants.

    Those that travel with the sets, or else of the training images of the source, which are decoded for it. Raises
    UserError where neither is there, and for sets that differ in them.
    """
    protocols = [run.recipe.resolve(ipc=ipc, classes=len(run.classes), student="") for ipc in run.ipcs]
    if all(protocol.normalize != "real" for protocol in protocols):
        return None
    known = {opened.label: found for opened in run.sets if (found := opened.normalization) is not None}
    if len({files.digest(found.identity) for found in known.values()}) > 1:
        raise UserError(
            f"--sets: {' and '.join(list(known)[:2])} are normalized by different constants; give them to grids of "
            f"their own, or {AS_TRAINED}"
        )
    if known:
        return next(iter(known.values()))
    if run.source is None:
        raise UserError(
            f"--protocol {run.config.protocol}: normalizes by the constants of the real images, and {run.sets[0].path} "
            f"has none: give their source with --data and --baselines random, or {AS_TRAINED}"
        )
    output = run.layout.pixels("train")
    decode_split("train", run.source, run.listing, run.options, output, f"give {AS_TRAINED}")
    mean, std = pixel_statistics(pixels(output, len(run.classes)).images)
    return Normalization(tuple((mean.double() / 255).tolist()), tuple((std.double() / 255).tolist()))
