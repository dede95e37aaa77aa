"""What a plan would do to this person, before anything moves.

The reduced-order twin (`twin.py`) is given the compliance of the person's back as the scan (or,
before one, the published profile) tells it: `back_model` with springs that reproduce the levels'
stiffness. All different presses of a plan run at once, as if each were one person, so that a
session takes a second or two. Creep of one set is forgotten before the next, nobody guards and
gated presses are taken as never lowered: forces and work are on the high side.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from spinemat.anatomy import ABOVE_SACRUM, GRAVITY, WEIGHT_SHARE
from spinemat.back_model import UP, Back, mean_back, pair_stiffness, response
from spinemat.deconvolution import ROLL_LEVER, TOE
from spinemat.layout import REGIONS, MatLayout
from spinemat.mobilisation import OnMat
from spinemat.plan import TOE_END, SessionPlan
from spinemat.press import LOAD_TIME
from spinemat.press_goal import HOLD_FORCE, HOLD_TIME, PressGoal, Waveform, wave
from spinemat.twin import LONGEST_STEP, Twin, TwinRun
from spinemat.twin import REGIONS as TWIN_REGIONS

Array = NDArray[np.float64]

# Loss factor about 0.2 at 0.5 Hz: part of the compliance that comes late, and its time; creep of
# 0.15 of it in minutes, of which 69 % in 30 s (split: engineering choice)
LATE, LATE_TIME = 0.33, 0.32  # s
CREEP, CREEP_TIME = 0.15, 25.6  # s
COMPACT = 200.0  # N: no finger comes where tissue is compacted
PELVIS = 0.142  # of body mass
STEPS = 40  # of the search for springs
LOOK = 10  # time steps after which lifting is looked for
CHUNK = 500  # time steps whose forces are made at once


@dataclass(frozen=True)
class Forecast:
    """What a plan is expected to do. Arrays over levels are L5 first, shape (24,).

    Attributes:
        force: greatest force of a finger that presses on each level, N.
        indentation: deepest travel of such a finger since the first touch, m.
        work: put into each level while moving inward, J.
        step_force: greatest force of any finger in each step, N; 0 in scans, shape (steps,).
        step_work: of all fingers in each step, J, shape (steps,).
        time: of the whole session, s.
        pressing: of it, s.
        held: share of the pressing time in which a finger is held above 10 N for more than 5 s.
        lifting: regions that would come close to lifting off.
    """

    force: Array
    indentation: Array
    work: Array
    step_force: Array
    step_work: Array
    time: float
    pressing: float
    held: float
    lifting: tuple[str, ...]

    def sentences(self) -> tuple[str, ...]:
        """One line per level that is pressed, and the whole, for people."""
        lines = [
            f"{v}: up to {self.force[i]:.1f} N per finger,"
            f" {1e3 * self.indentation[i]:.1f} mm deep, {self.work[i]:.1f} J"
            for i, v in enumerate(UP)
            if self.force[i] > 0.0
        ]
        whole = (
            f"{self.time / 60.0:.1f} min, {self.pressing / 60.0:.1f} of them pressing; held above"
            f" {HOLD_FORCE:g} N for more than {HOLD_TIME:g} s: {self.held:.0%}"
        )
        lifted = [f"close to lifting: {', '.join(self.lifting)}"] if self.lifting else []
        return (*lines, whole, *lifted)


def forecast(plan: SessionPlan, layout: MatLayout) -> Forecast:
    """Simulate a plan on its person.

    Args:
        plan: as planned or edited.
        layout: the mat.
    """
    on_mat = plan.on_mat(layout)
    goals: list[PressGoal] = []
    place: list[int] = []  # of each step's goal in `goals`; -1: a scan
    for step in plan.steps:
        if step.goal is None or not step.pressing:
            place.append(-1)
            continue
        same = [k for k, goal in enumerate(goals) if _alike(goal, step.goal)]
        place.append(same[0] if same else len(goals))
        if not same:
            goals.append(step.goal)
    n, steps = layout.n, len(plan.steps)
    top, depth, work = np.zeros((3, len(goals), n))
    lifting: tuple[str, ...] = ()
    if goals:
        top, depth, work, lifting = _simulate(person_twin(on_mat, plan.stiffness), goals, n)
    beside = np.repeat(on_mat.beside, 2, axis=0)
    shares = np.repeat(on_mat.shares, 2, axis=0)
    used = [k for k in place if k >= 0]
    held = sum(goals[k].duration * _held(goals[k]) for k in used)
    pressing = sum(goals[k].duration for k in used)
    step_force, step_work = np.zeros((2, steps))
    for i, k in enumerate(place):
        if k >= 0:
            step_force[i], step_work[i] = top[k].max(), work[k].sum()
    return Forecast(
        force=(beside * top.max(axis=0, initial=0.0)[:, None]).max(axis=0),
        indentation=(beside * depth.max(axis=0, initial=0.0)[:, None]).max(axis=0),
        work=np.asarray(sum((work[k] for k in used), np.zeros(n)) @ shares),
        step_force=step_force,
        step_work=step_work,
        time=plan.total,
        pressing=pressing,
        held=held / pressing if pressing else 0.0,
        lifting=lifting,
    )


def person_twin(on_mat: OnMat, stiffness: Array) -> Twin:
    """The twin of a person of whom only the levels' stiffness is known.

    Padding bears what fingers do not: each finger relieves the region it presses on.

    Args:
        on_mat: the person.
        stiffness: PA stiffness of pairs exactly on the levels, L5 first, shape (24,), N/m.
    """
    layout = on_mat.layout
    n, row_x = layout.n, layout.row_x
    back = on_mat.x[UP.index("C7")] - on_mat.x[UP.index("L4")]
    body, tissue = response(
        _springs(on_mat.x[0] - back * ABOVE_SACRUM[-1], back, stiffness), row_x
    )
    # a pair's body moves as one; beside it each vertebra rolls (deconvolution.side_differences)
    whole = np.repeat(np.repeat(body, 2, axis=0), 2, axis=1)
    own = np.diag(body)
    roll = 0.5 * own * (layout.y[::2] / ROLL_LEVER) ** 2
    for row in range(row_x.size):
        pair = slice(2 * row, 2 * row + 2)
        whole[pair, pair] += roll[row] * np.array([[1.0, -1.0], [-1.0, 1.0]])
    linear = np.repeat(2.0 * tissue, 2)
    more = np.repeat(2.0 * (1.0 / TOE - 1.0) * (own + tissue), 2)
    slopes = 1.0 / np.array([linear + more, linear, linear])
    toe = np.repeat([TOE_END[REGIONS[r]] for r in on_mat.regions], 2)
    weight = {"neck": 0, "thoracic": 1, "lumbar": 2}
    padding = np.array([*(WEIGHT_SHARE[r] for r in weight), PELVIS]) * on_mat.mass * GRAVITY
    unloading = np.zeros((1, 3, 4, 1, n))
    for finger, region in enumerate(np.repeat(on_mat.regions, 2)):
        unloading[0, 0, weight[REGIONS[region]], 0, finger] = 1.0
    return Twin(
        quick=(1.0 - LATE) * whole[None],
        creep=np.stack([LATE * whole, CREEP * whole])[None],
        times=np.repeat([LATE_TIME, CREEP_TIME], n).reshape(1, 2, n),
        slopes=slopes[None],
        corners=np.stack([toe, np.full(n, COMPACT)])[None],
        padding=padding.reshape(1, 4, 1),
        unloading=unloading,
        sharing=np.zeros((1, 4, 4)),
        contact=np.zeros((1, n)),
    )


def _springs(s1: float, length: float, stiffness: Array) -> Back:
    """A back whose levels have this stiffness, as nearly as springs in a row can have it."""
    back = mean_back(s1, length)
    common = float(np.median(stiffness / pair_stiffness(back)))
    back = replace(back, tissue=back.tissue * common, padding=common)
    for _ in range(STEPS):
        change = np.clip(stiffness / pair_stiffness(back), 0.7, 1.4)
        back = replace(back, level=np.clip(back.level * change, 0.2, 5.0))
    return back


def _alike(a: PressGoal, b: PressGoal) -> bool:
    return all(np.array_equal(getattr(a, f.name), getattr(b, f.name), equal_nan=True)
               if isinstance(getattr(a, f.name), np.ndarray)
               else getattr(a, f.name) == getattr(b, f.name) for f in fields(a))  # fmt: skip


def _simulate(
    one: Twin, goals: list[PressGoal], n: int
) -> tuple[Array, Array, Array, tuple[str, ...]]:
    """Run all goals beside each other; force, depth and work per goal and finger, (goals, n)."""
    p, dt = len(goals), LONGEST_STEP
    run = TwinRun(Twin(*(np.repeat(getattr(one, f.name), p, axis=0) for f in fields(one))), dt)
    preload, amplitude, lag = np.zeros((3, p, n))
    pressed = np.zeros((p, n), dtype=bool)
    for k, goal in enumerate(goals):
        preload[k, goal.fingers], amplitude[k, goal.fingers] = goal.preload, goal.amplitude
        lag[k, goal.fingers] = goal.phase / (2.0 * np.pi)
        pressed[k, goal.fingers] = goal.amplitude > 0.0
    rate = np.array([goal.rate for goal in goals])[:, None]
    last = np.array([goal.duration for goal in goals])[:, None]
    load = round(LOAD_TIME / dt)
    for i in range(load):
        run.advance((i + 1) / load * preload)
    before, depth, top = run.work, run.travel, preload.copy()
    lifted: NDArray[np.bool_] = run.lifting
    count = round(float(last.max()) / dt)
    for first in range(0, count, CHUNK):
        t = dt * np.arange(first + 1, min(first + CHUNK, count) + 1)[:, None, None]
        force = preload + amplitude * wave(Waveform.RAISED_COSINE, rate * t - lag)
        force = np.where(t <= last + 0.5 * dt, force, 0.0)
        top = np.maximum(top, force.max(axis=0))
        for i, now in enumerate(force):
            run.advance(now)
            depth = np.maximum(depth, run.travel)
            if i % LOOK == 0:
                lifted |= run.lifting
    regions = tuple(TWIN_REGIONS[r] for r in np.flatnonzero(lifted.any(axis=0)))
    return top * pressed, depth * pressed, (run.work - before) * pressed, regions


def _held(goal: PressGoal) -> float:
    """Share of a goal's time that a finger spends above a static hold's force too long."""
    turns = np.linspace(1.0, 2.0, 200, endpoint=False)[:, None]
    above = goal.preload + goal.amplitude * wave(goal.waveform, turns) > HOLD_FORCE
    share = above.mean(axis=0)
    time = np.where(share == 1.0, goal.duration, share / goal.rate)
    return float(np.where(time > HOLD_TIME, share, 0.0).max(initial=0.0))
