"""Students: networks built by name, for any image size, channel count and class count."""

from raycond.models.students.embedding import embedding
from raycond.models.students.registry import build, names

__all__ = ["build", "embedding", "names"]
