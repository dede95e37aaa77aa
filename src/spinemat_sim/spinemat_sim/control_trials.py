"""Trials of force control on the noisy plant, judged by the plant's truth.

The functions run without ROS, on `closed_loop.ClosedLoop`, one patient each, and are called in
parallel processes by `spinemat bench force`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spinemat.anatomy import check_intake, regional_sums
from spinemat.gains import SLEW
from spinemat.layout import MatLayout
from spinemat.press import Phase, PressRun
from spinemat.press_goal import PressGoal, Waveform
from spinemat.scan import SpineScan
from spinemat_sim.closed_loop import ClosedLoop
from spinemat_sim.patient import Patient
from spinemat_sim.person import lie_down
from spinemat_sim.plant import Plant
from spinemat_sim.population import find_patient
from spinemat_sim.trunk import TissueSpring, Trunk, build_trunk
from spinemat_sim.urdf import plain_urdf

Array = NDArray[np.float64]
Fingers = NDArray[np.int64]

PRELOAD = 2.0  # N
TURNS = 6  # of a rhythm
ROWS_TOGETHER = 2
STEP, STEP_FROM = 5.0, (3.0, 12.0)  # N, below and above the toe of the trunk
STEP_TIME, SETTLED = 1.0, 0.25  # s, N: five per cent of the step
QUIET = 1.0  # N: a finger that lets go feels less


class Tracking(NamedTuple):
    """One rhythm on some rows.

    Attributes:
        error: root mean square of true force minus set-point, of the worst finger, N.
        over: largest true force over the press limit, N.
        slew: steepest change of a set-point, N/s.
    """

    error: float
    over: float
    slew: float


class Control(NamedTuple):
    """What one patient's trials gave; see `try_patient`."""

    slow: list[Tracking]
    fast: list[Tracking]
    overshoot: float
    settling: float
    contact: float
    neighbour: float
    rows: float
    cancel: float
    peak: float


def goal(
    layout: MatLayout, fingers: Sequence[int] | Fingers, preload: float, amplitude: Array | float,
    rate: float, duration: float, expected: Array | None = None, mass: float = 165.0,
    waveform: Waveform = Waveform.RAISED_COSINE, hold: bool = False,
) -> PressGoal:  # fmt: skip
    """A press with one preload; amplitude is one number or of the fingers' shape, N."""
    index = np.array(fingers, dtype=np.int64)
    k = len(index)
    contact = np.full(k, np.nan) if expected is None else expected[index]
    return PressGoal(
        waveform, index, np.full(k, preload), np.broadcast_to(amplitude, k).copy(), np.zeros(k),
        rate, duration, 0.005 if expected is None else 0.03, contact, hold, 0, mass,
    )  # fmt: skip


def scan(loop: ClosedLoop) -> SpineScan:
    """Scan as a session does, believe what was found, retract."""
    p = loop.plant.person.patient
    found = SpineScan(loop.layout, check_intake(p.sex, float(p.age), p.stature, p.mass))
    for step in found.steps(0, True):
        loop.samples.clear()
        _, outcome = loop.press(step.goal)
        found.take(outcome, loop.samples)
    loop.control.believe(*found.finger_stiffness())
    retract(loop)
    return found


def retract(loop: ClosedLoop) -> None:
    """Take all fingers down and wait for them."""
    loop.control.retract(slice(None))
    while not loop.control.idle:
        loop.step()
    for _ in range(round(2.0 * loop.control.gains.zero_time / loop.layout.cycle)):
        loop.step()


def strongest(layout: MatLayout, fingers: Fingers, rate: float, mass: float) -> Array:
    """Largest amplitude that limits per finger, slew and regional sums permit, N."""
    amplitude = np.minimum(layout.press_limit[fingers] - PRELOAD, SLEW / (np.pi * rate))
    regions = np.array(layout.regions)[fingers]
    for region, allowed in regional_sums(mass).items():
        mine = np.flatnonzero(regions == region)
        room = max(allowed - PRELOAD * mine.size, 0.0)
        total = amplitude[mine].sum()
        amplitude[mine] *= min(1.0, room / total) if total > 0.0 else 1.0
    return np.asarray(np.maximum(amplitude, 0.0))


