"""From a pattern to forces: a person's levels over the rows of a mat, and presses on them.

A row presses between levels (46 mm apart, levels 15 to 35 mm), so what a level gets and what a
finger gives are two things; `OnMat` knows which row loads which level. Everything that presses
treats a place as the more delicate of its neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from spinemat.anatomy import regional_sums, regions_at
from spinemat.back_model import UP, row_shares, rows_beside
from spinemat.gains import SLEW
from spinemat.layout import REGIONS, MatLayout
from spinemat.press_goal import MIN_PRELOAD, PressGoal, Waveform, wave
from spinemat.session_programme import AREAS, MOST

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Index = NDArray[np.int64]

BASE_PART = 0.5  # of a regional sum, most that is held between presses (engineering choice)
APPROACH = 0.03  # m/s: contact is known from the scan
_CLOCK = np.linspace(1.0, 2.0, 60, endpoint=False)  # turns at which check_goal looks at sums


@dataclass(frozen=True)
class OnMat:
    """A person over a mat.

    Attributes:
        layout: the mat with n fingers in rows of two.
        mass: of the person, kg.
        x: of the levels, L5 first, shape (24,), m.
        height: of the skin under each finger, shape (n,), m; NaN: no contact was found.
    """

    layout: MatLayout
    mass: float
    x: Array
    height: Array

    @cached_property
    def regions(self) -> Index:
        """Index in `layout.REGIONS` of the region under each row, shape (rows,)."""
        levels = dict(zip(UP, self.x.tolist(), strict=True))
        found = [REGIONS.index(r) for r in regions_at(self.layout.row_x, levels)]
        return np.array(found, dtype=np.int64)

    @cached_property
    def limit(self) -> Array:
        """Press limit of a finger of each row, shape (rows,), N: the more delicate region's."""
        believed = np.array([self.layout.press_limits[r] for r in REGIONS])[self.regions]
        return np.asarray(np.minimum(self.layout.press_limit[::2], believed))

    @cached_property
    def shares(self) -> Array:
        """Share of each row's force on each level, shape (rows, 24); the rest is beyond them."""
        return row_shares(self.layout.row_x, self.x)

    @cached_property
    def beside(self) -> Mask:
        """Levels that each row loads, shape (rows, 24); see `rows_beside`."""
        return rows_beside(self.layout.row_x, self.x)

    @cached_property
    def touched(self) -> Mask:
        """Rows with contact on both sides, shape (rows,)."""
        return np.asarray(np.isfinite(self.height.reshape(-1, 2)).all(axis=1))

    def sums(self) -> list[tuple[str, float, Mask]]:
        """What fingers may carry together: region, N, and its rows, shape (rows,).

        Regions as the mat has them, which every goal is checked for, and as this person lies.
        """
        named = np.array([REGIONS.index(r) for r in self.layout.regions[::2]])
        return [
            (region, MOST * allowed, of == REGIONS.index(region))
            for region, allowed in regional_sums(self.mass).items()
            for of in (named, self.regions)
        ]

    def rows(self, region: str | None, levels: tuple[str, ...] | None) -> Index:
        """Rows that touch and press on a region or on levels, foot end first, shape (k,).

        For levels: rows that give them half of their force, and the row nearest to each.
        """
        if region is not None:
            inside = np.isin(self.regions, [REGIONS.index(r) for r in AREAS[region]])
        else:
            wanted = [UP.index(v) for v in levels or ()]
            inside = self.shares[:, wanted].sum(axis=1) >= 0.5
            far = np.where(self.touched, 0.0, np.inf)[:, None]
            away = np.abs(self.layout.row_x[:, None] - self.x[None, wanted]) + far
            inside[away.argmin(axis=0)] = True
        return np.flatnonzero(inside & self.touched)


def lags(on_mat: OnMat, pattern: str, rows: Index) -> tuple[Index, Array]:
    """Which fingers of some rows press in a pattern, and when.

    Args:
        on_mat: the person.
        pattern: one of `session_programme.PATTERNS`.
        rows: shape (k,), foot end first.

    Returns:
        Fingers and by how many turns each comes later, shape (m,) both.
    """
    sides = {"left": (0,), "right": (1,)}.get(pattern, (0, 1))
    fingers = np.array([2 * r + side for r in rows for side in sides], dtype=np.int64)
    place = np.arange(rows.size) / max(rows.size, 1)
    by_row = np.zeros(rows.size)
    if pattern in ("wave_up", "wave_down"):
        by_row = place if pattern == "wave_up" else -place
    elif pattern == "pelvic_rocking":
        # sacrum and L5 tilt the pelvis back, the upper loins tilt it forward
        middle = 0.5 * (on_mat.x[UP.index("L4")] + on_mat.x[UP.index("L3")])
        by_row = np.where(on_mat.layout.row_x[rows] > middle, 0.5, 0.0)
    elif pattern == "cat_cow":
        # one wave through the loins, half a turn later one through the thorax
        by_row = np.where(on_mat.regions[rows] == REGIONS.index("lumbar"), 0.0, 0.5) + 0.25 * place
    late = np.repeat(by_row, len(sides)).astype(np.float64)
    if pattern == "alternating":
        late = np.where(fingers % 2, 0.5, 0.0)
    return fingers, np.mod(late, 1.0)


def rhythm(
    on_mat: OnMat,
    pattern: str,
    rows: Index,
    *,
    base: Array,
    peak: Array,
    rate: float,
    duration: float,
    gated: bool,
) -> PressGoal:
    """A press in a pattern, within slew and regional sums.

    Peaks that ask for more are lowered together per region: amplitudes first, and what is held
    between presses to at most half of the sum.

    Args:
        on_mat: the person.
        pattern: as in `lags`.
        rows: that press, shape (k,), at least one.
        base, peak: force of a finger of each row between and at the presses, shape (k,), N.
        rate: Hz.
        duration: s.
        gated: less in inspiration.
    """
    fingers, late = lags(on_mat, pattern, rows)
    each = np.searchsorted(rows, fingers // 2)
    preload: Array = np.maximum(base, MIN_PRELOAD)[each]
    steep = SLEW * MOST / (np.pi * rate)
    amplitude: Array = np.minimum(np.maximum(peak[each] - preload, 0.0), steep)
    shape = wave(Waveform.RAISED_COSINE, _CLOCK[:, None] - late)
    for _, allowed, of in on_mat.sums():
        mine = of[fingers // 2]
        held = float(preload[mine].sum())
        if held > BASE_PART * allowed:
            preload[mine] = np.maximum(preload[mine] * BASE_PART * allowed / held, MIN_PRELOAD)
        moving = float((shape[:, mine] @ amplitude[mine]).max(initial=0.0))
        room = max(allowed - float(preload[mine].sum()), 0.0)
        if moving > room:
            amplitude[mine] *= room / moving
    return PressGoal(
        waveform=Waveform.RAISED_COSINE,
        fingers=fingers,
        preload=preload,
        amplitude=amplitude,
        phase=2.0 * np.pi * late,
        rate=rate,
        duration=duration,
        approach_speed=APPROACH,
        expected=on_mat.height[fingers],
        hold_after=False,
        start_cycle=0,
        mass=on_mat.mass,
        gated=gated,
    )
