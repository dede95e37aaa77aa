"""A scan of the spine: which presses to ask for, and what their samples say.

`SpineScan.steps` yields one press after another; `take` evaluates each when it is over. First all
fingers rest on the back at two light forces (contour, levels, breathing), then pairs far apart
from one another probe the stiffness together while all other fingers stay in touch and feel how
the back moves.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from spinemat.anatomy import Intake, regional_sums, regions_at
from spinemat.back_model import UP, rows_beside
from spinemat.breathing import BreathingEstimate
from spinemat.contour import (
    METHOD,
    MIN_ROWS,
    WITHOUT_BREATH,
    ContourEstimate,
    expected_place,
    fit_contour,
    skin_height,
)
from spinemat.deconvolution import LevelMap
from spinemat.errors import InvalidInput
from spinemat.findings import Findings, findings
from spinemat.layout import MatLayout
from spinemat.press_goal import GAP, RISE, PressGoal, Waveform
from spinemat.row_reading import expecting, into_neck, read_rows
from spinemat.segments import Segment, SegmentFit, breathing_over, fit_segments
from spinemat.stiffness import (
    INTERVAL,
    PRELOAD,
    LevelEstimate,
    RowProbes,
)
from spinemat.stillness import movement

Array = NDArray[np.float64]

LIGHT, FIRM = 1.5, 3.0  # N per finger
FREE = 0.25  # N, a finger that feels less has lost the back …
FREE_SHARE = 0.2  # … if it does so for this share of a press (engineering choice)
LIGHT_TIME, FIRM_TIME = 2.4, 3.2  # s at each of them: together more than one breath and a half
SETTLE_TIME = 0.5  # s after a change of force
LEAST_PROBE = 1.0  # N over the preload: a probe that may press less is left out (choice)
LEAST_REST = 0.6  # N per finger, lightest rest (engineering choice)
SLOW, FAST = 0.005, 0.03  # m/s, approach to unknown and to known tissue
GROUP_SPACING = 5  # rows between pairs that probe together: 230 mm
PRECONDITION_RATE, PRECONDITION_CYCLES = 1.5, 2  # Hz
PRECONDITION_SHARE = 0.9  # of the interval's end: the tissue's stiffness is not known yet
RAMP_RATE = 0.21  # Hz: 3.6 s of loading
THINKING = 1.0  # s of drive time in which a map is made from what was felt
STAGGER = 0.4  # s by which every other group comes later, so that breaths do not keep step
LOST = 0.34  # of the fingers that lose contact at once: nobody lies there (engineering choice)
NOBODY = "no finger found contact: is anybody on the mat?"
RESTING_TOE = 2500.0  # N/m under a finger at rest (engineering choice)
BREATH_ERROR, NO_BREATH_ERROR = 0.0004, 0.0010  # m, of a row's height (engineering choice)


class ScanRefused(RuntimeError):
    """The scan cannot go on; the message says why, for people."""


class PersonMoved(ScanRefused):
    """The person moved: what was felt so far no longer holds."""


@dataclass(frozen=True)
class Step:
    """One press of the scan."""

    phase: str
    percent: float
    row: int
    goal: PressGoal


@dataclass(frozen=True)
class Outcome:
    """What a press reported.

    Attributes:
        loaded_cycle, end_cycle: drive cycles between which the goal's forces were held.
        contact: of the goal's fingers, shape of these.
        tense: fingers of the mat around which muscles tensed meanwhile (`reactions`).
        moved: how the person was felt to move meanwhile, for people; empty: not at all.
    """

    loaded_cycle: int
    end_cycle: int
    contact: NDArray[np.bool_]
    tense: tuple[int, ...] = ()
    moved: str = ""


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
        full: probe every row alone, and each side alone, instead of several rows at once.
        share: of a probe's force that each level may get, L5 first, shape (24,), 0 to 1; None: all
            of it. Rows beside a level that may hardly be pressed only rest on the back.

    Raises:
        InvalidInput: `share` has another shape, or values outside 0 to 1.
    """

    def __init__(
        self,
        layout: MatLayout,
        intake: Intake,
        expected: Array | None = None,
        full: bool = False,
        share: Array | None = None,
    ) -> None:
        n = layout.n
        share = np.ones(len(UP)) if share is None else share
        if share.shape != (len(UP),) or not ((share >= 0.0) & (share <= 1.0)).all():
            raise InvalidInput("share", share.tolist(), f"{len(UP)} values of 0 to 1, L5 … C1")
        self._share = share
        self._layout = layout
        self._intake = intake
        self._full = full
        self._known = expected if expected is not None else np.full(n, np.nan)
        self.place = expected_place(intake)
        self.height = np.full(n, np.nan)
        self.contour: ContourEstimate | None = None
        self.breath: BreathingEstimate | None = None
        self._segments: list[Segment] = []
        self._tense = np.zeros(n, dtype=bool)  # in the ramp at hand and the loads before it
        self._felt: list[Array] = []  # mean force in each rest, shape (n,), N
        self._left: dict[int, str] = {}  # rows that are not probed, and why
        self._probes: RowProbes | None = None
        self._map: LevelMap | None = None
        self._step: Step | None = None

    @property
    def breath_rate(self) -> float:
        """Hz; NaN while not known."""
        return self.breath.rate if self.breath is not None else np.nan

    def _careful_regions(self) -> list[str]:
        """Per finger, the more delicate of the layout's and the person's region."""
        order = {"neck": 0, "thoracic": 1, "lumbar": 2}
        margin = max(2.0 * self.place.errors["C7"], 0.005)
        believed = regions_at(self._layout.x, self.place.levels, margin)
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
        whole = 0.3 if stiffness else 1.0
        yield self._keep("contour", 0.0, 0, self._rest(fingers, LIGHT, LIGHT_TIME, True))
        touched = self._touched()
        firm = self._bearable(touched, FIRM)
        yield self._keep(
            "contour", 50.0 * whole, 0, self._rest(touched, firm, FIRM_TIME, stiffness)
        )
        if not stiffness:
            return
        groups = self._groups()
        for i, pressed in enumerate(groups):
            percent, row = 30.0 + 70.0 * i / len(groups), pressed[0] // 2
            last = i == len(groups) - 1
            self._next += round((i % 2) * STAGGER / self._layout.cycle)
            yield self._keep("precondition", percent, row, self._probe(pressed, False, True))
            yield self._keep("stiffness", percent, row, self._probe(pressed, True, not last))

    def _keep(self, phase: str, percent: float, row: int, goal: PressGoal) -> Step:
        self._step = Step(phase, percent, row, goal)
        return self._step

    def _touched(self) -> NDArray[np.int64]:
        return np.flatnonzero(np.isfinite(self.height))

    def _bearable(self, fingers: NDArray[np.int64], force: float) -> float:
        """A force per finger that no region is too light for, N."""
        regions = np.array(self._layout.regions)[fingers]
        for region, allowed in regional_sums(self._intake.mass).items():
            force = min(force, 0.95 * allowed / max(int((regions == region).sum()), 1))
        return force

    def _rest(
        self, fingers: NDArray[np.int64], force: float, seconds: float, hold: bool
    ) -> PressGoal:
        k = fingers.size
        known = bool(np.isfinite(self._known).all())
        return PressGoal(
            waveform=Waveform.CONTACT,
            fingers=fingers,
            preload=np.full(k, force),
            amplitude=np.zeros(k),
            phase=np.zeros(k),
            rate=0.0,
            duration=seconds,
            approach_speed=FAST if known else SLOW,
            expected=self._known[fingers],
            hold_after=hold,
            start_cycle=self._next,
            mass=self._intake.mass,
        )

    def _groups(self) -> list[list[int]]:
        """Fingers that probe together: pairs far apart; in a full scan each pair, then sides."""
        good = np.isfinite(self.height.reshape(-1, 2)).all(axis=1)
        n = len(self._layout.rows)
        self._left = {row: "no contact" for row in range(n) if not good[row]}
        spared = self._strength()[::2] < 0.5 * PRELOAD + LEAST_PROBE
        self._left |= {row: "spared" for row in np.flatnonzero(good & spared).tolist()}
        good &= ~spared
        spacing = n if self._full else GROUP_SPACING
        rows = [[r for r in range(f, n, spacing) if good[r]] for f in range(spacing)]
        groups = [[2 * r + side for r in group for side in (0, 1)] for group in rows]
        if self._full:  # a row's left with the right of one half a back away, then the others
            couples = [(r, r + n // 2) for r in range(n // 2)] + [(n - 1,)] * (n % 2)
            groups += [
                [2 * r + (side + i) % 2 for i, r in enumerate(couple) if good[r]]
                for couple in couples
                for side in (0, 1)
            ]
        return [group for group in groups if group]

    def _strength(self) -> Array:
        """What a probe presses with each finger of a person who is heavy enough, shape (n,), N."""
        end = [INTERVAL[region][1] for region in self._careful_regions()]
        top = 0.5 * np.array(end)
        levels = np.array([self.place.levels[v] for v in UP])
        beside = rows_beside(self._layout.row_x, levels)
        share = np.repeat(np.where(beside, self._share, 1.0).min(axis=1), 2)
        return np.asarray(np.minimum(top, 0.97 * self._layout.press_limit) * share)

    def _probe(self, pressing: list[int], ramp: bool, hold: bool) -> PressGoal:
        """Press some fingers; every other one that touches rests at a light force."""
        fingers = self._touched()
        pressed = np.isin(fingers, pressing)
        top = self._strength()[fingers] * pressed
        rest = np.full(fingers.size, 0.5 * PRELOAD)
        regions = np.array(self._layout.regions)[fingers]
        for region, allowed in regional_sums(self._intake.mass).items():
            mine, idle = (regions == region) & pressed, (regions == region) & ~pressed
            room = 0.97 * allowed - LEAST_REST * idle.sum()
            if mine.any():
                top[mine] *= min(1.0, room / top[mine].sum())
            if idle.any():
                free = (0.97 * allowed - top[mine].sum()) / idle.sum()
                rest[idle] = np.clip(free, LEAST_REST, rest[idle])
        amplitude = np.maximum(top - rest, 0.0) * (1.0 if ramp else PRECONDITION_SHARE) * pressed
        rate = RAMP_RATE if ramp else PRECONDITION_RATE
        return PressGoal(
            waveform=Waveform.RAMP if ramp else Waveform.RAISED_COSINE,
            fingers=fingers,
            preload=rest,
            amplitude=amplitude,
            phase=np.zeros(fingers.size),
            rate=rate,
            duration=(1 if ramp else PRECONDITION_CYCLES) / rate,
            approach_speed=FAST,
            expected=self.height[fingers],
            hold_after=hold,
            start_cycle=self._next,
            mass=self._intake.mass,
        )

    def take(self, outcome: Outcome, samples: Samples) -> None:
        """Evaluate the press of the latest step.

        Raises:
            PersonMoved: fingers no longer rest where they did.
            ScanRefused: the press left no samples.
        """
        assert self._step is not None
        goal = self._step.goal
        if not self._segments and not outcome.contact.any():
            raise ScanRefused(NOBODY)
        self._next = outcome.end_cycle + round(GAP / self._layout.cycle)
        if self._segments and outcome.moved:
            raise PersonMoved(outcome.moved)
        lost = int((~outcome.contact).sum())
        if self._segments and lost > LOST * goal.fingers.size:
            raise PersonMoved(f"the person moved: {lost} fingers lost the back")
        if goal.waveform is not Waveform.RAMP:
            self._tense[:] = False
        self._tense[list(outcome.tense)] = True
        if goal.waveform is Waveform.CONTACT:
            self._take_rest(goal, outcome, samples)
        elif goal.waveform is Waveform.RAMP:
            self._take_ramp(goal, outcome, samples)

    def _take_rest(self, goal: PressGoal, outcome: Outcome, samples: Samples) -> None:
        first = outcome.loaded_cycle + round(SETTLE_TIME / self._layout.cycle)
        last = outcome.loaded_cycle + round(goal.duration / self._layout.cycle)
        segment, force = self._segment(goal, outcome, samples.window(first, last))
        self._segments.append(segment)
        self._felt.append(np.where(np.isfinite(segment.height[0]), force.mean(axis=0), np.nan))
        self.height = self._resting = segment.height.mean(axis=0)
        if len(self._felt) == 2:
            self._find_contour()

    def _segment(
        self, goal: PressGoal, outcome: Outcome, window: tuple[NDArray[np.int64], Array, Array]
    ) -> tuple[Segment, Array]:
        """One press as a segment, and the forces felt in it, shape (m, n)."""
        cycles, position, force = window
        n = self._layout.n
        rise, rest, part = np.zeros(n), np.zeros(n), np.zeros(n, dtype=bool)
        part[goal.fingers[outcome.contact]] = True
        rise[goal.fingers], rest[goal.fingers] = goal.amplitude, goal.preload
        push = np.zeros_like(force)
        pressed, idle = part & (rise > 0.0), part & (rise == 0.0)
        if pressed.any():
            push[:, pressed] = (force - rest)[:, pressed] / rise[pressed]
            push[:, idle] = push[:, pressed].mean(axis=1, keepdims=True)
        height = np.where(part, position, np.nan)
        # a finger at rest moves a little against the skin when its force is not quite steady
        height[:, idle] -= (force - force.mean(axis=0))[:, idle] / RESTING_TOE
        t = np.asarray(cycles * self._layout.cycle, dtype=float)
        segment = Segment(t, height, push, np.ones(n), rise, self._tense.copy())
        return expecting(segment, into_neck(self._layout.x, self.place) >= 0.0), force

    def _find_contour(self) -> None:
        """Find the contour from both rests, or say why there is none."""
        self.breath = breathing_over(self._segments)
        fits = fit_segments(self._segments, self.breath)
        self.height, self.contour = self._unloaded(fits)
        self.place = self.contour.place
        if not self.contour.x.size:
            felt = int(np.isfinite(self.height.reshape(-1, 2)).all(axis=1).sum())
            raise ScanRefused(
                f"only {felt} rows feel a back, {MIN_ROWS} are needed: does somebody lie on the"
                " whole mat?"
            )
        if self.contour.doubt:
            raise ScanRefused(f"nothing is measured here: {self.contour.doubt}")

    def _unloaded(self, fits: Sequence[SegmentFit]) -> tuple[Array, ContourEstimate]:
        """Skin without load, shape (n,), m, and its contour, from the first two stretches."""
        light, firm = (fit.height for fit in fits[:2])
        error, method = BREATH_ERROR, ContourEstimate.method
        if self.breath is None:  # the highest point of each rest is near end-expiration
            light, firm = (np.quantile(s.height, 0.95, axis=0) for s in self._segments[:2])
            error, method = NO_BREATH_ERROR, METHOD.format(breath=WITHOUT_BREATH)
        height = skin_height(light, firm, *self._felt)
        left, right = height.reshape(-1, 2).T
        noise = np.full(left.size, error)
        contour = fit_contour(self._layout.row_x, left, right, noise, self._intake)
        return height, replace(contour, method=method)

    def _take_ramp(self, goal: PressGoal, outcome: Outcome, samples: Samples) -> None:
        up = round(RISE / goal.rate / self._layout.cycle)
        window = samples.window(outcome.loaded_cycle, outcome.loaded_cycle + up)
        segment, force = self._segment(goal, outcome, window)
        self._look_for_movement(segment)
        segment.height[:, np.quantile(force, FREE_SHARE, axis=0) < FREE] = np.nan
        self._segments.append(segment)
        self._probes = self._map = None

    def _look_for_movement(self, segment: Segment) -> None:
        """Compare the fingers at rest with where they rested before."""
        still = np.flatnonzero((segment.rise == 0.0) & np.isfinite(segment.height[0]))
        first = max(1, round(SETTLE_TIME / (segment.t[1] - segment.t[0])))
        way = segment.height[:first, still].mean(axis=0) - self._resting[still]
        moved = movement(self._layout.x[still], way, self.contour)
        if moved:
            raise PersonMoved(moved)

    @property
    def probes(self) -> RowProbes:
        """What the ramps so far say row by row."""
        if self._probes is None:
            self.breath = breathing_over(self._segments)
            fits = fit_segments(self._segments, self.breath)
            self._sharpen(fits)
            self._probes, self._map = read_rows(
                self._layout, self._segments, fits, self.breath, self.place, self._left
            )
        return self._probes

    def _sharpen(self, fits: Sequence[SegmentFit]) -> None:
        """Find the contour again: over the whole scan the breath is known better."""
        _, contour = self._unloaded(fits)
        if contour.x.size and not contour.doubt:
            self.contour, self.place = contour, contour.place

    @property
    def map(self) -> LevelMap | None:
        """Stiffness of all levels as one; None when no row has a value."""
        probes = self.probes
        if self._map is None:
            self._map = probes.map(self.place)
        return self._map

    def findings(self) -> Findings | None:
        """Return what stands out; None when no row has a value."""
        if self.map is None:
            return None
        valid = {e.level for e in self.levels() if e.valid}
        return findings(self.map, np.array([v in valid for v in UP]))

    def levels(self) -> list[LevelEstimate]:
        """Return the stiffness of every level and side, and of the neck's regions."""
        return self.probes.levels(self.map, self.place)

    def finger_stiffness(self) -> tuple[Array, Array]:
        """Return linear and toe slope under each finger, shape (n,), N/m; NaN unknown."""
        return self.probes.linear, self.probes.toe

    def toe_end(self) -> Array:
        """Return the force at which the toe ends under each finger, shape (n,), N; NaN unknown."""
        return 0.5 * PRELOAD + self.probes.corner
