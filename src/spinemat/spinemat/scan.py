"""A scan of the spine: which presses to ask for, and what their samples say.

`SpineScan.steps` yields one press after another; `take` evaluates each when it is over. First all
fingers rest on the back at two light forces (contour, breathing), then pairs far apart from one
another probe the stiffness together, so that one group fits into a quarter of a minute.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spinemat.anatomy import Intake, regions_at
from spinemat.breathing import estimate_breathing
from spinemat.contour import ContourEstimate, end_expiration, fit_contour, skin_height
from spinemat.layout import MatLayout
from spinemat.press_goal import RISE, PressGoal, Waveform
from spinemat.stiffness import INTERVAL, PRELOAD, LevelEstimate, ProbeFit, fit_probe, refused
from spinemat.stiffness import to_levels as rows_to_levels

Array = NDArray[np.float64]

LIGHT, FIRM = 1.5, 3.5  # N per finger
REST_TIME = 5.0  # s at each of them, more than one breath of 12 per minute
SETTLE_TIME = 0.8  # s after a change of force
SLOW, FAST = 0.005, 0.03  # m/s, approach to unknown and to known tissue
GROUP_SPACING = 5  # rows between pairs that probe together: 230 mm
PRECONDITION_RATE, PRECONDITION_CYCLES = 1.0, 2  # Hz
PRECONDITION_SHARE = 0.9  # of the interval's end: the tissue's stiffness is not known yet
RAMP_RATE = 0.15  # Hz: 5 s of loading
MARGIN = 0.4  # N per pair beyond the interval, so that its end is reached
GAP = 0.3  # s between presses: time for goals to travel, so that runs repeat exactly


class ScanRefused(RuntimeError):
    """The scan cannot go on; the message says why, for people."""


@dataclass(frozen=True)
class Step:
    """One press of the scan."""

    phase: str
    percent: float
    row: int
    goal: PressGoal


@dataclass(frozen=True)
class Outcome:
    """What a press reported; `contact` has the shape of the goal's fingers."""

    loaded_cycle: int
    end_cycle: int
    contact: NDArray[np.bool_]


class Samples:
    """Finger samples of one press, in order of their cycle."""

    def __init__(self) -> None:
        self._cycles: list[int] = []
        self._position: list[Array] = []
        self._force: list[Array] = []

    def add(self, cycle: int, position: Array, force: Array) -> None:
        """Keep a sample; arrays of shape (n,)."""
        self._cycles.append(cycle)
        self._position.append(position)
        self._force.append(force)

    def clear(self) -> None:
        """Forget everything."""
        self._cycles.clear()
        self._position.clear()
        self._force.clear()

    def window(self, first: int, last: int) -> tuple[NDArray[np.int64], Array, Array]:
        """Return cycles (m,), positions (m, n) and forces (m, n) from `first` to `last`."""
        cycles = np.array(self._cycles, dtype=np.int64)
        use = (cycles >= first) & (cycles <= last)
        if not use.any():
            raise ScanRefused("no samples of the fingers arrived")
        return cycles[use], np.array(self._position)[use], np.array(self._force)[use]


