"""Recorded numbers beside the same numbers again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class Comparison:
    """How results compare with those that were recorded.

    Attributes:
        compared: results that were compared.
        differing: those with any number that is not equal to the last digit.
        unmatched: results that came again and were not recorded, though the node was running.
        missing: results that were recorded and did not come again.
        largest: greatest difference by field, in the field's unit; inf where one is not a number.
        first: drive time of the first that differs, s; NaN when there is none.
        examples: the first differences, one line each.
    """

    compared: int = 0
    differing: int = 0
    unmatched: int = 0
    missing: int = 0
    largest: dict[str, float] = field(default_factory=dict)
    first: float = float("nan")
    examples: list[str] = field(default_factory=list)

    @property
    def equal(self) -> bool:
        """Whether all that was recorded came again, nothing else, equal to the last digit."""
        return self.differing == self.unmatched == self.missing == 0

    def add(self, at: float, values: dict[str, tuple[Any, Any]]) -> None:
        """Compare one result at drive time `at` (s): by field, what was recorded and what is now.

        Values are numbers, texts, or sequences of numbers; NaN is equal to NaN.
        """
        self.compared += 1
        differs = False
        for name, (recorded, again) in values.items():
            gap = _gap(recorded, again)
            if gap:
                differs = True
                self.largest[name] = max(gap, self.largest.get(name, 0.0))
                if len(self.examples) < 3 and not isinstance(recorded, (list, np.ndarray)):
                    self.examples.append(f"{at:.3f} s: {name} was {recorded}, is {again}")
        if differs:
            self.differing += 1
            self.first = min(at, self.first) if self.first == self.first else at


def _gap(recorded: Any, again: Any) -> float:
    """Return 0 for equal values, else how far they are apart."""
    if isinstance(recorded, str) or isinstance(again, str):
        return 0.0 if recorded == again else float("inf")
    if type(recorded) is type(again) and type(again) in (bool, int) and recorded == again:
        return 0.0
    a, b = np.asarray(recorded, dtype=float), np.asarray(again, dtype=float)
    if a.shape != b.shape:
        return float("inf")
    if np.array_equal(a, b, equal_nan=True):
        return 0.0
    gaps = np.abs(a - b)[~((a == b) | (np.isnan(a) & np.isnan(b)))]
    worst = float(np.nanmax(gaps)) if np.isfinite(gaps).any() else float("inf")
    return float("inf") if np.isnan(gaps).any() else worst
