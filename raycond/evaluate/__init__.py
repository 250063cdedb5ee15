"""Train students on condensed sets and test them: protocols, labelers, baselines, the training loop, tables."""

from raycond.data.labelled import LabelledImages
from raycond.evaluate.protocol import EvaluationProtocol, Recipe, preset, presets, recipe
from raycond.evaluate.table import Check, Comparison, Row, Summary
from raycond.evaluate.train import Outcome, train_and_test

__all__ = [
    "Check",
    "Comparison",
    "EvaluationProtocol",
    "LabelledImages",
    "Outcome",
    "Recipe",
    "Row",
    "Summary",
    "preset",
    "presets",
    "recipe",
    "train_and_test",
]
