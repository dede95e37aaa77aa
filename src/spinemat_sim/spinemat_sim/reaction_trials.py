"""Breathing, guarding, movement and presence as they are felt, beside the truth.

Controller, drive stage, noisy plant and the watches of the sensing node in one process, without
ROS. The functions run one person each and are called in parallel processes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spinemat.breathing import BreathWatch
from spinemat.layout import MatLayout
from spinemat.modes import Mode
from spinemat.press import Phase as Stretch
from spinemat.press import PressRun
from spinemat.press_goal import PressGoal, Waveform
from spinemat.reactions import HELD, Reaction, ReactionWatch
from spinemat.running import RunningStiffness
from spinemat.scan import Outcome, ScanRefused, SpineScan
from spinemat.watches import RUNNING
from spinemat_sim.calm import any_press
from spinemat_sim.closed_loop import ClosedLoop
from spinemat_sim.control_trials import PRELOAD, goal, retract, scan
from spinemat_sim.patient import Patient
from spinemat_sim.person import lie_down
from spinemat_sim.plant import Plant
from spinemat_sim.urdf import plain_urdf

Array = NDArray[np.float64]


EVERY = 5  # cycles between samples: 50 Hz
TENSE = 0.05  # of full tension, from which a level is said to guard
PROVOKED = (0.75, 0.95)  # of the largest force of a rhythm: what provokes
PROVOKING_RATE = (0.4, 1.0)  # Hz
PROVOKING_TIME = 6.0  # s
NEVER = 1000.0  # N: nobody guards from there
QUIET_TIME = 45.0  # s of treatment in which nothing is to be said
UPDATE_PERIOD = 0.02  # s between updates
BREATHS = 20.0  # s after which the phase is judged
MOVES = ("sits up", "rolls", "leaves")
SEEN = 3.0  # s within which a movement has to be seen at all


class WatchedLoop(ClosedLoop):
    """A closed loop in which the sensing node's watches look on.

    Attributes:
        reactions: what was said at each sample, with its cycle.
        took: processor time of each update, s.
    """

    def __init__(self, plant: Plant) -> None:
        self.watch = ReactionWatch(plant.layout, EVERY * plant.layout.cycle)
        self.breath = BreathWatch(plant.layout)
        self.running = RunningStiffness(plant.layout, EVERY * plant.layout.cycle)
        self.reactions: list[tuple[int, Reaction]] = []
        self.took: list[float] = []
        super().__init__(plant)

    @property
    def now(self) -> float:
        """Drive time, s."""
        return self.cycle * self.layout.cycle

    def step(self, run: PressRun | None = None) -> Array:
        """One drive cycle; return the measured forces, shape (n,), N."""
        position = self.plant.measure().position.copy()
        force = super().step(run)
        if self.cycle % EVERY == 0:
            felt, touches = self.control.force.copy(), self.control.contact.copy()
            wanted = (self.control.mode == Mode.FORCE) & (self.control.reference >= HELD)
            began = time.thread_time()
            said = self.watch.add(self.now, position, felt, wanted, touches)
            driven = touches & (self.control.mode == Mode.FORCE)
            self.breath.add(self.now, position, felt, driven)
            self.running.add(position, felt, driven)
            if self.cycle % RUNNING == 0:
                self.running.now()
            self.took.append(time.thread_time() - began)
            self.reactions.append((self.cycle, said))
        return force

    def press(self, goal: PressGoal) -> tuple[PressRun, Outcome]:
        """Run a press to its end; the outcome tells where muscles tensed and who moved."""
        first = len(self.reactions)
        run, outcome = super().press(goal)
        felt = [said for _, said in self.reactions[first:]]
        tense = np.any([said.tense for said in felt], axis=0)
        moved = next((said.reason for said in felt if said.moving), "")
        return run, replace(outcome, tense=tuple(np.flatnonzero(tense).tolist()), moved=moved)


class Reacted(NamedTuple):
    """What was felt of one person.

    Attributes:
        seconds: of treatment in which the person did nothing but breathe.
        guarding, moving: false alarms in it.
        rate: error of the breathing rate, Hz, one per look; inf where it was not told.
        phase: error of its phase, rad; as above.
        next: error of the next end-expiration, s; as above.
        told: share of looks at which breathing was told.
        tense: s from the first tension under a rhythm until it was said; NaN: never.
        tense_early: tension was said before there was any.
        moved: s from the begin of a movement until it was said; NaN: never.
        movement: which it was, and while fingers rested or pressed.
        update: processor time of an update, mean and 99 % of them below, s.
    """

    seconds: float
    guarding: int
    moving: int
    rate: Array
    phase: Array
    next: Array
    told: float
    tense: float
    tense_early: bool
    moved: float
    movement: tuple[str, bool]
    update: tuple[float, float]


def try_reactions(
    layout: MatLayout, patient: Patient, seed: int, kind: str, pressed: bool
) -> Reacted:
    """Scan one person, treat them while they are quiet, let them guard, let them move.

    Args:
        layout: the mat.
        patient: who.
        seed: of sensors, drives and treatment.
        kind: of the movement at the end, one of MOVES.
        pressed: whether the movement comes in a treatment, or while all fingers rest.
    """
    rng = np.random.default_rng([seed, 7])
    calm = replace(patient, guarding=replace(patient.guarding, force=NEVER, rate=1e5))
    loop = WatchedLoop(Plant(layout, lie_down(calm), plain_urdf(layout), seed))
    try:
        found = scan(loop)
    except ScanRefused:  # nobody is treated after that; what was to be found counts as missed
        late, never = np.full(1, np.inf), float("nan")
        lost = (late, late, late, 0.0, never, False, never)
        return Reacted(0.0, 0, 0, *lost, (kind, pressed), (never, never))
    loop.watch.learn(*found.finger_stiffness(), found.toe_end())
    loop.breath.learn(found.place.levels["S1"], found.place.levels["T1"])
    loop.reactions.clear()
    begin = loop.cycle
    told, errors = _stay_quiet(loop, found, rng)
    seconds = (loop.cycle - begin) * layout.cycle
    quiet = [said for _, said in loop.reactions]
    tense, early = _guard(loop, found, rng)
    moved = _move(loop, found, rng, kind, pressed)
    rate, phase, late = np.array(errors).reshape(-1, 3).T
    return Reacted(
        seconds=seconds,
        guarding=_alarms([said.guarding for said in quiet]),
        moving=_alarms([said.moving for said in quiet]),
        rate=rate,
        phase=phase,
        next=late,
        told=told,
        tense=tense,
        tense_early=early,
        moved=moved,
        movement=(kind, pressed),
        update=(float(np.mean(loop.took)), float(np.percentile(loop.took, 99.0))),
    )


def summary(people: Sequence[Reacted]) -> dict[str, float]:
    """Make figures of all people; medians, except for what is counted.

    What is never said counts as infinitely late.
    """

    def late(seconds: Sequence[float]) -> float:
        return float(np.median(np.nan_to_num(np.array(seconds), nan=np.inf)))

    def middle(values: Sequence[Array]) -> float:
        return float(np.median(np.abs(np.concatenate(values))))

    quiet = sum(p.seconds for p in people) / 1800.0
    tense = [np.nan if p.tense_early else p.tense for p in people]
    moved = np.array([p.moved for p in people])
    return {
        "quiet_min": 30.0 * quiet,
        "breath_rate_per_min": 60.0 * middle([p.rate for p in people]),
        "breath_phase_deg": float(np.degrees(middle([p.phase for p in people]))),
        "breath_next_s": middle([p.next for p in people]),
        "breath_told_share": float(np.mean([p.told for p in people])),
        "guarding_seen_s": late(tense),
        "guarding_seen_share": float(np.mean(np.isfinite(tense))),
        "guarding_false_per_30_min": sum(p.guarding for p in people) / quiet,
        "movement_seen_s": late([p.moved for p in people]),
        "movement_seen_share": float(np.mean(np.isfinite(moved))),
        "movement_false_per_30_min": sum(p.moving for p in people) / quiet,
        **{
            f"{kind.replace(' ', '_')}_seen_s": late(
                [p.moved for p in people if p.movement[0] == kind]
            )
            for kind in MOVES
            if any(p.movement[0] == kind for p in people)
        },
        "update_99_ms": 1e3 * float(np.nanmedian([p.update[1] for p in people])),
        "update_core_share": float(np.nanmedian([p.update[0] for p in people])) / UPDATE_PERIOD,
    }


def _treatment(
    loop: WatchedLoop, found: SpineScan, rng: np.random.Generator, seconds: float
) -> PressGoal:
    while True:
        press = any_press(loop.layout, loop.plant.person.patient, found, rng, seconds)
        if press is not None:
            return press


def _stay_quiet(
    loop: WatchedLoop, found: SpineScan, rng: np.random.Generator
) -> tuple[float, list[tuple[float, float, float]]]:
    """Treat at random; return how often breathing was told, and its errors when looked at."""
    errors = []
    run, since = PressRun(_treatment(loop, found, rng, QUIET_TIME), loop.layout), 0
    while not run.done:
        loop.step(run)
        if run.phase is not Stretch.RHYTHM:
            continue
        since = since or loop.cycle
        if loop.cycle % 250 == 0 and (loop.cycle - since) * loop.layout.cycle > BREATHS:
            errors.append(breath_error(loop) or (np.inf, np.inf, np.inf))
    retract(loop)
    return float(np.isfinite(errors).mean()) if errors else 0.0, errors


def _alarms(flags: list[bool]) -> int:
    """How often something began to be said."""
    said = np.array([False, *flags])
    return int((said[1:] & ~said[:-1]).sum())


def breath_error(loop: WatchedLoop) -> tuple[float, float, float] | None:
    """Error of rate (Hz), phase (rad) and next end-expiration (s); None: not told."""
    e = loop.breath.at(loop.now)
    if e is None or not e.valid:
        return None
    rate = loop.plant.person.patient.breathing.rate
    turns = rate * loop.now  # the plant begins at end-expiration
    phase = float(np.mod(e.phase - 2.0 * np.pi * turns + np.pi, 2.0 * np.pi) - np.pi)
    left = (1.0 - e.phase / (2.0 * np.pi)) / e.rate
    true = (1.0 - turns % 1.0) / rate
    late = (left - true + 0.5 / rate) % (1.0 / rate) - 0.5 / rate
    return e.rate - rate, phase, float(late)


def _guard(loop: WatchedLoop, found: SpineScan, rng: np.random.Generator) -> tuple[float, bool]:
    """Provoke protective tension by a rhythm on one row; return latency and whether too early."""
    layout = loop.layout
    felt = np.isfinite(found.height.reshape(-1, 2)).all(axis=1)
    trunk = np.array([row.region != "neck" for row in layout.rows])
    row = int(rng.choice(np.flatnonzero(felt & trunk)))
    pair = [2 * row, 2 * row + 1]
    top = float(layout.press_limit[pair].min()) * rng.uniform(0.5, 0.8)
    loop.plant.guard_from(top * rng.uniform(*PROVOKED))
    mass = loop.plant.person.patient.mass
    press = goal(layout, pair, PRELOAD, top - PRELOAD, rng.uniform(*PROVOKING_RATE),
                 PROVOKING_TIME, found.height, mass)  # fmt: skip
    loop.reactions.clear()
    run, begin = PressRun(press, layout), 0
    while not run.done:
        loop.step(run)
        if not begin and loop.plant.guarding.max() > TENSE:
            begin = loop.cycle
    said = [cycle for cycle, r in loop.reactions if r.guarding]
    after = [cycle for cycle in said if begin and cycle >= begin]
    early = bool(said) and (not begin or said[0] < begin)
    loop.plant.guard_from(NEVER)
    retract(loop)
    return ((after[0] - begin) * layout.cycle if after else float("nan")), early


def _move(
    loop: WatchedLoop, found: SpineScan, rng: np.random.Generator, kind: str, pressed: bool
) -> float:
    """Let the person move; return s until it was said (NaN: never)."""
    layout, mass = loop.layout, loop.plant.person.patient.mass
    resting = goal(layout, np.flatnonzero(np.isfinite(found.height)), PRELOAD, 0.0, 0.5, 20.0,
                   found.height, mass, Waveform.CONTACT)  # fmt: skip
    run = PressRun(_treatment(loop, found, rng, 20.0) if pressed else resting, layout)
    start = 0
    while not run.done:
        loop.step(run)
        if run.phase is Stretch.RHYTHM and not start:
            start = loop.cycle + round(rng.uniform(3.0, 8.0) / layout.cycle)
        if start and loop.cycle == start:
            loop.plant.move_person(kind)
        if start and loop.cycle > start:
            if loop.watch.now.moving:
                return (loop.cycle - start) * layout.cycle
            if (loop.cycle - start) * layout.cycle > SEEN:
                break
    return float("nan")
