"""Where soft labels come from: classifiers that answer for any image."""

from raycond.labels.teacher import Description, Teacher, describe, open_teacher

__all__ = ["Description", "Teacher", "describe", "open_teacher"]
