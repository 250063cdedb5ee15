"""YAML from files that anybody may have written: plain values, and one kind of error."""

from __future__ import annotations

from typing import Any

import yaml

from raycond.core.errors import UserError
from raycond.core.text import shown


class _Loader(yaml.SafeLoader):
    """Plain values only. References between values are refused: a few of them can stand for gigabytes of text."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.composer.ComposerError(None, None, "references (*name) are not taken", mark)
        return super().compose_node(parent, index)


def read_yaml(text: str, what: str) -> Any:
    """The value that `text` is. Raises UserError that begins with `what` for text that is no YAML of plain values."""
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise UserError(f"{what}: not valid YAML: {error}") from error
    except Exception as error:  # PyYAML lets errors of its conversions through, and nesting ends in a RecursionError
        raise UserError(f"{what}: not valid YAML: {type(error).__name__}: {shown(error)}") from error
