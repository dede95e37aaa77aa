"""From a programme to one person's plan: presses within every limit, and the reasons.

The programme says what an average back gets; `level_dose` says what this person's levels may and
should get; `mobilisation` turns both into goals that `press_goal.check_goal` accepts. Nothing is
ever above 0.95 of a region's press limit, and the sum under a region stays within 0.95 of what
fingers may carry there.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from spinemat.anatomy import Intake, region_of, regional_sums
from spinemat.back_model import UP
from spinemat.errors import InvalidInput
from spinemat.layout import MatLayout
from spinemat.ledger import Advice
from spinemat.level_dose import Felt, LevelRule, Needs, level_rules
from spinemat.mobilisation import Index, OnMat, rhythm
from spinemat.plan import LevelDose, PlanStep, SessionPlan, doses
from spinemat.press_goal import MAX_DURATION, MIN_PRELOAD, PressGoal, Waveform, check_goal
from spinemat.session_programme import (
    AREAS,
    AROUND,
    MOST,
    MOST_PRESSING,
    PRELOAD,
    Mobilise,
    Phase,
    Pressing,
    Programme,
    Rescan,
    Scan,
    Settle,
    Stability,
    base_force,
    check,
)

Array = NDArray[np.float64]

LONGER = 0.2  # of the programme's minutes, by which sets for stiff levels may prolong it (choice)
LITTLE = 1.0  # N above contact: a phase that presses no more is told (engineering choice)
NEAR = 0.98  # of what was wanted: less than that is told (engineering choice)


def plan_session(
    programme: Programme,
    layout: MatLayout,
    intake: Intake,
    felt: Felt,
    needs: Needs | None = None,
    advice: Advice | None = None,
) -> SessionPlan:
    """Plan a session.

    Args:
        programme: what is wanted; it is checked again.
        layout: the mat.
        intake: of the person.
        felt: what the scan felt, or `Felt.prior`.
        needs: from screening, symptoms and comfort reports; None: nothing special.
        advice: of the ledger; None: no session before.

    Raises:
        InvalidInput: the programme is not possible, a session may not begin yet, or shapes differ.
    """
    needs, advice = needs or Needs.none(), advice or Advice.none()
    timing = check(programme, layout)
    check_wait(timing.pressing, advice)
    if felt.height.shape != (layout.n,):
        raise InvalidInput("felt.height", felt.height.shape, f"shape ({layout.n},)")
    on_mat = OnMat(layout, intake.mass, felt.x, felt.height)
    planner = _Planner(on_mat, felt, level_rules(intake, felt, needs, advice), needs.mobility)
    planner.time_left = 60.0 * (1.0 + LONGER) * programme.minutes - timing.total
    planner.pressing_left = MOST_PRESSING - timing.pressing
    planner.grant(programme)
    for i, phase in enumerate(programme.phases):
        planner.add(i, phase)
    found = doses(on_mat, felt.believed, planner.steps)
    levels = tuple(
        LevelDose(
            level,
            float(found.peak[k]),
            float(found.cycles[k]),
            float(found.work[k]),
            planner.why(k),
        )
        for k, level in enumerate(UP)
    )
    return SessionPlan(
        programme=programme.name,
        revision=programme.revision,
        title=programme.title,
        mass=intake.mass,
        x=felt.x,
        stiffness=felt.believed,
        allowed=np.repeat(planner.most * on_mat.limit, 2),
        steps=tuple(planner.steps),
        levels=levels,
        notes=(*needs.notes, *advice.notes, *planner.notes),
    )


def check_wait(pressing: float, advice: Advice) -> None:
    """Check that a session which presses for so long, s, may begin now; scans and contact may.

    Raises:
        InvalidInput: there were too many of late.
    """
    if advice.wait is not None and pressing > 0.0:
        raise InvalidInput("ledger", "a session now", advice.notes[-1])


class _Planner:
    """Steps of a plan as they are made, and what was asked and wanted for the levels."""

    def __init__(self, on_mat: OnMat, felt: Felt, rule: LevelRule, mobility: float) -> None:
        self.on_mat, self.felt, self.rule, self.mobility = on_mat, felt, rule, mobility
        self.steps: list[PlanStep] = []
        self.notes: list[str] = []
        self.time_left = self.pressing_left = 0.0
        self.granted: set[int] = set()  # phases that may have one set more
        self.asked, self.possible = np.zeros((2, len(UP)))  # share; N within regional sums
        self.dosed = np.zeros(len(on_mat.layout.rows), dtype=bool)  # rows that press a dose
        self.wanted: set[str] = set()  # levels at which the programme wants a dose
        self.more, self.fewer = np.zeros((2, len(UP)), dtype=bool)  # levels whose sets changed
        beside = on_mat.beside
        near = np.where(beside, on_mat.shares, 0.0) + 1e-9 * beside
        self.caution = np.where(beside, rule.caution, 1.0).min(axis=1)
        self.ceiling = np.where(beside, rule.ceiling, 1.0).min(axis=1)
        self.most = np.minimum(MOST * self.caution, self.ceiling)  # share of a row's limit
        self._drive = (near @ rule.drive) / near.sum(axis=1)
        own = rule.sets[near.argmax(axis=1)]
        self._sets = np.where((~beside | rule.may_add).all(axis=1), own, np.minimum(own, 0))

    def grant(self, programme: Programme) -> None:
        """Decide which phases may have one set more, the strongest first, while there is time."""
        wanting = [
            (-phase.share, i, phase.duration + AROUND + phase.rest)
            for i, phase in enumerate(programme.phases)
            if isinstance(phase, Mobilise)
            and phase.share > 0.0
            and (self._sets[self._rows(phase.region, phase.levels)] > 0).any()
        ]
        for _, i, more in sorted(wanting):
            if self._afford(more):
                self.granted.add(i)
            else:
                self.notes.append(f"Phase {i + 1}: no time for one set more.")

    def add(self, i: int, phase: Phase) -> None:
        """Add the steps of phase `i`."""
        if isinstance(phase, Scan):
            self._put(i, phase.kind, None, detail=phase.detail, words=f"scan, {phase.detail}")
        elif isinstance(phase, Rescan):
            self._put(i, phase.kind, None, detail="quick", words="scan again")
        elif isinstance(phase, Settle):
            self._settle(i, phase)
        else:
            self._press(i, phase)

    def why(self, k: int) -> tuple[str, ...]:
        """Sentences about the dose of level k, in the order in which they count."""
        level = UP[k]
        region = region_of(level)
        if self.asked[k] == 0.0:
            return self._why_not(k)
        most = self.on_mat.layout.press_limits[region]
        asked = self.asked[k] * most
        said = [
            f"The programme asks for {self.asked[k]:.0%} of at most {most:g} N per finger"
            f" ({region}): {asked:.1f} N."
        ]
        if self.possible[k] < NEAR * asked:
            allowed = regional_sums(self.on_mat.mass)[region]
            said.append(
                f"Region: fingers that press together carry at most {allowed:.0f} N here, 0.6 of"
                f" the {region} region's weight, and less beside a more delicate region:"
                f" {self.possible[k]:.1f} N instead."
            )
        sets = int(self.rule.sets[k])
        if (sets > 0 and self.more[k]) or (sets < 0 and self.fewer[k]):
            changed = f"One set {'more' if sets > 0 else 'fewer'} than the programme asks for."
            return (*said, *self.rule.why[k], changed, *self._reckoned(k))
        return (*said, *self.rule.why[k], *self._reckoned(k))

    def _reckoned(self, k: int) -> tuple[str, ...]:
        """From what presses and work of level k are reckoned, as `plan.doses` does."""
        sets: Counter[tuple[float, float]] = Counter()
        gated = False
        for step in self.steps:
            goal = step.goal
            if goal is not None and step.pressing:
                rows = goal.fingers[goal.amplitude > 0.0] // 2
                if self.on_mat.beside[rows, k].any():
                    sets[goal.duration, goal.rate] += 1
                    gated |= goal.gated
        if not sets:
            return ()
        terms = " + ".join(f"{n} × {time:g} × {rate:g}" for (time, rate), n in sets.items())
        total = sum(n * time * rate for (time, rate), n in sets.items())
        source = f"the published profile × own trend {self.felt.trend:.2f}"
        if self.felt.valid[k]:
            source = f"{1e-3 * self.felt.value[k]:.1f} N/mm as felt, and of levels beside it"
        return (
            f"Presses, sets × s × Hz: {terms} = {'at most ' * gated}{total:.0f}."
            f" Work is reckoned from the stiffness: {source}.",
        )

    def _why_not(self, k: int) -> tuple[str, ...]:
        """Why nothing presses on level k."""
        if self.rule.caution[k] <= 0.0 or self.rule.ceiling[k] <= 0.0:
            return self.rule.why[k]
        rows = self.on_mat.layout.row_x
        between = np.flatnonzero(np.diff(np.sign(rows - self.on_mat.x[k])))
        if between.size and self.dosed[between[0] : between[0] + 2].all():
            return ("It lies between two rows: what presses beside it reaches it only in part.",)
        if UP[k] in self.wanted:
            return ("No row that may press reaches it.",)
        return ("The programme does not press here.",)

    def _put(
        self, i: int, kind: str, goal: PressGoal | None, *, words: str, detail: str = "",
        number: int = 0, rest: float = 0.0, breathing: str = "free", breaths: float = 0.0,
    ) -> None:  # fmt: skip
        if goal is not None:
            g = goal
            check_goal(
                self.on_mat.layout,
                waveform=g.waveform,
                fingers=g.fingers.tolist(),
                preload=g.preload.tolist(),
                amplitude=g.amplitude.tolist(),
                phase=g.phase.tolist(),
                rate=g.rate,
                duration=g.duration,
                approach_speed=g.approach_speed,
                expected=g.expected.tolist(),
                hold_after=g.hold_after,
                start_cycle=0,
                mass=g.mass,
                gated=g.gated,
            )
        self.steps.append(PlanStep(kind, i, number, goal, rest, breathing, breaths, detail, words))

    def _rows(self, region: str | None, levels: tuple[str, ...] | None) -> Index:
        rows = self.on_mat.rows(region, levels)
        return np.asarray(rows[(self.caution[rows] > 0.0) & (self.ceiling[rows] > 0.0)])

    def _leave_out(self, i: int, where: str) -> None:
        self.notes.append(f"Phase {i + 1} is left out: no row can be pressed ({where}).")

    def _settle(self, i: int, phase: Settle) -> None:
        rows = self._rows(phase.region, None)
        if rows.size == 0:
            return self._leave_out(i, phase.region)
        light = np.full(rows.size, PRELOAD)
        pieces = int(np.ceil(phase.duration / MAX_DURATION))
        goal = rhythm(
            self.on_mat,
            "together",
            rows,
            base=light,
            peak=light,
            rate=1.0,
            duration=phase.duration / pieces,
            gated=False,
        )
        goal = replace(goal, waveform=Waveform.CONTACT, amplitude=np.zeros(goal.fingers.size))
        for piece in range(pieces):
            self._put(
                i,
                phase.kind,
                replace(goal, hold_after=piece < pieces - 1),
                words=f"rest at contact, {phase.breaths:g} breaths per minute",
                breathing="led",
                breaths=phase.breaths,
            )

    def _press(self, i: int, phase: Pressing) -> None:
        rows = self._rows(phase.region, phase.levels)
        where = phase.region or ", ".join(phase.levels or ())
        if phase.share > 0.0:
            regions = AREAS.get(phase.region or "", ())
            self.wanted |= {v for v in UP if region_of(v) in regions} | set(phase.levels or ())
            self.dosed[rows] = True
        if rows.size == 0:
            return self._leave_out(i, where)
        duration = self._stable(phase) if isinstance(phase, Stability) else phase.duration
        if duration != phase.duration:
            self.notes.append(
                f"Phase {i + 1} ({where}) lasts {duration:.0f} s in place of {phase.duration:g} s"
                f" (× {duration / phase.duration:.2f}): complaints point to"
                f" {1.0 - self.mobility:.0%} stability."
            )
        sets = np.full(rows.size, phase.sets)
        if isinstance(phase, Mobilise) and phase.share > 0.0:
            sets = np.clip(phase.sets + self._sets[rows], 1, phase.sets + (i in self.granted))
            beside = self.on_mat.beside[rows]
            given = np.where(beside, sets[:, None], 0).max(axis=0)
            self.more |= given > phase.sets
            self.fewer |= (given > 0) & (given < phase.sets)
        goals: dict[int, PressGoal] = {}  # by how many rows take part
        most = 0.0
        for number in range(1, int(sets.max()) + 1):
            use = rows[sets >= number]
            if use.size not in goals:
                goals[use.size] = self._goal(phase, use, duration)
            goal = goals[use.size]
            top = float((goal.preload + goal.amplitude).max())
            most = max(most, float(goal.amplitude.max()))
            self._put(
                i,
                phase.kind,
                goal,
                number=number,
                rest=phase.rest if number < sets.max() else 0.0,
                breathing=phase.breathing,
                breaths=0.0 if isinstance(phase, Stability) else phase.led_breaths,
                detail=phase.cue if isinstance(phase, Stability) else "",
                words=f"{where}, {phase.pattern}: {goal.fingers.size} fingers, up to {top:.1f} N"
                f" at {goal.rate:g} Hz for {goal.duration:g} s, set {number} of {sets.max()}",
            )
        if phase.share > 0.0 and most < LITTLE:
            self.notes.append(
                f"Phase {i + 1} ({where}) presses little: up to {most:.1f} N above contact. All"
                " fingers that press together share what the region bears, a part of the person's"
                " weight; what else lowers it is said at its levels."
            )

    def _goal(self, phase: Pressing, rows: Index, duration: float) -> PressGoal:
        """One set on some rows: what the region can bear, then what this person's levels get.

        In this order, so that whoever should get less gets less also where the region's weight
        is what limits the force.
        """

        def pressed(peak: Array) -> PressGoal:
            return rhythm(
                self.on_mat,
                phase.pattern,
                rows,
                base=np.array([base_force(phase, p) for p in peak]),
                peak=peak,
                rate=phase.rate,
                duration=duration,
                gated=phase.breathing == "gated",
            )

        if phase.share == 0.0:
            return pressed(np.full(rows.size, PRELOAD))  # contact without a dose
        limit, reached = self.on_mat.limit[rows], self.on_mat.beside[rows]
        whole = pressed(phase.share * limit)
        possible = np.zeros(rows.size)
        np.maximum.at(
            possible, np.searchsorted(rows, whole.fingers // 2), whole.preload + whole.amplitude
        )
        self.asked = np.maximum(self.asked, phase.share * reached.any(axis=0))
        self.possible = np.maximum(self.possible, (reached * possible[:, None]).max(axis=0))
        drive = 1.0 if isinstance(phase, Stability) else self._drive[rows]
        peak = possible * self.caution[rows] * drive
        peak = np.minimum(peak, self.most[rows] * limit)  # whatever drives it
        return pressed(np.maximum(peak, MIN_PRELOAD))

    def _afford(self, more: float) -> bool:
        """Take more time for pressing, if there is so much."""
        if more > min(self.time_left, self.pressing_left):
            return False
        self.time_left, self.pressing_left = self.time_left - more, self.pressing_left - more
        return True

    def _stable(self, phase: Pressing) -> float:
        """How long a stability phase lasts for who needs more or less of it, s."""
        wanted = min((1.5 - self.mobility) * phase.duration, MAX_DURATION)
        if wanted <= phase.duration or self._afford(wanted - phase.duration):
            return wanted
        return phase.duration
