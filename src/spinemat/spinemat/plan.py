"""A session's plan as data: what will be pressed, what each level gets from it, and why.

A plan is made by `dosing.plan_session`, shown, edited by a clinician within its limits (`edit`),
written as JSON and run step by step. Arrays over levels are L5 first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spinemat.back_model import UP
from spinemat.deconvolution import TOE
from spinemat.errors import InvalidInput, choice, number
from spinemat.gains import SLEW
from spinemat.layout import REGIONS, MatLayout
from spinemat.mobilisation import OnMat
from spinemat.press_goal import PressGoal, wave
from spinemat.programme_fields import Text
from spinemat.session_programme import AROUND, FULL_TIME, MOST, PRELOAD, QUICK_TIME, RESCAN_TIME

Array = NDArray[np.float64]

MOST_RAISED = 1.5  # times a level's amplitude, largest edit at once (engineering choice)
WITHOUT = "Sham: contact without dose, as long as the programme would press."
TOE_END = {"neck": 3.5, "thoracic": 10.0, "lumbar": 10.0}  # N of a finger, as the definition says


@dataclass(frozen=True)
class PlanStep:
    """One thing that the session does.

    Attributes:
        kind: scan, mobilise, flow, stability, settle or rescan.
        phase: index of the programme's phase.
        set: of that phase, from 1; 0: the phase has no sets.
        goal: what to press; None in a scan. `start_cycle` is set when it is sent.
        rest: afterwards, s.
        breathing: gated, led or free.
        breaths: per minute that the cue leads; 0: no cue.
        detail: of a scan quick or full, of stability what the person is asked to do.
        words: one line for people.
    """

    kind: str
    phase: int
    set: int
    goal: PressGoal | None
    rest: float
    breathing: str
    breaths: float
    detail: str
    words: str

    @property
    def time(self) -> float:
        """What it takes with the rest afterwards, s."""
        if self.goal is not None:
            return self.goal.duration + AROUND + self.rest
        if self.kind == "rescan":
            return RESCAN_TIME
        return FULL_TIME if self.detail == "full" else QUICK_TIME

    @property
    def pressing(self) -> bool:
        """Whether a force comes and goes."""
        return self.goal is not None and bool((self.goal.amplitude > 0.0).any())


class LevelDose(NamedTuple):
    """What one level is expected to get.

    Attributes:
        level: its name.
        peak: greatest force of a finger that presses on it, N.
        cycles: presses that reach it.
        work: put in while moving inward, J; before a forecast from the stiffness alone.
        why: sentences.
    """

    level: str
    peak: float
    cycles: float
    work: float
    why: tuple[str, ...]

    @property
    def words(self) -> str:
        """One line for people."""
        if self.cycles == 0.0:
            beside = f", {self.work:.1f} J from beside it" if self.work >= 0.05 else ""
            return f"{self.level}: not pressed{beside}."
        return (
            f"{self.level}: up to {self.peak:.1f} N per finger, {self.cycles:.0f} presses, about"
            f" {self.work:.1f} J."
        )


class Edit(NamedTuple):
    """What a clinician changed: factor of the force's amplitude at a level, who and why."""

    level: str
    factor: float
    by: str
    reason: str


@dataclass(frozen=True)
class SessionPlan:
    """A plan for one person and one session.

    Attributes:
        programme, revision, title: of what it was made from.
        mass: of the person, kg.
        x: of the levels, shape (24,), m.
        stiffness: PA stiffness of pairs that it reckons with, shape (24,), N/m.
        allowed: greatest force of each finger that an edit may reach, shape (n,), N.
        steps: in order.
        levels: what each gets, L5 first.
        notes: sentences about the whole.
        edits: so far.
    """

    programme: str
    revision: int
    title: str
    mass: float
    x: Array
    stiffness: Array
    allowed: Array
    steps: tuple[PlanStep, ...]
    levels: tuple[LevelDose, ...]
    notes: tuple[str, ...]
    edits: tuple[Edit, ...] = ()

    @property
    def total(self) -> float:
        """Expected time, s."""
        return sum(step.time for step in self.steps)

    @property
    def pressing(self) -> float:
        """Time of pressing in it, s."""
        return sum(s.goal.duration for s in self.steps if s.pressing and s.goal is not None)

    def on_mat(self, layout: MatLayout) -> OnMat:
        """The person over the mat; heights are not kept."""
        return OnMat(layout, self.mass, self.x, np.zeros(layout.n))


class Doses(NamedTuple):
    """Expected doses of the levels, shape (24,) each; see `LevelDose`."""

    peak: Array
    cycles: Array
    work: Array


def doses(on_mat: OnMat, stiffness: Array, steps: Sequence[PlanStep]) -> Doses:
    """What steps give to the levels, from the stiffness of the levels alone.

    Work of a press is the area under a finger's curve from base to peak: half of the pair's
    stiffness, 0.4 of it in the toe; `forecast` also knows what neighbours and creep add.

    Args:
        on_mat: the person.
        stiffness: PA stiffness of pairs, shape (24,), N/m.
        steps: of a plan.
    """
    peak, cycles, work = np.zeros((3, len(UP)))
    shares, beside = on_mat.shares, on_mat.beside
    near = np.where(beside, shares, 0.0) + 1e-9 * beside
    pair = (near @ stiffness) / near.sum(axis=1)
    toe = np.array([TOE_END[REGIONS[r]] for r in on_mat.regions])
    for step in steps:
        if step.goal is None or not step.pressing:
            continue
        goal, rows = step.goal, step.goal.fingers // 2
        turns = goal.rate * goal.duration
        top = goal.preload + goal.amplitude
        own = 0.5 * pair[rows]
        each = _to(top, own, toe[rows]) - _to(goal.preload, own, toe[rows])
        work += turns * (each @ shares[rows])
        moving = goal.amplitude > 0.0
        reached = beside[rows[moving]]
        cycles += turns * reached.any(axis=0)
        peak = np.maximum(peak, (reached * top[moving, None]).max(axis=0, initial=0.0))
    return Doses(peak, cycles, work)


