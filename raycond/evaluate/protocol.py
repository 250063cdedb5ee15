"""Protocols as presets and YAML files: settings with a base, and rules for images per class, classes and student."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from raycond.core import files
from raycond.core.errors import UserError, short
from raycond.core.registry import did_you_mean
from raycond.core.text import shown
from raycond.core.yaml_text import read_yaml
from raycond.evaluate.settings import EvaluationProtocol, changed, current_names

__all__ = ["EvaluationProtocol", "Recipe", "parse_settings", "preset", "presets", "recipe"]

BOUNDS = ("ipc_min", "ipc_max", "classes_min", "classes_max", "size_min", "size_max")
USUAL_SIZE = 224  # of the images that most recipes were written for
CONDITIONS = (*BOUNDS, "students")
MOST_BYTES = 2**20  # of a protocol file
MOST_BASES = 10  # files that a protocol builds on, one on the other


@dataclass(frozen=True)
class Recipe:
    """A protocol before images per class, classes and student are known."""

    fields: dict[str, Any]
    """Settings of `EvaluationProtocol`, by name."""

    rules: tuple[dict[str, Any], ...] = ()
    """Settings that depend on the cell. Each has `if` (ipc_min, ipc_max, classes_min, classes_max, size_min, size_max,
    students: names with * and ?; all must hold) and `set` (settings); later rules win."""

    changes: dict[str, Any] = field(default_factory=dict)
    """Settings that the user fixed; they win over every rule."""

    @property
    def name(self) -> str:
        return str(self.fields["name"])

    def override(self, **fields: Any) -> Recipe:
        """Some settings fixed for every cell. Raises UserError for a setting that does not exist or fit."""
        fixed = dataclasses.replace(self, changes=current_names({**self.changes, **current_names(fields)}))
        fixed.resolve(ipc=10, classes=10, student="")
        return fixed

    def resolve(self, *, ipc: int | None, classes: int, student: str, size: int = USUAL_SIZE) -> EvaluationProtocol:
        """The protocol of one cell; ipc None is the whole data, larger than any bound. size: side of stored images."""
        values = dict(self.fields)
        for rule in self.rules:
            if _holds(rule["if"], ipc, classes, student, size):
                values = changed(values, rule["set"])
        return EvaluationProtocol.from_dict(changed(values, self.changes))

    def to_dict(self) -> dict[str, Any]:
        return {**self.fields, "rules": list(self.rules), "changes": self.changes}


def _holds(condition: Mapping[str, Any], ipc: int | None, classes: int, student: str, size: int) -> bool:
    values = {"ipc": float("inf") if ipc is None else ipc, "classes": classes, "size": size}
    return all(
        condition.get(f"{name}_min", 0) <= value <= condition.get(f"{name}_max", float("inf"))
        for name, value in values.items()
    ) and any(fnmatch.fnmatchcase(student, name) for name in condition.get("students", ["*"]))


def presets() -> list[str]:
    """The names `preset` takes, sorted."""
    folder = resources.files("raycond") / "presets" / "protocols"
    return sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml"))


def recipe(name: str) -> Recipe:
    """A protocol that comes with raycond, or a YAML file of the same form (a name that ends in .yaml).

    A file may build on another one: `base` names a preset, or a file by its path seen from the folder of the file that
    names it. Raises UserError, listing the presets, for an unknown name, and for a file that is not a protocol.
    """
    return _read(name, ())


def _read(name: str, above: tuple[str, ...]) -> Recipe:
    """above: the files that build on this one, the first of them being what the user named."""
    if name.endswith((".yaml", ".yml")):
        place = files.absolute(name)
        if place in above or len(above) > MOST_BASES:
            chain = " → ".join(shown(one) for one in (*above, place)[-3:])
            what = "the files name each other as base" if place in above else f"more than {MOST_BASES} bases"
            raise UserError(f"protocol {shown(above[0])}: {what}: {chain}")
        text = _text(name, place)
    elif name in presets():
        place, text = name, (resources.files("raycond") / "presets" / "protocols" / f"{name}.yaml").read_text("utf-8")
    else:
        known = presets()
        raise UserError(
            f"protocol '{shown(name)}' is not known{did_you_mean(name, known)}: use one of {', '.join(known)}, "
            "or a .yaml file"
        )
    values = read_yaml(text, f"protocol {shown(name)}")
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise UserError(f"protocol {shown(name)}: expected `setting: value` lines")
    return _recipe(shown(name), values, (*above, place))


def _text(name: str, place: str) -> str:
    try:
        return files.read_bytes(place, most=MOST_BYTES).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"protocol {shown(name)}: cannot be read: {short(error)}") from error


def _recipe(name: str, values: dict[str, Any], read: tuple[str, ...]) -> Recipe:
    """name: what the user calls the file, safe to show. read: this file after those that build on it."""
    rules, parent = values.pop("when", []), values.pop("base", None)
    base = Recipe({}) if parent is None else _read(_base(name, parent, read[-1]), read)
    fields = changed(base.fields, values)
    if not isinstance(rules, list):
        raise UserError(f"protocol {name}: `when` must be a list of rules, not {shown(rules, 80)}")
    checked = [_rule(name, rule, fields) for rule in rules]
    result = Recipe(fields, (*base.rules, *checked))
    result.resolve(ipc=10, classes=10, student="")
    return result


def _base(name: str, parent: Any, place: str) -> str:
    """What `base` names: a preset, or the full place of a file."""
    if not isinstance(parent, str):
        raise UserError(f"protocol {name}: base must name a preset or a .yaml file, not {shown(parent, 80)}")
    if not parent.endswith((".yaml", ".yml")) or not place.endswith((".yaml", ".yml")):
        return parent
    if "://" in parent or "::" in parent:
        raise UserError(f"protocol {name}: base {shown(parent)}: must be a preset or a file beside this one")
    return parent if files.is_local(place) and parent.startswith(("/", "~")) else files.join(_folder(place), parent)


def _folder(place: str) -> str:
    return place.rpartition("/")[0]


def _rule(name: str, rule: Any, fields: Mapping[str, Any]) -> dict[str, Any]:
    """A rule of `when` with its settings under present names; says what is wrong with it before any cell meets it."""
    if not isinstance(rule, dict) or set(rule) != {"if", "set"} or not all(isinstance(v, dict) for v in rule.values()):
        raise UserError(f"protocol {name}: a rule of `when` has `if` and `set`, not {shown(rule)}")
    condition, settings = rule["if"], rule["set"]
    if unknown := sorted(shown(key) for key in condition if key not in CONDITIONS):
        raise UserError(f"protocol {name}: {', '.join(unknown)}: conditions are {', '.join(CONDITIONS)}")
    for bound in BOUNDS:
        value = condition.get(bound, 1)
        if not isinstance(value, int) or isinstance(value, bool):
            raise UserError(f"protocol {name}: condition {bound} must be a whole number, not {shown(value, 80)}")
    names = condition.get("students", [])
    if not isinstance(names, list) or not all(isinstance(student, str) for student in names):
        raise UserError(f"protocol {name}: condition students must be a list of names, not {shown(names, 80)}")
    if not all(isinstance(key, str) for key in settings):
        raise UserError(f"protocol {name}: expected `setting: value` in a rule's `set`, not {shown(settings)}")
    EvaluationProtocol.from_dict(changed(fields, settings))  # names the setting that is wrong
    return {"if": condition, "set": current_names(settings)}


def preset(name: str) -> EvaluationProtocol:
    """A preset that depends on nothing, as it is for 10 classes at IPC 10. Raises UserError as `recipe` does."""
    return recipe(name).resolve(ipc=10, classes=10, student="")


def parse_settings(texts: Sequence[str]) -> dict[str, Any]:
    """`field=value` texts, the values as YAML. Raises UserError for one without `=`."""
    result = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator:
            raise UserError(f"--set {shown(text)}: expected field=value")
        result[name.strip()] = read_yaml(value, f"--set {shown(text)}")
    return result
