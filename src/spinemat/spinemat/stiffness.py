"""Posteroanterior stiffness: from slow ramps of finger pairs to vertebral levels.

Definition, printed beside every number (`METHOD`): slope of the pair's force over its mean
indentation, loading, quasi-static, after two preconditioning cycles, 5 N preload, 20 to 38 N per
pair in the trunk and 7 to 18 N in the neck. Published values were measured prone, from above.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import block_diag

from spinemat.anatomy import LEVELS, NECK, region_of
from spinemat.back_model import UP
from spinemat.breathing import (
    BreathingEstimate,
    estimate_breathing,
    refine_breathing,
    since_end_expiration,
)
from spinemat.contour import SpinePlace
from spinemat.deconvolution import SIDE, LevelMap, Probe, deconvolve, side_differences

Array = NDArray[np.float64]

PRELOAD = 5.0  # N per pair
INTERVAL = {"neck": (7.0, 18.0), "thoracic": (20.0, 38.0), "lumbar": (20.0, 38.0)}  # N per pair
PROBE_LIMIT = {"neck": 10.0, "thoracic": 20.0, "lumbar": 20.0}  # N per finger, never exceeded
LEAST_INTERVAL = 6.0  # N of it that must be reached (engineering choice)
MIN_STIFFNESS, MAX_STIFFNESS = 1000.0, 60000.0  # N/m per pair: outside is not a back
MAX_RESIDUAL = 0.00025  # m, RMS of the fit: above it the person moved (engineering choice)
CORNERS = np.linspace(0.7, 1.4, 15)  # where a tip may leave its toe, over where a pair does
DRIFTING = 25.0  # samples that count as one independent one (engineering choice)
LEAST_ERROR = 1e-4  # m, of a movement: encoder steps and backlash (engineering choice)
LEAST_TOTAL = 5e-5  # m, of the travel in a whole ramp, which no corner divides (choice)
REACH = 0.030  # m, a level further than this from any measured row is not reported
NECK_REGIONS = {"lower neck": NECK[4:], "upper neck": NECK[:4]}
METHOD = (
    "loading slope of pair force over mean indentation after two preconditioning cycles, preload"
    " 5 N, 20-38 N per pair (neck 7-18 N), quasi-static ramp, at end-expiration (breathing removed"
    " by a two-harmonic fit), supine, from below; rows to levels by the most plausible compliance"
    " matrix (neighbours rest at a light force and feel the movement); single sides: force of one"
    " finger over its own indentation while both press and, in a full scan, while it presses alone"
)


@dataclass(frozen=True)
class LevelEstimate:
    """Stiffness of one level and side; see LevelStiffness.msg. N/m."""

    level: str
    side: str
    x: float
    value: float
    error: float
    reason: str = ""

    @property
    def valid(self) -> bool:
        """Whether the value may be used."""
        return not self.reason


class Segment(NamedTuple):
    """A stretch of a scan: a rest, or a ramp in which some fingers press harder.

    Attributes:
        t: times, shape (m,), s.
        height: of the tips, shape (m, n), m; NaN where a finger takes no part.
        push: share of the ramp, shape (m, n) of each finger's own, 0 to 1; 0 at rest.
        corner: share of the ramp where each finger's tissue leaves its toe, shape (n,).
        rise: of each finger's force in the whole ramp, shape (n,), N; 0 for those at rest.
    """

    t: Array
    height: Array
    push: Array
    corner: Array
    rise: Array

    @property
    def ramp(self) -> bool:
        """Whether any finger presses."""
        return bool((self.rise > 0.0).any())

    def columns(self, finger: int, later: float = 1.0) -> Array:
        """What a finger's height follows beside breathing, shape (m, 1 or 3).

        Args:
            finger: which.
            later: factor of the corner: of an uneven pair one tip leaves its toe later.
        """
        one = np.ones(self.t.size)
        if not self.ramp:
            return one[:, None]
        u, at = self.push[:, finger], later * self.corner[finger]
        return np.stack([one, np.minimum(u, at), np.maximum(u - at, 0.0)], axis=1)


class SegmentFit(NamedTuple):
    """Movement of every finger in one segment; shape (n,) each, NaN where it took no part.

    Attributes:
        height: at the begin, at end-expiration, m.
        below, above: travel in the whole ramp if it went on as below and above the corner, m.
        corner: share of the ramp at which the toe ended.
        total: travel in the whole ramp, m.
        error: standard error of `above` (of `height` in a rest), m.
        total_error: standard error of `total`, m.
        residual: root mean square of what the fit leaves, m.
    """

    height: Array
    below: Array
    above: Array
    corner: Array
    total: Array
    error: Array
    total_error: Array
    residual: Array


def fit_segments(
    segments: Sequence[Segment], breath: BreathingEstimate | None
) -> list[SegmentFit]:
    """Fit all stretches of a scan together.

    Model of each finger: in a ramp a + b min(push, corner) + c max(push - corner, 0), in a rest a,
    and over all of them the same breathing movement, which is zero at end-expiration.

    Args:
        segments: in order of time.
        breath: None: no breathing is removed.
    """
    n = segments[0].height.shape[1]
    fits = [SegmentFit(*np.full((8, n), np.nan)) for _ in segments]
    for k in range(n):
        mine = [i for i, s in enumerate(segments) if np.isfinite(s.height[:, k]).all()]
        if not mine:
            continue
        blocks = [segments[i].columns(k) for i in mine]
        heights = [segments[i].height[:, k] for i in mine]
        times = [segments[i].t for i in mine]
        if breath is None:
            breaths = [np.empty((t.size, 0)) for t in times]
        else:
            breaths = [since_end_expiration(t, breath) for t in times]
        corner = np.array([segments[i].corner[k] for i in mine])
        first = [_Aside(b, c, z) for b, c, z in zip(blocks, breaths, heights, strict=True)]
        moves = _together(first)[0]
        for place, i in enumerate(mine):
            if segments[i].rise[k] > 0.0 and segments[i].corner[k] < 1.0:
                still = heights[place] - breaths[place] @ moves
                tried = [segments[i].columns(k, float(later)) for later in CORNERS]
                rests = [still - b @ (np.linalg.pinv(b) @ still) for b in tried]
                best = int(np.argmin([r @ r for r in rests]))
                blocks[place] = tried[best]
                corner[place] *= CORNERS[best]
        asides = [_Aside(b, c, z) for b, c, z in zip(blocks, breaths, heights, strict=True)]
        moves, sure = _together(asides)
        for i, aside, at_corner in zip(mine, asides, corner, strict=True):
            x, spread, left = aside.solve(moves, sure)
            # samples close to one another share the drift of what is left
            variance = DRIFTING * float(left @ left) / left.size
            last, whole = np.zeros(x.size), np.zeros(x.size)
            last[-1] = 1.0
            if x.size == 3:
                whole[1:] = at_corner, 1.0 - at_corner
            error, total_error = (
                float(np.sqrt(variance * (w @ spread @ w))) for w in (last, whole)
            )
            below, above = x[1:] if x.size == 3 else (np.nan, np.nan)
            values = (
                x[0],
                below,
                above,
                at_corner,
                float(whole @ x),
                max(error, LEAST_ERROR),
                max(total_error, LEAST_TOTAL),
                float(np.sqrt(np.mean(left**2))),
            )
            for field, value in zip(fits[i], values, strict=True):
                field[k] = value
    return fits


class _Aside:
    """One stretch of a least-squares fit whose other columns all stretches share.

    Args:
        block: columns of this stretch alone, shape (m, q).
        common: those that all share, shape (m, c).
        z: what is to be explained, shape (m,).
    """

    def __init__(self, block: Array, common: Array, z: Array) -> None:
        self._block, self._common, self._z = block, common, z
        self._inverse = np.linalg.pinv(block)  # a column may be zero
        self._seen = self._inverse @ common
        self.common = common - block @ self._seen
        self.z = z - block @ (self._inverse @ z)

    def solve(self, shared: Array, covariance: Array) -> tuple[Array, Array, Array]:
        """Values of this stretch, their covariance per unit of noise, and what is left.

        Args:
            shared: values of the shared columns, shape (c,).
            covariance: of these per unit of noise, shape (c, c).
        """
        z = self._z - self._common @ shared
        x = self._inverse @ z
        spread = self._inverse @ self._inverse.T + self._seen @ covariance @ self._seen.T
        return x, spread, z - self._block @ x


def _together(asides: Sequence[_Aside]) -> tuple[Array, Array]:
    """Values of the columns that all stretches share, and their covariance per unit of noise."""
    normal = np.asarray(sum(a.common.T @ a.common for a in asides))
    inverse = np.linalg.pinv(normal, hermitian=True).astype(float)
    return inverse @ sum(a.common.T @ a.z for a in asides), inverse


def breathing_over(segments: Sequence[Segment]) -> BreathingEstimate | None:
    """Breathing felt by the fingers at rest, over all stretches of a scan."""
    times, signals, trends = [], [], []
    for s in segments:
        idle = np.flatnonzero((s.rise == 0.0) & np.isfinite(s.height).all(axis=0))
        if idle.size == 0:
            continue
        pick = slice(None, None, 5)  # 10 Hz are enough
        times.append(s.t[pick])
        signals.append(s.height[pick][:, idle].mean(axis=1))
        trends.append(s.columns(int(idle[0]))[pick])
    if not times:
        return None
    record = np.concatenate(times), np.concatenate(signals), block_diag(*trends)
    found = estimate_breathing(*record)
    return refine_breathing(*record, found) if found is not None and found.valid else None


class RowProbes:
    """What all ramps of a scan said, row by row.

    Args:
        row_x: of the rows, shape (rows,), m.
        offset: of their fingers from the middle, shape (rows,), m.
    """

    def __init__(self, row_x: Array, offset: Array) -> None:
        rows = row_x.size
        self._row_x, self._offset = row_x, offset
        self._probes: list[Probe] = []
        # under each finger, N/m, and the rise of force at which the toe ended, N
        self.linear, self.toe, self.corner = np.full((3, 2 * rows), np.nan)
        # travel of each finger in a ramp and its error, m: with its neighbour, and alone
        self._travel, self._travel_error = np.full((2, 2, 2 * rows), np.nan)
        # by which sides travel apart per (left - right) / (left + right), m; what a roll adds
        self._apart, self._rolls = np.full((2, rows), np.nan)
        self.reason = ["not probed"] * rows

    def refuse(self, row: int, reason: str) -> None:
        """Note why a row has no value."""
        self.reason[row] = reason

    def add(
        self,
        ramp: Segment,
        fit: SegmentFit,
        in_toe: NDArray[np.bool_],
    ) -> None:
        """Take one ramp, of pairs or of single fingers.

        Args:
            ramp: which fingers pressed, and how far they came.
            fit: of the movement of all.
            in_toe: fingers whose tissue did not leave its toe, shape (n,).
        """
        rows, rise = self._row_x.size, ramp.rise
        pairs = (rise > 0.0).reshape(-1, 2)
        if (pairs.any(axis=1) & ~pairs.all(axis=1)).any():
            self._add_alone(ramp, fit, in_toe)
            return
        force, travel, error = np.zeros(rows), np.full(rows, np.nan), np.full(rows, np.nan)
        toe = np.zeros(rows, dtype=bool)
        reached = in_toe | (ramp.push.max(axis=0) > 0.9)
        for row in range(rows):
            pair = [2 * row, 2 * row + 1]
            pressed = bool((rise[pair] > 0.0).all())
            if pressed and np.isnan(fit.height[pair]).any():
                self.reason[row] = "contact was lost"
            if np.isnan(fit.height[pair]).any():
                continue
            if pressed:
                force[row] = rise[pair].sum()
                toe[row] = bool(in_toe[pair].all())
                travels = (fit.below if toe[row] else fit.above)[pair]
                whole = bool(reached[pair].all())
                self.reason[row] = self._judge(fit.residual[pair], rise[pair], travels, whole)
                if self.reason[row]:
                    continue
                self.linear[pair] = rise[pair] / travels
                self.toe[pair] = rise[pair] / fit.below[pair]
                self.corner[pair] = rise[pair] * fit.corner[pair]
                self._travel[0, pair] = fit.total[pair]
                self._travel_error[0, pair] = fit.total_error[pair]
                self._see_sides(row, rise[pair], fit.below[pair], travels)
            elif (fit.residual[pair] > MAX_RESIDUAL).any():
                continue
            else:
                travels = fit.above[pair]
            travel[row] = travels.mean()
            error[row] = 0.5 * np.hypot(*fit.error[pair])
        self._probes.append(Probe(force, travel, error, toe))

    def _add_alone(self, ramp: Segment, fit: SegmentFit, in_toe: NDArray[np.bool_]) -> None:
        reached = ~in_toe & (ramp.push.max(axis=0) > 0.9) & (fit.residual <= MAX_RESIDUAL)
        use = (ramp.rise > 0.0) & reached
        self._travel[1, use] = fit.total[use]
        self._travel_error[1, use] = fit.total_error[use]

    def _see_sides(self, row: int, rise: Array, below: Array, above: Array) -> None:
        """How far a pair's sides travel apart when they differ.

        A side that is stiffer by a share is taken to be so in its toe and beyond it: the force for
        every travel is larger by that share. So its travel from the preload to the end of the ramp
        is shorter by the share times (end force / slope there - preload / slope there).
        """
        light = 0.5 * PRELOAD
        soft, hard = float(np.mean(below / rise)), float(np.mean(above / rise))
        straight = float(rise.mean()) * hard
        self._apart[row] = 2.0 * (straight + light * (hard - soft))
        self._rolls[row] = 2.0 * straight / self._apart[row]

    def _sides(self) -> tuple[Array, Array]:
        """(left - right) / (left + right) of each row's slopes, and its error, shape (rows,).

        How much further one side gives than the other is the same whether both press or each
        alone, because what one press moves beneath the other finger is the same both ways.
        """
        left, right = self._travel[:, ::2], self._travel[:, 1::2]
        error = np.hypot(self._travel_error[:, ::2], self._travel_error[:, 1::2])
        known = np.isfinite(right - left)
        weight = np.where(known, error**-2.0, 0.0)
        sure = np.where(known[0], weight.sum(axis=0), np.nan)
        apart = np.where(known, weight * (right - left), 0.0).sum(axis=0) / sure
        return apart / self._apart, sure**-0.5 / self._apart

    @staticmethod
    def _judge(residual: Array, rise: Array, travels: Array, reached: bool) -> str:
        worst = float(residual.max())
        if not reached:
            return "the force interval was not reached"
        if worst > MAX_RESIDUAL:
            return f"poor fit: {1e3 * worst:.2f} mm RMS (moved or guarded)"
        slope = 2.0 * rise / np.maximum(travels, 1e-9)
        if not ((slope >= MIN_STIFFNESS) & (slope <= MAX_STIFFNESS)).all():
            return "slope outside what a back can be"
        return ""

    @property
    def measured(self) -> NDArray[np.bool_]:
        """Rows with a value, shape (rows,)."""
        return np.array([not reason for reason in self.reason])

    def map(self, place: SpinePlace) -> LevelMap | None:
        """Return the stiffness of all levels, or None when no row has a value."""
        if not self.measured.any():
            return None
        found = deconvolve(self._row_x, self._probes, place)
        difference, error = self._sides()
        # a row's difference belongs to another level when the levels lie elsewhere
        unsure = np.interp(self._row_x, found.x, [place.errors[v] for v in UP])
        apart = np.interp(self._row_x, found.x, np.gradient(found.x))
        error = np.hypot(error, SIDE * np.minimum(unsure / apart, 1.0))
        offset = self._offset * self._rolls
        return side_differences(self._row_x, offset, difference, error, found)

    def levels(self, found: LevelMap | None, place: SpinePlace) -> list[LevelEstimate]:
        """Return an estimate per level C1 … L5 and side, and of the neck's two regions."""
        if found is None:
            return self._refused(place)
        at = dict(zip(UP, found.x, strict=True))
        skew, skew_error = found.skew, found.skew_error
        error = found.value * np.sqrt(np.diag(found.covariance))
        result = []
        for level in LEVELS:
            i = UP.index(level)
            reason = self._unusable(level, at[level])
            half = found.value[i] / (2.0 * (1.0 - skew[i] ** 2))
            for side, value, spread in (
                ("both", found.value[i], error[i]),
                *(
                    (name, half * (1.0 + sign * skew[i]), half * skew_error[i])
                    for name, sign in (("left", 1.0), ("right", -1.0))
                ),
            ):
                if side != "both":
                    spread = float(np.hypot(spread, value / found.value[i] * error[i]))
                if reason:
                    value = spread = np.nan
                result.append(LevelEstimate(level, side, at[level], value, spread, reason))
        return result + self._neck(found)

    def _refused(self, place: SpinePlace) -> list[LevelEstimate]:
        at = place.levels
        return [
            LevelEstimate(v, side, at[v], np.nan, np.nan, self._unusable(v, at[v]))
            for v in LEVELS
            for side in ("both", "left", "right")
        ]

    def _neck(self, found: LevelMap) -> list[LevelEstimate]:
        result = []
        good = self._row_x[self.measured]
        for name, levels in NECK_REGIONS.items():
            i = [UP.index(v) for v in levels]
            x = float(found.x[i].mean())
            value = float(found.value[i].mean())
            share = found.value[i] / found.value[i].sum()
            spread = value * float(np.sqrt(share @ found.covariance[np.ix_(i, i)] @ share))
            reason = ""
            edges = np.array([found.x[i].min() - 0.01, found.x[i].max() + 0.01])
            if not ((good >= edges[0]) & (good <= edges[1])).any():
                reason = "no measured row under this region"
                value = spread = np.nan
            result.append(LevelEstimate(name, "both", x, value, spread, reason))
        return result

    def _unusable(self, level: str, at: float) -> str:
        if region_of(level) == "neck":
            return "not resolvable: rows are 46 mm apart, neck levels 15 to 18 mm"
        row_x = self._row_x
        if self.measured.any() and np.min(np.abs(row_x[self.measured] - at)) <= REACH:
            return ""
        if not row_x[0] - REACH <= at <= row_x[-1] + REACH:
            return "no row under this level"
        return self.reason[int(np.argmin(np.abs(row_x - at)))]
