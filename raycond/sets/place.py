"""Where a condensed set lies, when the folder of the run that made it is named as well."""

from __future__ import annotations

from raycond.core import files
from raycond.core.errors import UserError
from raycond.core.text import shown

MANIFEST = "manifest.json"
SET_IN_RUN = "set"
"""The folder of the condensed set inside the folder of the run that made it."""


def set_folder(path: str) -> str:
    """The folder of the set that `path` means: `path` itself, or the set inside it if it is the folder of a run.

    Raises UserError if there is no such folder, or no finished set in it.
    """
    folder = files.absolute(path)
    for place in (folder, files.join(folder, SET_IN_RUN)):
        if files.exists(files.join(place, MANIFEST)):
            return place
    name = shown(path)
    if files.is_local(folder) and not files.exists(folder):
        raise UserError(f"{name}: no such folder; expected a condensed set, or the folder of a run that made one")
    if files.exists(folder) and not files.is_dir(folder):
        raise UserError(f"{name}: is a file; expected the folder of a condensed set")
    raise UserError(
        f"{name}: no {MANIFEST}: not a condensed set, or one that was never finished (run its command again)"
    )


def set_or_path(path: str) -> str:
    """`set_folder` for a configuration: where no set can be seen it is the absolute path, and whatever opens that says
    what is wrong."""
    try:
        return set_folder(path)
    except (UserError, OSError):
        return files.absolute(path)