def _to(force: Array, stiffness: Array, toe: Array) -> Array:
    """Work from no force to `force` (N) with a toe that ends at `toe` (N), J."""
    below = np.minimum(force, toe)
    return np.asarray((below**2 / TOE + np.maximum(force**2 - toe**2, 0.0)) / (2.0 * stiffness))


def edit(
    plan: SessionPlan, layout: MatLayout, level: str, factor: float, by: str, reason: str
) -> SessionPlan:
    """Change the force at a level; what a clinician may do before the session.

    All fingers that load the level (`back_model.BESIDE`) have their amplitude multiplied, in
    every step. Lowering is always possible. Raising is possible as far as every finger stays
    within what screening, age, comfort and the ledger leave of its limit, within the slew and
    within the regional sums; where a region is at its sum, lower another level first.

    Args:
        plan: as planned or edited before.
        layout: the mat.
        level: C1 … L5; the neck's share their rows.
        factor: 0 to 1.5.
        by: who; a synthetic id.
        reason: one line.

    Raises:
        InvalidInput: a value is not acceptable; for the factor the message says how far it may go.
    """
    at = UP.index(choice("level", level, UP))
    line = Text(r"\S[^\n\r]*", 200, "one line of text")
    line.take("by", by)
    line.take("reason", reason)
    factor = number("factor", factor, 0.0, MOST_RAISED)
    on_mat = plan.on_mat(layout)
    rows = on_mat.beside[:, at]
    most = MOST_RAISED
    for step in plan.steps:
        if step.goal is not None:
            most = min(most, _room(on_mat, step.goal, rows[step.goal.fingers // 2], plan.allowed))
    if factor > max(most, 1.0):
        allowed = f"0 to {max(most, 1.0):.2f} at {level} within limits and regional sums"
        raise InvalidInput("factor", factor, allowed)
    steps = tuple(
        step
        if step.goal is None
        else replace(
            step,
            goal=replace(
                step.goal,
                amplitude=np.where(rows[step.goal.fingers // 2], factor, 1.0)
                * step.goal.amplitude,
            ),
        )
        for step in plan.steps
    )
    found = doses(on_mat, plan.stiffness, steps)
    said = f"{by} changed the force at {level} × {factor:g}: {reason}"
    levels = tuple(
        old._replace(
            peak=float(found.peak[i]),
            cycles=float(found.cycles[i]),
            work=float(found.work[i]),
            why=(*old.why, said) if (on_mat.beside[rows, i]).any() else old.why,
        )
        for i, old in enumerate(plan.levels)
    )
    edits = (*plan.edits, Edit(level, factor, by, reason))
    return replace(plan, steps=steps, levels=levels, edits=edits)


def without_dose(plan: SessionPlan) -> SessionPlan:
    """The same plan as contact: fingers, sets, times, rests and breath stay, nothing presses.

    For the sham arm of a trial: neither how long a session takes nor what it asks of the person
    tells the arm.
    """
    steps = tuple(
        step
        if step.goal is None
        else replace(
            step,
            goal=replace(
                step.goal,
                preload=np.minimum(step.goal.preload, PRELOAD),
                amplitude=np.zeros_like(step.goal.amplitude),
            ),
            words=f"contact alone in place of {step.words}" if step.pressing else step.words,
        )
        for step in plan.steps
    )
    levels = tuple(LevelDose(dose.level, 0.0, 0.0, 0.0, (WITHOUT,)) for dose in plan.levels)
    return replace(plan, steps=steps, levels=levels, notes=(WITHOUT, *plan.notes))


def _room(on_mat: OnMat, goal: PressGoal, mine: NDArray[np.bool_], allowed: Array) -> float:
    """By what the amplitudes of some fingers of a goal (shape (m,)) may be multiplied."""
    moving = mine & (goal.amplitude > 0.0)
    if not moving.any():
        return MOST_RAISED
    slew = SLEW * MOST / (goal.waveform.steepest * goal.rate)
    most = np.minimum(allowed[goal.fingers] - goal.preload, slew)[moving] / goal.amplitude[moving]
    turns = np.linspace(1.0, 2.0, 60, endpoint=False)[:, None] - goal.phase / (2.0 * np.pi)
    force = goal.amplitude * wave(goal.waveform, turns)
    room = float(most.min())
    for _, total, of in on_mat.sums():
        inside = of[goal.fingers // 2]
        own = force[:, inside & moving].sum(axis=1)
        others = goal.preload[inside].sum() + force[:, inside & ~moving].sum(axis=1)
        some = own > 0.0
        room = min(room, float(((total - others)[some] / own[some]).min(initial=np.inf)))
    return room
