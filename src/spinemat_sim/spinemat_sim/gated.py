"""Gated phases of a programme on the full plant: do the peaks fall into expiration?

Everything a session does by itself takes part: the scan, the plan from it, rests between sets in
which no finger touches and the breath is lost, the watch that finds it again, and the rhythm that
keeps step with it. The plant knows when the person really breathes out.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.signal import find_peaks

from spinemat.breathing import BreathWatch
from spinemat.dosing import plan_session
from spinemat.layout import MatLayout
from spinemat.level_dose import Felt, Needs
from spinemat.modes import Mode
from spinemat.press import BREATH_AGE, Phase, PressRun
from spinemat.press_goal import HOLD_FORCE, HOLD_TIME
from spinemat.questionnaire import PersonRecord
from spinemat.screening import screen
from spinemat.session_programme import Programme
from spinemat.watches import SLOW
from spinemat_sim.closed_loop import ClosedLoop
from spinemat_sim.control_trials import retract, scan
from spinemat_sim.patient import Patient
from spinemat_sim.person import lie_down
from spinemat_sim.plant import INSPIRATION, Plant
from spinemat_sim.urdf import plain_urdf

Array = NDArray[np.float64]

PROMINENCE = 0.3  # of the goal's amplitude, by which a peak stands out
ENDED = 0.9  # turns of the breath from which the plant's people neither breathe out nor in
TOUCH = 1.0  # N from which a finger counts as pressing


class FeelingLoop(ClosedLoop):
    """A closed loop that feels the breath, as `spine_contour` does, and tells the press of it."""

    def __init__(self, plant: Plant) -> None:
        self.watch = BreathWatch(plant.layout)
        self._felt: tuple[float, float, float] | None = None  # when, s; rate, Hz; phase, rad
        super().__init__(plant)

    def step(self, run: PressRun | None = None) -> Array:
        """One drive cycle; return the measured forces, shape (n,), N."""
        now = self.cycle * self.layout.cycle
        if run is not None:
            run.breath = run.breath_rate = np.nan
            if self._felt is not None and now - self._felt[0] <= BREATH_AGE:
                since, rate, phase = self._felt
                run.breath = (phase / (2.0 * np.pi) + rate * (now - since)) % 1.0
                run.breath_rate = rate
        force = super().step(run)
        if self.cycle % SLOW == 0:
            now, control = self.cycle * self.layout.cycle, self.control
            touching = control.contact & (control.mode == Mode.FORCE)
            self.watch.add(now, control.position.copy(), control.force.copy(), touching)
            found = self.watch.at(now)
            if found is not None and found.valid:
                self._felt = now, found.rate, found.phase
        return force


class Gated(NamedTuple):
    """What one person's gated sets were like.

    Attributes:
        who: name of the person.
        programme: name.
        breath: true rate, Hz.
        presses: peaks of the true force in gated rhythms.
        expiring: of them, while the person breathed out or rested at its end.
        falling: of them, while the person breathed out.
        blind: share of the time of gated rhythms in which no breath was known.
        pressing: time that fingers pressed in rhythms, summed over fingers, s.
        held: of it, in static holds above `HOLD_FORCE` that lasted longer than `HOLD_TIME`, s.
    """

    who: str
    programme: str
    breath: float
    presses: int
    expiring: int
    falling: int
    blind: float
    pressing: float
    held: float


def press_gated(
    layout: MatLayout,
    programme: Programme,
    patient: Patient,
    record: PersonRecord,
    seed: int,
    sets: int,
) -> Gated:
    """Scan somebody, plan, and press the gated phases.

    Args:
        layout: of the mat.
        programme: with gated phases.
        patient: who lies on the mat.
        record: what they answered.
        seed: of sensors and drives.
        sets: of each gated phase at most.
    """
    loop = FeelingLoop(Plant(layout, lie_down(patient), plain_urdf(layout), seed))
    found = scan(loop)
    loop.watch.learn(found.place.levels["S1"], found.place.levels["T1"])
    felt = Felt.of_scan(found.height, found.levels())
    plan = plan_session(
        programme, layout, record.measures, felt, Needs.of_answers(record, screen(record))
    )
    rate = patient.breathing.rate
    at: list[float] = []  # turns of the breath at the peaks
    blind = cycles = 0
    pressing = held = 0.0
    for step in plan.steps:
        if step.goal is None or not step.goal.gated or step.set > sets:
            continue
        run = PressRun(step.goal, layout)
        force, turns = [], []
        while not run.done:
            loop.step(run)
            if run.phase is Phase.RHYTHM:
                force.append(loop.plant.truth().force[step.goal.fingers].copy())
                turns.append(loop.plant.time * rate % 1.0)
                blind += not np.isfinite(run.breath)
        cycles += len(force)
        each = np.array(force)
        least = PROMINENCE * max(float(step.goal.amplitude.sum()), TOUCH)
        at += np.array(turns)[find_peaks(each.sum(axis=1), prominence=least)[0]].tolist()
        pressing += float((each > TOUCH).sum()) * layout.cycle
        held += layout.cycle * sum(_held(f > HOLD_FORCE, layout.cycle) for f in each.T)
        retract(loop)
        loop.samples.clear()
        for _ in range(round(step.rest / layout.cycle)):
            loop.step()
    phase = np.array(at)
    return Gated(
        who=patient.name,
        programme=programme.name,
        breath=rate,
        presses=phase.size,
        expiring=int((phase >= INSPIRATION).sum()),
        falling=int(((phase >= INSPIRATION) & (phase < ENDED)).sum()),
        blind=blind / max(cycles, 1),
        pressing=pressing,
        held=held,
    )


def _held(above: NDArray[np.bool_], cycle: float) -> int:
    """Samples of stretches above a static hold's force that last too long."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], above.astype(np.int8), [0]])))
    length = edges[1::2] - edges[::2]
    return int(length[length * cycle > HOLD_TIME].sum())