class SpineScan:
    """State of one scan of one person.

    Args:
        layout: the mat.
        intake: what is known about the person.
        expected: skin heights of an earlier scan, shape (n,), m, NaN unknown; allows to go fast.
    """

    def __init__(self, layout: MatLayout, intake: Intake, expected: Array | None = None) -> None:
        n = layout.n
        self._layout = layout
        self._intake = intake
        self._regions = self._careful_regions()
        self._known = expected if expected is not None else np.full(n, np.nan)
        self.height = np.full(n, np.nan)
        self.contour: ContourEstimate | None = None
        self.breath_rate = np.nan
        self._light: tuple[Array, Array, Array] | None = None
        rows = len(layout.rows)
        self._fits: dict[str, list[ProbeFit]] = {
            side: [refused("not probed")] * rows for side in ("both", "left", "right")
        }
        self._step: Step | None = None

    def _careful_regions(self) -> list[str]:
        """Per finger, the more delicate of the layout's and the person's region."""
        order = {"neck": 0, "thoracic": 1, "lumbar": 2}
        believed = regions_at(self._layout.x, self._intake.stature)
        pairs = zip(self._layout.regions, believed, strict=True)
        return [min(pair, key=lambda region: order[region]) for pair in pairs]

    def steps(self, start_cycle: int, stiffness: bool) -> Iterator[Step]:
        """Yield the presses one by one; call `take` with each outcome before the next.

        Args:
            start_cycle: drive cycle of the first press, 0 for at once.
            stiffness: false for the contour only.
        """
        fingers = np.arange(self._layout.n)
        self._next = start_cycle
        known = bool(np.isfinite(self._known).all())
        whole = 0.25 if stiffness else 1.0
        yield self._keep("contour", 0.0, 0, self._rest(fingers, LIGHT, True, known))
        touched = fingers[np.isfinite(self.height)]
        if touched.size == 0:
            raise ScanRefused("no finger found contact: is anybody on the mat?")
        yield self._keep("contour", 50.0 * whole, 0, self._rest(touched, FIRM, False, known))
        if not stiffness:
            return
        groups = self._groups()
        for i, rows in enumerate(groups):
            percent = 25.0 + 75.0 * i / len(groups)
            yield self._keep("precondition", percent, rows[0], self._probe(rows, False))
            yield self._keep("stiffness", percent, rows[0], self._probe(rows, True))

    def _keep(self, phase: str, percent: float, row: int, goal: PressGoal) -> Step:
        self._step = Step(phase, percent, row, goal)
        return self._step

    def _rest(
        self, fingers: NDArray[np.int64], force: float, hold: bool, known: bool
    ) -> PressGoal:
        k = fingers.size
        return PressGoal(
            waveform=Waveform.CONTACT,
            fingers=fingers,
            preload=np.full(k, force),
            amplitude=np.zeros(k),
            phase=np.zeros(k),
            rate=0.0,
            duration=REST_TIME,
            approach_speed=FAST if known else SLOW,
            expected=self._known[fingers],
            hold_after=hold,
            start_cycle=self._next,
            mass=self._intake.mass,
        )

    def _groups(self) -> list[list[int]]:
        good = np.isfinite(self.height.reshape(-1, 2)).all(axis=1)
        rows = range(len(self._layout.rows))
        groups = [
            [r for r in rows if r % GROUP_SPACING == first and good[r]]
            for first in range(GROUP_SPACING)
        ]
        for row in rows:
            if not good[row]:
                self._refuse(row, "no contact")
        return [group for group in groups if group]

    def _refuse(self, row: int, reason: str) -> None:
        for fits in self._fits.values():
            fits[row] = refused(reason)

    def _probe(self, rows: list[int], ramp: bool) -> PressGoal:
        fingers = np.array([2 * r + side for r in rows for side in (0, 1)], dtype=np.int64)
        k = fingers.size
        top = np.array([0.5 * (INTERVAL[self._regions[f]][1] + MARGIN) for f in fingers])
        top *= 1.0 if ramp else PRECONDITION_SHARE
        preload = np.full(k, 0.5 * PRELOAD)
        rate = RAMP_RATE if ramp else PRECONDITION_RATE
        return PressGoal(
            waveform=Waveform.RAMP if ramp else Waveform.RAISED_COSINE,
            fingers=fingers,
            preload=preload,
            amplitude=top - preload,
            phase=np.zeros(k),
            rate=rate,
            duration=(1 if ramp else PRECONDITION_CYCLES) / rate,
            approach_speed=FAST,
            expected=self.height[fingers],
            hold_after=not ramp,
            start_cycle=self._next,
            mass=self._intake.mass,
        )

    def take(self, outcome: Outcome, samples: Samples) -> None:
        """Evaluate the press of the latest step."""
        assert self._step is not None
        goal = self._step.goal
        self._next = outcome.end_cycle + round(GAP / self._layout.cycle)
        if goal.waveform is Waveform.CONTACT:
            self._take_rest(goal, outcome, samples)
        elif goal.waveform is Waveform.RAMP:
            self._take_ramp(goal, outcome, samples)

    def _take_rest(self, goal: PressGoal, outcome: Outcome, samples: Samples) -> None:
        settle = round(SETTLE_TIME / self._layout.cycle)
        hold = round(REST_TIME / self._layout.cycle)
        start = outcome.loaded_cycle
        cycles, position, force = samples.window(start + settle, start + hold)
        height = np.full(self._layout.n, np.nan)
        felt = np.full(self._layout.n, np.nan)
        k = goal.fingers[outcome.contact]
        height[k] = end_expiration(position[:, k])
        felt[k] = force[:, k].mean(axis=0)
        if self._light is None:
            self._light = (height, felt, position[:, k].mean(axis=1))
            self.height = height
            self._light_cycles = cycles
            return
        light, light_force, light_signal = self._light
        self.height = skin_height(light, height, light_force, felt)
        firm_signal = position[:, k].mean(axis=1)
        self._find_breath(cycles, light_signal, firm_signal)
        pairs = self.height.reshape(-1, 2)
        rows = pairs.shape[0]
        self.contour = fit_contour(
            self._layout.row_x,
            pairs[:, 0],
            pairs[:, 1],
            np.full(rows, 0.0005),
            self._intake.stature,
        )

    def _find_breath(self, cycles: NDArray[np.int64], light: Array, firm: Array) -> None:
        """Join the two rests, whose levels differ, into one record of breathing."""
        t = np.concatenate([self._light_cycles, cycles]) * self._layout.cycle
        signal = np.concatenate([light, firm])
        part = np.repeat([0, 1], [light.size, firm.size])
        found = estimate_breathing(t, signal, part)
        if found is not None and found.valid:
            self.breath_rate = found.rate

    def _take_ramp(self, goal: PressGoal, outcome: Outcome, samples: Samples) -> None:
        up = round(RISE / goal.rate / self._layout.cycle)
        cycles, position, force = samples.window(outcome.loaded_cycle, outcome.loaded_cycle + up)
        t = np.asarray(cycles * self._layout.cycle, dtype=np.float64)
        contact = dict(zip(goal.fingers.tolist(), outcome.contact.tolist(), strict=True))
        for left in goal.fingers[::2]:
            row, pair = int(left) // 2, [int(left), int(left) + 1]
            if not (contact[pair[0]] and contact[pair[1]]):
                self._refuse(row, "contact was lost")
                continue
            low, high = INTERVAL[self._regions[left]]
            z, f = position[:, pair], force[:, pair]
            self._fits["both"][row] = fit_probe(
                t, f.sum(axis=1), z.mean(axis=1), (low, high), self.breath_rate
            )
            half = (0.5 * low, 0.5 * high)
            for side, i in (("left", 0), ("right", 1)):
                self._fits[side][row] = fit_probe(t, f[:, i], z[:, i], half, self.breath_rate)

    def levels(self) -> list[LevelEstimate]:
        """Return the stiffness of every level and side."""
        return rows_to_levels(self._layout.row_x, self._fits, self._intake.stature)

    def finger_stiffness(self) -> tuple[Array, Array]:
        """Return linear and toe slope under each finger, shape (n,), N/m; NaN unknown."""
        linear = np.full(self._layout.n, np.nan)
        toe = np.full(self._layout.n, np.nan)
        for side, first in (("left", 0), ("right", 1)):
            linear[first::2] = [fit.slope for fit in self._fits[side]]
            toe[first::2] = [fit.toe for fit in self._fits[side]]
        return linear, toe
