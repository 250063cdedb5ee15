"""Students: networks built by name, for any image size, channel count and class count."""

from raycond.networks.students import build, names

__all__ = ["build", "names"]
