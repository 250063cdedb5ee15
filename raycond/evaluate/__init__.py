"""Train a student on a set, test it on real data, and put the results in tables (`evaluate.table`)."""

from raycond.evaluate.labelled import LabelledImages
from raycond.evaluate.protocol import Protocol, preset, presets
from raycond.evaluate.table import Comparison, Row, Summary
from raycond.evaluate.train import Outcome, train_and_test

__all__ = [
    "Comparison",
    "LabelledImages",
    "Outcome",
    "Protocol",
    "Row",
    "Summary",
    "preset",
    "presets",
    "train_and_test",
]
