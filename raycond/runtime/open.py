"""Opens the runner that `--runner` names."""

from __future__ import annotations

from raycond.core.errors import UserError
from raycond.runtime.runner import Runner


def open_runner(name: str, dashboard: bool = True) -> Runner:
    """`ray` or `local`. dashboard: of a Ray that is started here. Raises UserError if the cluster cannot be reached."""
    if name == "local":
        from raycond.runtime.local_runner import LocalRunner

        return LocalRunner()
    if name != "ray":
        raise UserError(f"--runner {name}: expected ray or local")
    from raycond.runtime.ray_runner import RayRunner

    return RayRunner(dashboard)
