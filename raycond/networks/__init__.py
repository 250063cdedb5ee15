"""Students: networks built by name, for any image size, channel count and class count."""

from raycond.networks.embedding import embedding
from raycond.networks.students import build, names

__all__ = ["build", "embedding", "names"]