def track(loop: ClosedLoop, press: PressGoal) -> Tracking:
    """Run a rhythm to its end and compare the truth with the set-points."""
    run, k = PressRun(press, loop.layout), press.fingers
    errors, over, slew = [], -np.inf, 0.0
    before, touched = np.zeros(len(k)), np.zeros(len(k), dtype=bool)
    while not run.done:
        loop.step(run)
        truth, reference = loop.plant.truth(), loop.control.reference[k]
        over = max(over, float((truth.peak_force - loop.layout.press_limit).max()))
        if Phase.LOAD <= run.phase < Phase.DONE:
            change = np.abs(reference - before)[touched & loop.control.contact[k]]
            slew = max(slew, float(change.max(initial=0.0)) / loop.layout.cycle)
        if run.phase is Phase.RHYTHM:
            errors.append(truth.force[k] - reference)
        before, touched = reference, loop.control.contact[k].copy()
    retract(loop)
    error = np.sqrt(np.mean(np.square(errors), axis=0)).max() if errors else np.nan
    return Tracking(float(error), over, slew)


def try_patient(layout: MatLayout, patient: Patient, seed: int) -> Control:
    """All trials of one patient.

    Returns:
        slow, fast: rhythms at 0.5 and 1.5 Hz on two rows at a time along the whole mat, up to the
            press limits as far as slew and regional sums permit;
        overshoot, settling: after steps of 5 N on a pair, breath held, N and s;
        contact: largest force over the preload at first contact, tissue unknown, N;
        neighbour: change of force of the neighbours, holding 3 N, of a finger that presses 20 N at
            0.5 Hz, root mean square, N;
        rows: the same beside two rows at 1.5 Hz, N;
        cancel: s from a cancel at the peak of a rhythm to all fingers under 1 N;
        peak: largest true force over the press limit in all of it, N.
    """
    loop = ClosedLoop(Plant(layout, lie_down(patient), plain_urdf(layout), seed))
    contact = _first_contact(loop)
    height = scan(loop).height
    felt = np.isfinite(height).tolist()
    rows = [r for r in range(len(layout.rows)) if felt[2 * r] and felt[2 * r + 1]]
    found: dict[float, list[Tracking]] = {0.5: [], 1.5: []}
    for rate, results in found.items():
        for i in range(0, len(rows), ROWS_TOGETHER):
            fingers = np.array([2 * r + s for r in rows[i : i + ROWS_TOGETHER] for s in (0, 1)])
            most = strongest(layout, fingers, rate, patient.mass)
            press = goal(layout, fingers, PRELOAD, most, rate, TURNS / rate, height, patient.mass)
            results.append(track(loop, press))
    overshoot, settling = _steps(loop, height)
    neighbour = _disturbance(loop, height, [6], [4, 5, 7, 8, 9], 0.5, 18.0)
    both = _disturbance(loop, height, [6, 7, 8, 9], [4, 5, 10, 11], 1.5, SLEW / (1.5 * np.pi))
    cancel = _cancel(loop, height)
    peak = float((loop.peak - layout.press_limit).max())
    return Control(
        found[0.5], found[1.5], overshoot, settling, contact, neighbour, both, cancel, peak
    )


def _first_contact(loop: ClosedLoop) -> float:
    fingers = np.arange(loop.layout.n)
    run = PressRun(goal(loop.layout, fingers, PRELOAD, 0.0, 0.5, 0.5,
                        waveform=Waveform.CONTACT), loop.layout)  # fmt: skip
    peak = 0.0
    while not run.done:
        loop.step(run)
        if run.phase in (Phase.APPROACH, Phase.LOAD):
            peak = max(peak, float(loop.plant.truth().peak_force.max()))
    retract(loop)
    return peak - PRELOAD


def _hold(loop: ClosedLoop, height: Array, fingers: Sequence[int], force: float) -> Fingers:
    """Bring fingers to a force and leave them there."""
    press = goal(loop.layout, fingers, force, 0.0, 0.5, 1.0, height,
                 waveform=Waveform.CONTACT, hold=True)  # fmt: skip
    loop.press(press)
    return press.fingers


