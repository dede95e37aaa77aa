"""What changed between two measurements, and whether it can be told from chance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spinemat import anatomy
from spinemat_recording.record import Level, StiffnessMap

TRUNK = anatomy.TRUNK[::-1]  # from the foot end
NO_CHANGE = "no measurable change"


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
    verdict = "not valid" if reasons else "not measured twice"
    if before is not None and after is not None and all(usable):
        change = 1e-3 * (after.value - before.value)
        detectable = 1.96e-3 * float(np.hypot(before.standard_error, after.standard_error))
        verdict = NO_CHANGE
        if abs(change) > detectable:
            verdict = "softer" if change < 0 else "stiffer"
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
