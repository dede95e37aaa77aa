"""Posteroanterior stiffness: from slow ramps of finger pairs to vertebral levels.

Definition, printed beside every number (`METHOD`): slope of the pair's force over its mean
indentation, loading, quasi-static, after two preconditioning cycles, 5 N preload, from the end of
the toe (looked for about 20 N per pair in the trunk and 7 N in the neck) to 38 and 18 N. Published
values were measured prone, from above.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from spinemat.anatomy import LEVELS, NECK, region_of
from spinemat.back_model import UP
from spinemat.contour import SpinePlace
from spinemat.deconvolution import SIDE, LevelMap, Probe, deconvolve, side_differences

if TYPE_CHECKING:  # they bring an optimiser, which who reads a level does not need
    from spinemat.segments import Segment, SegmentFit

Array = NDArray[np.float64]

PRELOAD = 5.0  # N per pair
INTERVAL = {"neck": (7.0, 18.0), "thoracic": (20.0, 38.0), "lumbar": (20.0, 38.0)}  # N per pair
PROBE_LIMIT = {"neck": 10.0, "thoracic": 20.0, "lumbar": 20.0}  # N per finger, never exceeded
LEAST_INTERVAL = 6.0  # N of it that must be reached (engineering choice)
MIN_STIFFNESS, MAX_STIFFNESS = 1000.0, 60000.0  # N/m per pair: outside is not a back
MAX_RESIDUAL = 0.00025  # m, RMS of the fit: above it the person moved (engineering choice)
FELT_AROUND = 2  # rows beside a pressed one that feel most of it (engineering choice)
MAX_MISFIT = 1.0  # of a map's movements over their errors; usual are 0.3 to 0.5 (choice)
# Travel at rest over what a ramp of 3.6 s shows of it: creep that is still to come. Read in the
# simulated plant, whose loss factor is 0.2, against the laboratory's indenter (a test)
TO_COME = 1.02
REACH = 0.030  # m, a level further than this from any measured row is not reported
NECK_REGIONS = {"lower neck": NECK[4:], "upper neck": NECK[:4]}
METHOD = (
    "loading slope of pair force over mean indentation after two preconditioning cycles, preload"
    " 5 N, quasi-static ramp, read from the end of the toe (looked for about 20 N per pair; neck"
    " 7 N) to 38 N (neck 18 N) or to what the person bears, 2 %"
    " of travel added for creep to come, at end-expiration (breathing"
    " removed by a fit of three harmonics), supine, from below; rows to levels by the most"
    " plausible compliance matrix (neighbours rest at a light force and feel the movement);"
    " single sides: force of one finger over its own indentation while both press and, in a full"
    " scan, while it presses alone"
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
        """Note why a row has no value; what it moved when it was pressed is not used."""
        self.reason[row] = reason
        pair = [2 * row, 2 * row + 1]
        for known in (self.linear, self.toe, self.corner, self._travel, self._travel_error):
            known[..., pair] = np.nan
        for probe in self._probes:
            if probe.force[row] > 0.0:
                probe.travel[row] = np.nan

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
            in_toe: fingers under which only the toe can be told, shape (n,).
        """
        rows, rise = self._row_x.size, ramp.rise
        pairs = (rise > 0.0).reshape(-1, 2)
        tense = ramp.guarded[::2] | ramp.guarded[1::2]  # rows
        if (pairs.any(axis=1) & ~pairs.all(axis=1)).any():
            self._add_alone(ramp, fit, in_toe)
            return
        force, travel, error = np.zeros(rows), np.full(rows, np.nan), np.full(rows, np.nan)
        toe = np.zeros(rows, dtype=bool)
        reached = in_toe | (ramp.push.max(axis=0) > 0.9)
        lost = np.isnan(fit.height).reshape(-1, 2).any(axis=1)
        gone = np.flatnonzero(pairs.all(axis=1) & lost)
        for row in range(rows):
            pair = [2 * row, 2 * row + 1]
            pressed = bool((rise[pair] > 0.0).all())
            if pressed and np.isnan(fit.height[pair]).any():
                self.reason[row] = "lifted: contact was lost"
            elif pressed and tense[row]:
                self.reason[row] = "guarded: muscles tensed under the probe"
            if pressed:  # its neighbours feel it, whatever is known of its own movement
                force[row] = rise[pair].sum()
            if np.isnan(fit.height[pair]).any() or tense[row]:
                continue
            if not pressed and (np.abs(gone - row) <= FELT_AROUND).any():
                continue  # how hard that row was pressed is not known
            if pressed:
                toe[row] = bool(in_toe[pair].all())
                travels = (fit.below if toe[row] else fit.above)[pair]
                whole = bool(reached[pair].all())
                self.reason[row] = self._judge(fit.residual[pair], rise[pair], travels, whole)
                if self.reason[row]:
                    continue
                self.linear[pair] = rise[pair] / travels
                self.toe[pair] = rise[pair] / (travels if toe[row] else fit.below[pair])
                self.corner[pair] = rise[pair] * fit.corner[pair]
                self._travel[0, pair] = fit.total[pair]
                self._travel_error[0, pair] = fit.total_error[pair]
                self._see_sides(row, rise[pair], fit.below[pair], travels)
            elif (fit.residual[pair] > MAX_RESIDUAL).any():
                continue
            else:
                travels = fit.above[pair]
            travel[row] = TO_COME * travels.mean()
            error[row] = 0.5 * np.hypot(*(fit.total_error if toe[row] else fit.error)[pair])
        self._probes.append(Probe(force, travel, error, toe))

    def _add_alone(self, ramp: Segment, fit: SegmentFit, in_toe: NDArray[np.bool_]) -> None:
        reached = ~in_toe & (ramp.push.max(axis=0) > 0.9) & (fit.residual <= MAX_RESIDUAL)
        use = (ramp.rise > 0.0) & reached & ~ramp.guarded
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
        if found.misfit > MAX_MISFIT:
            return self._refused(place, "poor fit: this back does not move as the model expects")
        at = dict(zip(UP, found.x, strict=True))
        skew, skew_error, resolved = found.skew, found.skew_error, found.sides_resolved
        error = found.value * np.sqrt(np.diag(found.covariance))
        result = []
        for level in LEVELS:
            i = UP.index(level)
            reason = self._unusable(level, at[level])
            unfelt = (
                "not resolvable: rows beside this level do not tell its sides apart"
                if not resolved[i]
                else ""
            )
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
                why = reason or (unfelt if side != "both" else "")
                if why:
                    value = spread = np.nan
                result.append(LevelEstimate(level, side, at[level], value, spread, why))
        return result + self._neck(found)

    def _refused(self, place: SpinePlace, why: str = "") -> list[LevelEstimate]:
        at = place.levels
        result = [
            LevelEstimate(v, side, at[v], np.nan, np.nan, why or self._unusable(v, at[v]))
            for v in LEVELS
            for side in ("both", "left", "right")
        ]
        for name, levels in NECK_REGIONS.items():
            x = float(np.mean([at[v] for v in levels]))
            reason = why or "no measured row under this region"
            result.append(LevelEstimate(name, "both", x, np.nan, np.nan, reason))
        return result

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
