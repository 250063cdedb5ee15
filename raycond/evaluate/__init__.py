"""Train students on condensed sets and test them: protocols, labelers, baselines, the training loop, tables."""

from raycond.evaluate.labelled import LabelledImages
from raycond.evaluate.protocol import Protocol, Recipe, preset, presets, recipe
from raycond.evaluate.table import Check, Comparison, Row, Summary
from raycond.evaluate.train import Outcome, train_and_test

__all__ = [
    "Check",
    "Comparison",
    "LabelledImages",
    "Outcome",
    "Protocol",
    "Recipe",
    "Row",
    "Summary",
    "preset",
    "presets",
    "recipe",
    "train_and_test",
]