def _steps(loop: ClosedLoop, height: Array) -> tuple[float, float]:
    loop.plant.breathing = False
    worst, slowest = 0.0, 0.0
    for start in STEP_FROM:
        for pair in ([4, 5], [14, 15]):
            k = _hold(loop, height, pair, start)
            loop.control.follow_force(k, np.full(2, start + STEP))
            forces = []
            for _ in range(round(STEP_TIME / loop.layout.cycle)):
                loop.step()
                forces.append(loop.plant.truth().force[k])
            off = np.array(forces) - (start + STEP)
            outside = np.flatnonzero(np.abs(off).max(axis=1) > SETTLED)
            slowest = max(slowest, (outside[-1] + 1) * loop.layout.cycle if len(outside) else 0.0)
            worst = max(worst, float(off.max()))
            retract(loop)
    loop.plant.breathing = True
    return worst, slowest


def _disturbance(
    loop: ClosedLoop, height: Array, pressing: list[int], holding: list[int], rate: float,
    amplitude: float,
) -> float:  # fmt: skip
    """Root mean square of what a rhythm changes in held forces, breath held, N."""
    loop.plant.breathing = False
    k = _hold(loop, height, holding, 3.0)
    press = goal(loop.layout, pressing, PRELOAD, amplitude, rate, 4.0 / rate, height)
    run, forces = PressRun(press, loop.layout), []
    while not run.done:
        loop.step(run)
        if run.phase is Phase.RHYTHM:
            forces.append(loop.plant.truth().force[k])
    retract(loop)
    loop.plant.breathing = True
    return float(np.std(forces, axis=0).max())


def _cancel(loop: ClosedLoop, height: Array) -> float:
    pair = [4, 5]
    run = PressRun(goal(loop.layout, pair, PRELOAD, 24.0, 0.5, 20.0, height), loop.layout)
    while run.phase < Phase.RHYTHM or loop.control.reference[pair].min() < 25.5:
        loop.step(run)
    since = loop.cycle
    run.cancel(since)
    while loop.plant.truth().force.max() > QUIET:
        loop.step(run)
    seconds = (loop.cycle - since) * loop.layout.cycle
    retract(loop)
    return seconds


# --- tissue of any stiffness ------------------------------------------------------------------


@dataclass(frozen=True)
class Block(Trunk):
    """A body whose tissue is one linear spring under every tip, on firm levels.

    Attributes:
        tip: stiffness of that spring, N/m.
    """

    tip: float = 0.0

    def tissue(self, x: float, y: float) -> TissueSpring:
        """The same spring everywhere."""
        return TissueSpring(self.tip, self.tip, 1e-4, 1.0)


class Hold(NamedTuple):
    """Holding on to a block that is stiffer or softer than believed.

    Attributes:
        contact: largest force over the preload at the first contact and until it is held, N.
        ripple: standard deviation of the held force in the last second, N.
    """

    contact: float
    ripple: float


def hold_block(layout: MatLayout, stiffness: float, seed: int) -> Hold:
    """Touch and hold a block of one stiffness, N/m per finger, believed to be average tissue."""
    trunk = build_trunk(lie_down(find_patient("")))
    block = Block(**{f.name: getattr(trunk, f.name) for f in fields(trunk)}, tip=stiffness)
    block = replace(block, level_stiffness=10.0 * block.level_stiffness)
    plant = Plant(layout, trunk.person, plain_urdf(layout), seed, trunk=block)
    plant.breathing = False
    loop, pair, force = ClosedLoop(plant), [10, 11, 16], 3.0
    press = goal(layout, pair, force, 0.0, 0.5, 3.0, waveform=Waveform.CONTACT)
    run, forces, peak = PressRun(press, layout), [], 0.0
    while not run.done:
        loop.step(run)
        if run.phase is Phase.RHYTHM:
            forces.append(plant.truth().force[pair])
        if run.phase <= Phase.RHYTHM:
            peak = max(peak, float(plant.truth().peak_force[pair].max()))
    last = np.array(forces)[-round(1.0 / layout.cycle) :]
    return Hold(peak - force, float(last.std(axis=0).max()))
