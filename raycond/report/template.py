"""Fills the HTML templates of the reports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def fill(template: str, context: Mapping[str, Any]) -> str:
    """One of the package's templates with everything escaped that is not marked as markup."""
    import jinja2

    loader = jinja2.PackageLoader("raycond", "report")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template(template).render(context)
