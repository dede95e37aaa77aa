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
LEAST_TISSUE = 0.2  # of what a pair gives way, at least, is its tissue (engineering choice)
REACH = 0.030  # m, a level further than this from any measured row is not reported
NECK_REACH = 0.020  # m, the same for a region of the neck, whose levels are closer together
NO_ROW = "no measured row under or beside this region"
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
        # under each finger, N/m, and the rise of force at which the toe ended, N; NaN: not felt
        self.linear, self.toe, self.corner = np.full((3, 2 * rows), np.nan)
        # travel of each finger and its error, m: with its neighbour, and alone; in the whole ramp,
        # and in one that all goes on as beyond the toe
        self._travel, self._travel_error = np.full((2, 2, 2, 2 * rows), np.nan)
        # travel of a finger of each row's pair per force, in the toe and beyond it, m/N; its force
        self._soft, self._hard, self._rise = np.full((3, rows), np.nan)
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
                self.toe[pair] = rise[pair] / fit.below[pair]
                if not toe[row]:  # beyond it nothing was felt
                    self.linear[pair] = rise[pair] / travels
                    self.corner[pair] = rise[pair] * fit.corner[pair]
                self._rise[row] = rise[pair].mean()
                self._soft[row] = np.mean(fit.below[pair] / rise[pair])
                self._hard[row] = np.mean(travels / rise[pair])
                self._see_sides(0, pair, fit, bool(toe[row]))
            elif (fit.residual[pair] > MAX_RESIDUAL).any():
                continue
            else:
                travels = fit.above[pair]
            travel[row] = TO_COME * travels.mean()
            error[row] = 0.5 * np.hypot(*(fit.total_error if toe[row] else fit.error)[pair])
        self._probes.append(Probe(force, travel, error, toe))

    def _add_alone(self, ramp: Segment, fit: SegmentFit, in_toe: NDArray[np.bool_]) -> None:
        reached = ~in_toe & (ramp.push.max(axis=0) > 0.9) & (fit.residual <= MAX_RESIDUAL)
        self._see_sides(1, (ramp.rise > 0.0) & reached & ~ramp.guarded, fit, toe=False)

    def _see_sides(
        self, alone: int, use: list[int] | NDArray[np.bool_], fit: SegmentFit, toe: bool
    ) -> None:
        """Note how far fingers travelled, with their neighbours or alone."""
        for reading, travel, error in (
            (0, fit.total, fit.total_error),
            (1, fit.above, fit.error),
        ):
            if not (toe and reading == 1):  # nothing was seen beyond the toe
                self._travel[alone, reading, use] = travel[use]
                self._travel_error[alone, reading, use] = error[use]

    def _with_sides(self, found: LevelMap, place: SpinePlace) -> LevelMap:
        """A map with what is known of sides.

        A side that is stiffer by a share is taken to be so in its tissue, in the toe and beyond
        it: the force for every travel of the tissue is larger by that share. So its travel from
        the preload to the end of the ramp is shorter by the share times (end force / slope there
        - preload / slope there), which is next to nothing where the ramp ends soon after the toe.
        There the slope beyond the toe tells more; of both, the one is taken that tells most. How
        much further one side gives than the other is the same whether both press or each alone,
        because what one press moves beneath the other finger is the same both ways.
        """
        body = 2.0 * found.body  # per force of a finger while both press
        tissue = np.maximum(self._hard - body, LEAST_TISSUE * self._hard)
        toe = np.maximum(self._soft - body, tissue)
        light, straight = 0.5 * PRELOAD, self._rise * self._hard
        whole = (light + self._rise) * tissue - light * toe
        gains = 2.0 * np.array([self._hard / tissue * whole, straight])
        left, right = self._travel[..., ::2], self._travel[..., 1::2]
        error = np.hypot(self._travel_error[..., ::2], self._travel_error[..., 1::2])
        difference = right - left
        worth = np.nan_to_num(np.abs(gains) / error, nan=-1.0)
        best = worth.argmax(axis=1)[:, None]
        gain = np.take_along_axis(np.broadcast_to(gains, worth.shape), best, 1)[:, 0]
        difference, error = (np.take_along_axis(v, best, 1)[:, 0] for v in (difference, error))
        # a row's difference belongs to another level when the levels lie elsewhere
        unsure = np.interp(self._row_x, found.x, [place.errors[v] for v in UP])
        apart = np.interp(self._row_x, found.x, np.gradient(found.x))
        error = np.hypot(error, gain * SIDE * np.minimum(unsure / apart, 1.0))
        known = np.isfinite(difference + error)
        at, offset, straight = (
            np.broadcast_to(v, known.shape)[known] for v in (self._row_x, self._offset, straight)
        )
        gain, difference, error = gain[known], difference[known], error[known]
        return side_differences(at, offset, straight, gain, difference, error, found)

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
        return self._with_sides(deconvolve(self._row_x, self._probes, place), place)

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
            reason = why or NO_ROW
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
            low, high = found.x[i].min() - NECK_REACH, found.x[i].max() + NECK_REACH
            if not ((good >= low) & (good <= high)).any():
                reason = NO_ROW
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
