"""How a running treatment gives way: protective tension, and what the person reports.

All numbers are engineering choices; they only ever lower what was planned.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from spinemat.anatomy import LEVELS, region_of
from spinemat.back_model import UP
from spinemat.errors import InvalidInput, number
from spinemat.layout import REGIONS
from spinemat.ledger import PAIN, STRONG_PAIN
from spinemat.mobilisation import OnMat
from spinemat.press_goal import PressGoal
from spinemat.session_programme import PRELOAD

Array = NDArray[np.float64]

BACK_OFF = 0.6  # of the strength is left at every onset of guarding
LEAST = 0.3  # of the strength, whatever happens
QUIET = 4.0  # s without guarding before strength returns
RETURN = 0.05  # of the full strength per second
ONSET = 1.0  # s after which guarding that is told again counts as a new onset
SORE = 0.6  # of a level's force is left after a report of pain
TOO_MUCH = 9  # of 10: the session ends


@dataclass
class GuardedStrength:
    """Share of the planned amplitudes that is pressed while the person guards, and after."""

    value: float = 1.0
    onsets: int = 0
    _told: float = field(init=False, default=-np.inf)
    _onset: float = field(init=False, default=-np.inf)
    _at: float | None = field(init=False, default=None)

    def update(self, t: float, guarding: bool) -> float:
        """Go on to drive time t (s) and return the share, 0.3 to 1."""
        passed = 0.0 if self._at is None else max(t - self._at, 0.0)
        self._at = t
        if guarding:
            self._told = t
            if t - self._onset > ONSET:
                self._onset = t
                self.onsets += 1
                self.value = max(LEAST, BACK_OFF * self.value)
        elif t - self._told > QUIET:
            self.value = min(1.0, self.value + RETURN * passed)
        return self.value


def levels_at(place: str) -> tuple[str, ...]:
    """Levels that a reported place means; none for an empty one.

    Raises:
        InvalidInput: it is neither a level nor a region.
    """
    if not place:
        return ()
    if place in LEVELS:
        return (place,)
    if place in REGIONS:
        return tuple(v for v in LEVELS if region_of(v) == place)
    raise InvalidInput("place", place, f"C1 … L5, {', '.join(REGIONS)}, or nothing")


def after_report(share: Array, pain: float, levels: tuple[str, ...]) -> Array:
    """Lower the levels at which pain was reported.

    Args:
        share: of the planned force that each level may have, L5 first, shape (24,).
        pain: 0 to 10; below 4 nothing changes, from 7 on the levels are left out.
        levels: at which.

    Raises:
        InvalidInput: no such pain.
    """
    pain = number("pain", pain, 0.0, 10.0)
    if pain < PAIN:
        return share
    here = np.isin(UP, levels)
    return np.where(here, 0.0 if pain >= STRONG_PAIN else SORE * share, share)


def lowered(on_mat: OnMat, goal: PressGoal, share: Array) -> PressGoal | None:
    """A goal with less where levels may have less, without fingers that load a level left out.

    The peak of a finger comes to its share of what was planned. What it holds between presses
    does, too, but for the contact that a rhythm needs (`PRELOAD`).

    Args:
        on_mat: the person.
        goal: what was planned.
        share: of the force that each level may have, as of `after_report`.

    Returns:
        None when no finger is left.
    """
    rows = np.where(on_mat.beside, share, 1.0).min(axis=1)
    mine = rows[goal.fingers // 2]
    keep = mine > 0.0
    if not keep.any():
        return None
    base = np.maximum(mine * goal.preload, np.minimum(goal.preload, PRELOAD))
    peak = mine * (goal.preload + goal.amplitude)
    return replace(
        goal,
        fingers=goal.fingers[keep],
        preload=base[keep],
        amplitude=np.maximum(peak - base, 0.0)[keep],
        phase=goal.phase[keep],
        expected=goal.expected[keep],
    )
