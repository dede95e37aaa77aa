"""What changed between two measurements, and whether it can be told from chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from spinemat import anatomy
from spinemat_recording.record import Contour, Level, StiffnessMap

TRUNK = anatomy.TRUNK[::-1]  # from the foot end
NO_CHANGE = "no measurable change"
NOT_TWICE = "not measured twice"
NOT_JUDGED = "not judged: no error is known"
SHAPE = {  # of a contour: unit, and what less and more of it are called
    "kyphosis": ("rad", "flatter", "more curved"),
    "lordosis": ("rad", "flatter", "more curved"),
    "lateral_asymmetry": ("m", "right lower", "right higher"),
}


class Difference(NamedTuple):
    """One number before and after with its standard errors, all in the same unit.

    Attributes:
        before, before_error, after, after_error: NaN where it was not measured.
        change: after minus before; NaN where it was not measured twice.
        detectable: minimal detectable change at 95 %: 1.96 sqrt(error_before^2 + error_after^2).
        verdict: one of the two words of `difference`, NO_CHANGE, NOT_TWICE or NOT_JUDGED.
    """

    before: float
    before_error: float
    after: float
    after_error: float
    change: float
    detectable: float
    verdict: str


def difference(
    first: tuple[float, float],
    second: tuple[float, float],
    less: str,
    more: str,
    quantile: float = 1.96,
    least: float = 0.0,
) -> Difference:
    """Compare a number before and after.

    Args:
        first, second: value and standard error before and after; NaN: not measured.
        less, more: what a change beyond chance is called.
        quantile: of the errors' distribution, 97.5 %.
        least: detectable change below which none is believed, in the unit of the number.
    """
    (before, before_error), (after, after_error) = first, second
    change = after - before
    detectable = max(quantile * float(np.hypot(before_error, after_error)), least)
    verdict = NO_CHANGE
    if not np.isfinite(change):
        change = detectable = float("nan")
        verdict = NOT_TWICE
    elif not np.isfinite(detectable):
        verdict = NOT_JUDGED
    elif abs(change) > detectable:
        verdict = less if change < 0.0 else more
    return Difference(before, before_error, after, after_error, change, detectable, verdict)


def heights(before: Contour, after: Contour | None) -> dict[str, tuple[float, Difference]]:
    """Compare the skin's height where the levels lie: x in m, and the difference in m.

    Both contours are read at the place that the first one gives the level, C1 to S1 as they come;
    a level outside a contour is left out.
    """
    found = {}
    for level, x in zip(before.levels, np.asarray(before.level_x).tolist(), strict=False):
        if not before.x[0] <= x <= before.x[-1]:
            continue
        again = float("nan"), float("nan")
        if after is not None and after.x[0] <= x <= after.x[-1]:
            again = _height(after, x)
        found[level] = (x, difference(_height(before, x), again, "lower", "higher"))
    return found


def shape(contours: Sequence[Contour]) -> dict[str, Difference]:
    """Compare the angles (rad) and the asymmetry (m) of the first and the last contour."""
    unknown = (float("nan"), float("nan"))
    return {
        name: difference(
            getattr(contours[0], name),
            getattr(contours[-1], name) if len(contours) > 1 else unknown,
            less,
            more,
        )
        for name, (_, less, more) in SHAPE.items()
    }


def evenness(maps: Sequence[StiffnessMap]) -> Difference:
    """Compare how evenly movement is shared in the first and the last of one or more maps."""
    after = maps[-1] if len(maps) > 1 else None
    again = (after.evenness, after.evenness_error) if after else (float("nan"), float("nan"))
    first = maps[0].evenness, maps[0].evenness_error
    return difference(first, again, "less even", "more even")


def _height(contour: Contour, x: float) -> tuple[float, float]:
    """Height of the skin at x and its standard error, m."""
    z, error = (float(np.interp(x, contour.x, v)) for v in (contour.z, contour.z_std))
    return z, error


@dataclass(frozen=True)
class Change:
    """One level before and after; N/mm, None where it was not measured or is not valid."""

    level: str
    side: str
    before: float | None
    before_interval: float | None  # half width of the 95 % interval
    after: float | None
    after_interval: float | None
    change: float | None
    detectable: float | None  # minimal detectable change, 95 %
    verdict: str  # "softer", "stiffer", NO_CHANGE, or why there is none
    reason: str  # why a value is not valid; empty when both are

    @property
    def kind(self) -> str:
        """One word for the style sheet."""
        return {"softer": "softer", "stiffer": "stiffer", NO_CHANGE: "same"}.get(
            self.verdict, "none"
        )


def changes(before: StiffnessMap, after: StiffnessMap | None, side: str) -> list[Change]:
    """Compare two maps level by level, trunk from L5 to T1 and then the neck."""
    return [
        compare(level, side, before.get(level, side), after.get(level, side) if after else None)
        for level in level_names(before, after)
        if before.get(level, side) or (after and after.get(level, side))
    ]


def compare(level: str, side: str, before: Level | None, after: Level | None) -> Change:
    """Compare one level before and after.

    The minimal detectable change of the difference is 1.96 sqrt(SE_before^2 + SE_after^2).
    """
    usable = [_usable(before), _usable(after)]
    reasons: dict[str, list[str]] = {}
    for entry, name, good in zip((before, after), ("before", "after"), usable, strict=True):
        if entry is not None and not good:
            reasons.setdefault(entry.reason or "no reason given", []).append(name)
    change = detectable = None
    verdict = "not valid" if reasons else NOT_TWICE
    if before is not None and after is not None and all(usable):
        one, two = ((e.value, e.standard_error) for e in (before, after))
        found = difference(one, two, "softer", "stiffer")
        change, detectable, verdict = 1e-3 * found.change, 1e-3 * found.detectable, found.verdict
    return Change(
        level=level,
        side=side,
        before=1e-3 * before.value if before and usable[0] else None,
        before_interval=1.96e-3 * before.standard_error if before and usable[0] else None,
        after=1e-3 * after.value if after and usable[1] else None,
        after_interval=1.96e-3 * after.standard_error if after and usable[1] else None,
        change=change,
        detectable=detectable,
        verdict=verdict,
        reason="; ".join(f"{' and '.join(when)}: {why}" for why, when in reasons.items()),
    )


def level_names(*maps: StiffnessMap | None) -> list[str]:
    """Return the trunk levels L5 … T1, then whatever else the maps name, by x."""
    others: dict[str, float] = {}
    for entry in maps:
        for level in entry.levels if entry else ():
            if level.level not in TRUNK:
                others.setdefault(level.level, level.x)
    return [*TRUNK, *sorted(others, key=lambda name: others[name])]


def _usable(entry: Level | None) -> bool:
    return bool(
        entry is not None
        and entry.valid
        and np.isfinite(entry.value)
        and np.isfinite(entry.standard_error)
    )
