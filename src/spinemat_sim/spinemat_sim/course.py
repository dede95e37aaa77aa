"""Weeks of sessions of simulated people: what ledger, plan and body make of one another.

A session here is everything but the moving of fingers: advice of the ledger from the sessions
before, a scan, screening, plan, forecast, and then the plan's forces on the reduced-order twin
that is identified from the person's plant *as the person is on that day*. Many people run through
the twin together. Work softens levels as `patient.Mobilisation` says, an assumption of this
project, and days undo it.

What is left out: the scans' own presses, guarding, breathing (gated presses count as never
lowered), softening within a session, changes of a back from day to day. A scan is the truth with
noise of `SCAN_ERROR`, drawn anew for each level and scan. That is what scans state as their
standard error (half of a 95 % interval is about 17 % of the value), and near the 10 and 13 %
between sessions of a published rig (Snodgrass: 0.45 of 4.58, 0.88 of 7.03 N/mm). Repeated scans
of one *simulated* person differ by much less, as most of their error is the same each time.

Arrays over levels are L5 first, shape (24,).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spinemat.anatomy import TRUNK, regional_sums
from spinemat.back_model import UP
from spinemat.delivered import LevelDoses
from spinemat.dosing import plan_session
from spinemat.forecast import Forecast, forecast
from spinemat.layout import MatLayout
from spinemat.ledger import Advice, PastSession, advise, progress
from spinemat.level_dose import Felt, Needs
from spinemat.plan import SessionPlan
from spinemat.press import LOAD_TIME, UNLOAD_TIME
from spinemat.press_goal import wave
from spinemat.screening import screen
from spinemat.session_programme import AROUND, PRELOAD, Programme
from spinemat.twin import LONGEST_STEP, REGIONS, Twin, TwinRun
from spinemat_sim.identify import identify
from spinemat_sim.patient import Patient
from spinemat_sim.person import lie_down
from spinemat_sim.plant import Plant
from spinemat_sim.sensors import Imperfections
from spinemat_sim.urdf import plain_urdf
from spinemat_sim.volunteers import Volunteer, comfort, pain_now, wishes

Array = NDArray[np.float64]

SCAN_ERROR = 0.09  # standard error of a level's stiffness over its value
PLACE_ERROR = 0.004  # m, standard deviation of where a scan finds the levels
LOOK = 50  # steps of the twin between looks at what lifts


@dataclass(frozen=True)
class Session:
    """One session.

    Attributes:
        begin, end: when.
        programme: name and revision.
        course: share of the force that the course allowed; 1 outside a course.
        advised: share of the force that the ledger left at each level.
        truth, truth_after: true stiffness of pairs, N/m.
        before, after: as scanned, N/m; NaN where not resolved. Standard error: `SCAN_ERROR` of it.
        dose: what the levels got as the mat reckons, with the places that the scan found.
        expected: work at each level that the forecast expected, J.
        comfort: pain that was reported, (level, 0 to 10).
        pain: reported before the session, 0 to 10.
        over: greatest excess over press limits and regional sums in forecast or twin, N;
            negative: that much below.
        lifting: regions that came close to lifting off, in forecast or twin.
    """

    begin: datetime
    end: datetime
    programme: tuple[str, int]
    course: float
    advised: Array
    truth: Array
    truth_after: Array
    before: Array
    after: Array
    dose: LevelDoses
    expected: Array
    comfort: tuple[tuple[str, float], ...]
    pain: float
    over: float
    lifting: tuple[str, ...]


class Pressed(NamedTuple):
    """A session's forces on a person, to be repeated elsewhere.

    Attributes:
        patient: as they came.
        plan: that was pressed.
        work: of each finger in the rhythms, on the twin, shape (n,), J.
        peak: greatest force of a finger, N.
    """

    patient: Patient
    plan: SessionPlan
    work: Array
    peak: float


@dataclass(frozen=True)
class Course:
    """All sessions of one person.

    Attributes:
        who: the person.
        sessions: in order.
        days: of the course.
        missed: days on which the person did not come.
        refused: sessions that the person wanted and the ledger did not allow.
        last: the last session of the course's own programme.
    """

    who: Volunteer
    sessions: tuple[Session, ...]
    days: int
    missed: int
    refused: int
    last: Pressed | None


def run_courses(
    layout: MatLayout,
    programmes: Mapping[str, Programme],
    names: tuple[str, str],
    weeks: int,
    people: Sequence[Volunteer],
) -> list[Course]:
    """Let people come for some weeks.

    Args:
        layout: the mat.
        programmes: by name.
        names: of the course, which comes first on a day, and of what people do later that day.
        weeks: how long.
        people: who share a twin; what happens to one does not depend on the others.

    Raises:
        InvalidInput: a name is unknown or a programme is not possible.
    """
    comers = [_Comer(layout, who, weeks) for who in people]
    most = max(len(day) for comer in comers for day in comer.wishes)
    for day in range(7 * weeks):
        for turn in range(most):
            programme = programmes[names[turn > 0]]
            coming = (comer.come(day, turn, programme) for comer in comers)
            lying = [visit for visit in coming if visit is not None]
            for visit, (work, lifting) in zip(lying, _on_twins(lying), strict=True):
                visit.comer.leave(visit, work, lifting, keep=turn == 0)
    return [comer.course() for comer in comers]


class _Visit(NamedTuple):
    """A session that is planned: who, from when, on what grounds, and what fingers will do."""

    comer: _Comer
    begin: datetime
    programme: Programme
    patient: Patient
    felt: Felt
    advice: Advice
    course: float
    plan: SessionPlan
    expected: Forecast
    forces: Array
    rhythm: NDArray[np.bool_]
    twin: Twin
    shares: Array  # true share of each finger's force on each level, (n, 24)


class _Comer:
    """A person over the weeks."""

    def __init__(self, layout: MatLayout, who: Volunteer, weeks: int) -> None:
        self.layout, self.who = layout, who
        self.wishes = wishes(who, weeks)
        self._rng = np.random.default_rng([*who.seed, 3])
        self._needs = Needs.of_answers(who.record, screen(who.record))
        self._softened = np.array(who.patient.softened)  # at the end of the last session
        self._past: list[PastSession] = []
        self._sessions: list[Session] = []
        self._refused = 0
        self._last: Pressed | None = None

    def course(self) -> Course:
        """All that happened."""
        missed = sum(not day for day in self.wishes)
        return Course(
            self.who, tuple(self._sessions), len(self.wishes), missed, self._refused, self._last
        )

    def come(self, day: int, turn: int, programme: Programme) -> _Visit | None:
        """Be scanned and get a plan, if the person wants that session and the ledger allows it."""
        if turn >= len(self.wishes[day]):
            return None
        now, layout = self.wishes[day][turn], self.layout
        advice = advise(self._past, now, programme.name, programme.weeks)
        if advice.wait is not None:
            self._refused += 1
            return None
        since = now - (self._past[-1].when if self._past else now)
        patient = self.who.patient.after(self._softened.tolist(), since.total_seconds())
        person = lie_down(patient)
        plant = Plant(layout, person, plain_urdf(layout), 0, Imperfections.none())
        felt = Felt(
            plant.body.skin,
            np.array(person.x) + PLACE_ERROR * self._rng.standard_normal(),
            found := self._scan(np.array(patient.stiffness)),
            SCAN_ERROR * found,
            np.isfinite(found),
        )
        plan = plan_session(programme, layout, self.who.record.measures, felt, self._needs, advice)
        course = 1.0
        if programme.weeks:
            mine = [s for s in self._past if s.programme == programme.name]
            course = progress(mine, now, programme.weeks)[0]
        return _Visit(
            self, now, programme, patient, felt, advice, course, plan, forecast(plan, layout),
            *_forces(plan, layout.n), identify(plant), plant.body.share,
        )  # fmt: skip

    def leave(self, visit: _Visit, work: Array, lifting: tuple[str, ...], keep: bool) -> None:
        """Be softer, say how it was, and get up."""
        patient, plan = visit.patient, visit.plan
        dose = _dose(visit, work)
        answer = patient.mobilisation
        fresh = answer.softening * -np.expm1(-(work @ visit.shares) / answer.work)
        self._softened = 1.0 - (1.0 - fresh) * (1.0 - np.array(patient.softened))
        whole = np.array(patient.left) + np.array(patient.right)
        pain, said = pain_now(self.who, self._rng), comfort(self.who, dose.peak, self._rng)
        session = Session(
            begin=visit.begin,
            end=visit.begin + timedelta(seconds=round(plan.total)),
            programme=(plan.programme, plan.revision),
            course=visit.course,
            advised=visit.advice.share,
            truth=np.array(patient.stiffness),
            truth_after=whole * (1.0 - self._softened),
            before=visit.felt.value,
            after=self._scan(whole * (1.0 - self._softened)),
            dose=dose,
            expected=visit.expected.work,
            comfort=said,
            pain=pain,
            over=_over(visit),
            lifting=tuple(sorted({*visit.expected.lifting, *lifting})),
        )
        self._sessions.append(session)
        self._past.append(
            PastSession(session.end, dose.work, dose.peak, said, True, plan.programme)
        )
        if keep:
            self._last = Pressed(patient, plan, work, float(visit.forces.max()))

    def _scan(self, truth: Array) -> Array:
        noise = SCAN_ERROR * self._rng.standard_normal(truth.size)
        return np.where(np.isin(UP, TRUNK), truth * (1.0 + noise), np.nan)


def _forces(plan: SessionPlan, n: int) -> tuple[Array, NDArray[np.bool_]]:
    """Force of each finger over a session at steps of the twin, shape (steps, n), N.

    Scans are not pressed; what a press takes beside its rhythm and ramps, fingers are away.

    Returns:
        The forces, and which steps are part of a rhythm, shape (steps,).
    """
    dt, parts, rhythmic = LONGEST_STEP, [], []
    up, down = (np.arange(1, round(t / dt) + 1) * dt / t for t in (LOAD_TIME, UNLOAD_TIME))
    for step in plan.steps:
        if (goal := step.goal) is None:
            continue
        turns = goal.rate * dt * np.arange(1, round(goal.duration / dt) + 1)
        rhythm = wave(goal.waveform, turns[:, None] - goal.phase / (2.0 * np.pi))
        rhythm = goal.preload + goal.amplitude * rhythm
        away = round((AROUND - LOAD_TIME - UNLOAD_TIME + step.rest) / dt)
        whole = np.zeros((up.size + len(rhythm) + down.size + away, n))
        whole[: len(whole) - away, goal.fingers] = np.concatenate(
            [up[:, None] * goal.preload, rhythm, (1.0 - down[:, None]) * rhythm[-1]]
        )
        inside = np.arange(len(whole)) - up.size
        parts.append(whole)
        rhythmic.append((inside >= 0) & (inside < len(rhythm)) & step.pressing)
    return np.concatenate(parts), np.concatenate(rhythmic)


def _on_twins(visits: Sequence[_Visit]) -> Iterator[tuple[Array, tuple[str, ...]]]:
    """Press all visitors at once: work of each finger in the rhythms, (n,), J, and what lifts."""
    if not visits:
        return
    steps = max(len(visit.forces) for visit in visits)
    forces = np.zeros((steps, len(visits), visits[0].forces.shape[1]))
    rhythm = np.zeros((steps + 1, len(visits)))  # the last step is in no rhythm
    for k, visit in enumerate(visits):
        forces[: len(visit.forces), k] = visit.forces
        rhythm[: len(visit.rhythm), k] = visit.rhythm
    edges = np.diff(rhythm, axis=0, prepend=0.0)  # 1 where a rhythm begins, -1 after its end
    run = TwinRun(Twin.together([visit.twin for visit in visits]), LONGEST_STEP)
    work, lifting = np.zeros(forces.shape[1:]), run.lifting
    for i, (force, edge) in enumerate(zip(forces, edges[:-1], strict=True)):
        if edge.any():
            work -= edge[:, None] * run.work
        run.advance(force)
        if i % LOOK == 0:
            lifting |= run.lifting
    work -= edges[-1][:, None] * run.work
    for done, lifted in zip(work, lifting, strict=True):
        yield done, tuple(REGIONS[r] for r in np.flatnonzero(lifted))


def _dose(visit: _Visit, work: Array) -> LevelDoses:
    """What the mat believes that the levels got."""
    on_mat = visit.plan.on_mat(visit.comer.layout)
    top = visit.forces.max(axis=0).reshape(-1, 2).max(axis=1)
    time, pressed = np.zeros(len(UP)), np.zeros(on_mat.beside.shape, dtype=bool)
    for step in visit.plan.steps:
        if step.goal is not None and step.pressing:
            rows = step.goal.fingers[step.goal.amplitude > 0.0] // 2
            time += step.goal.duration * on_mat.beside[rows].any(axis=0)
            pressed[rows] = on_mat.beside[rows]
    return LevelDoses(
        work=work @ np.repeat(on_mat.shares, 2, axis=0),
        peak=(pressed * top[:, None]).max(axis=0),
        time=time,
        cycles=np.array([level.cycles for level in visit.plan.levels]),
    )


def _over(visit: _Visit) -> float:
    """By how much forces exceed what this person may get, and sums of regions, at most, N."""
    layout, forces = visit.comer.layout, visit.forces
    on_mat = visit.plan.on_mat(layout)
    most = (on_mat.beside * on_mat.limit[:, None]).max(axis=0)
    regions = np.array(layout.regions)
    sums = regional_sums(visit.plan.mass)
    return max(
        float((visit.expected.force - most)[visit.expected.force > 0.0].max()),
        float((forces.max(axis=0) - np.maximum(visit.plan.allowed, PRELOAD)).max()),
        *(float(forces[:, regions == r].sum(axis=1).max()) - sums[r] for r in sums),
    )
