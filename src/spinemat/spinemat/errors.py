"""Errors that people read: which field, which value, what is allowed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

LONGEST = 200  # characters of a value that a message repeats


class InvalidInput(ValueError):
    """A value from outside is not acceptable; the message is one line for people.

    The message names the field, the value that was given and what is allowed.
    """

    def __init__(self, field: str, value: object, allowed: str) -> None:
        super().__init__(f"{field}: {_shown(value)} is not allowed; allowed: {allowed}")
        self.field, self.value, self.allowed = field, value, allowed

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel between processes."""
        return InvalidInput, (self.field, self.value, self.allowed)


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # Python prints no number of thousands of digits
        return f"this {type(value).__name__}"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def number(field: str, value: Any, low: float, high: float, unit: str = "") -> float:
    """Return `value` as a finite float within [low, high].

    Raises:
        InvalidInput: not a number, not finite or outside the range.
    """
    allowed = f"{low:g} to {high:g}{' ' + unit if unit else ''}"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidInput(field, value, allowed)
    try:
        result = float(value)
    except OverflowError:  # an integer of hundreds of digits
        result = math.inf
    if not math.isfinite(result) or not low <= result <= high:
        raise InvalidInput(field, value, allowed)
    return result


def choice(field: str, value: Any, options: Iterable[str]) -> str:
    """Return `value` if it is one of `options`.

    Raises:
        InvalidInput: it is not.
    """
    names = list(options)
    if not isinstance(value, str) or value not in names:
        raise InvalidInput(field, value, ", ".join(names))
    return value


def keys(field: str, value: Any, required: Iterable[str]) -> Mapping[str, Any]:
    """Return `value` as a mapping that has exactly the keys `required`.

    Raises:
        InvalidInput: not a mapping, a key is missing or one is not known.
    """
    wanted = list(required)
    if not isinstance(value, Mapping):
        raise InvalidInput(field, value, f"a mapping with {', '.join(wanted)}")
    for key in wanted:
        if key not in value:
            raise InvalidInput(f"{field}.{key}", None, "it must be given")
    for key in value:
        if key not in wanted:
            raise InvalidInput(f"{field}.{key}", value[key], f"only {', '.join(wanted)}")
    return value
