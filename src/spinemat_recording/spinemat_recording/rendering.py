"""From a template and its content to one HTML file that needs nothing else."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import Any

import jinja2


def render(template: str, content: dict[str, Any]) -> str:
    """Return the page that a file in `templates/` makes of its content."""
    return _environment().get_template(template).render(content)


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"number": number, "signed": signed}
    return environment


def number(value: Any, digits: int = 1) -> str:
    """A number for people; – where there is none."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    return f"{value:.{digits}f}".replace("-", "−") if isinstance(value, float) else str(value)


def signed(value: float | None, digits: int = 1) -> str:
    """A change for people, with its sign; – where there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0.0 else text.replace("-", "−")
