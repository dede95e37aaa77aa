"""Trials over many sampled people: does the plant stay sound, does the twin agree with it.

The functions run one person each and are called in parallel processes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import mujoco
import numpy as np
from numpy.typing import NDArray

from spinemat.anatomy import REGION_SHARE
from spinemat.gains import SLEW
from spinemat.layout import MatLayout
from spinemat.twin import LIFTING, Twin, TwinRun
from spinemat_sim.identify import identify
from spinemat_sim.patient import Patient
from spinemat_sim.person import lie_down
from spinemat_sim.plant import Plant
from spinemat_sim.sensors import Imperfections
from spinemat_sim.trunk import build_trunk
from spinemat_sim.urdf import plain_urdf
from spinemat_sim.validation import region_weights

Array = NDArray[np.float64]

STRESS_SECONDS = 30.0
RAMP = 2.0  # s up to the preload of a pattern: tips have to reach the hollow of the loins first
PATTERN_SECONDS = 7.0
TIP_DAMPING = 30.0  # N s/m of the sources of force, so that tips do not ring


class Stress(NamedTuple):
    """What happened to one person in 30 s.

    Attributes:
        finite: no NaN, no infinity and no warning of MuJoCo.
        kinetic: largest kinetic energy, J.
        rise: how far the thorax rose at most, m.
        residual: kinetic energy at the end, J.
    """

    finite: bool
    kinetic: float
    rise: float
    residual: float


def stress(layout: MatLayout, patient: Patient, seed: int) -> tuple[Stress, Stress]:
    """Press 30 s with all fingers at their limits, then 30 s rhythmically within regional sums."""
    person = lie_down(patient)
    trunk, urdf = build_trunk(person), plain_urdf(layout)
    limit = layout.press_limit
    allowed = REGION_SHARE * region_weights(person)
    region = np.array([{"neck": 0, "thoracic": 1, "lumbar": 2}[r] for r in layout.regions])
    sums = np.array([limit[region == r].sum() for r in range(3)])
    within = limit * np.minimum(1.0, allowed[:3] / np.maximum(sums, 1e-9))[region]
    found = []
    for target, rhythm in ((limit, False), (within, True)):
        plant = Plant(layout, person, urdf, seed, trunk=trunk)
        found.append(_endure(plant, target, rhythm))
    return found[0], found[1]


def _endure(plant: Plant, target: Array, rhythm: bool) -> Stress:
    plant.model.opt.enableflags |= mujoco.mjtEnableBit.mjENBL_ENERGY
    finger = plant.layout.finger
    velocity, low = np.full(plant.layout.n, 0.03), np.full(plant.layout.n, -finger.max_force)
    thorax = plant.body.body_q[2]
    kinetic, rise, finite = 0.0, 0.0, True
    for i in range(round(STRESS_SECONDS / plant.layout.cycle)):
        spring = finger.return_stiffness * (plant.position - finger.stroke[0])
        wave = 0.5 - 0.5 * np.cos(np.pi * plant.layout.cycle * i) if rhythm else 1.0
        plant.step(velocity, low, wave * target + finger.return_preload + spring)
        energy = float(plant.data.energy[1])
        kinetic, rise = max(kinetic, energy), max(rise, float(plant.data.qpos[thorax]))
        finite = finite and bool(np.isfinite(energy))
    finite = finite and bool(np.isfinite(plant.data.qpos).all() and np.isfinite(plant.force).all())
    finite = finite and not any(w.number for w in plant.data.warning)
    return Stress(finite, kinetic, rise, energy)


@dataclass(frozen=True)
class Pattern:
    """A rhythm: preload and amplitude of each finger, shape (n,), N, rate in Hz, phase in rad."""

    preload: Array
    amplitude: Array
    phase: Array
    rate: float

    def force(self, time: Array) -> Array:
        """Force of each finger, shape (len(time), n), N."""
        t = np.maximum(time - RAMP, 0.0)[:, None]
        up = 0.5 - 0.5 * np.cos(2.0 * np.pi * self.rate * t - self.phase)
        rest = 0.5 - 0.5 * np.cos(self.phase)
        ramp = np.minimum(time / RAMP, 1.0)[:, None]
        return ramp * (self.preload + self.amplitude * (rest + (up - rest)))


def patterns(layout: MatLayout, count: int, seed: int) -> list[Pattern]:
    """Draw rhythms: on one to four rows, both sides, one side or alternating; every fifth one on
    all rows of thorax or loins, hard enough that some people lift off.
    """
    rng = np.random.default_rng([seed, 3])
    made = []
    rows = layout.n // 2
    region = np.array(layout.regions)
    for i in range(count):
        used = rng.choice(rows, int(rng.integers(1, 5)), replace=False)
        kind = ("both", "left", "right", "alternating", "region")[i % 5]
        strength = float(rng.uniform(0.3, 0.95))
        rate = float(rng.choice([0.2, 0.3, 0.5, 0.8, 1.0, 1.5]))
        sides = {"left": (0,), "right": (1,)}.get(kind, (0, 1))
        on = np.zeros(layout.n, dtype=bool)
        on[[2 * r + s for r in used for s in sides]] = True
        if kind == "region":
            on, strength = region == ("thoracic", "lumbar")[i % 2], 0.95
        amplitude = np.where(on, strength * (layout.press_limit - 2.0), 0.0)
        amplitude = np.minimum(amplitude, SLEW / (np.pi * rate))
        phase = np.zeros(layout.n)
        if kind == "alternating":
            phase[1::2] = np.pi
        made.append(Pattern(np.where(on, 2.0, 0.0), amplitude, phase, rate))
    return made


class Agreement(NamedTuple):
    """Relative errors of the twin against the plant for one person, over patterns and fingers.

    Attributes:
        indentation: of the largest travel of each pressed finger.
        work: that each pressed finger put in during the rhythm.
        warning: of the force of all fingers together at which the first region has only the share
            `LIFTING` of its weight left, in patterns that come so far.
        warned: patterns in which the twin warns; its travel and work are not compared there.
        unlike: patterns in which one of both came to less than half of that share while the
            other one never came to it.
    """

    indentation: Array
    work: Array
    warning: Array
    warned: int
    unlike: int


def agree(layout: MatLayout, patient: Patient, rhythms: list[Pattern], step: float) -> Agreement:
    """Run the same forces on the plant and on the twin of one person, breath held."""
    person = lie_down(patient)
    trunk, urdf = build_trunk(person), plain_urdf(layout)
    twin: Twin | None = None
    travel, work, warning, warned, unlike = [], [], [], 0, 0
    for rhythm in rhythms:
        plant = Plant(layout, person, urdf, 0, Imperfections.none(), trunk)
        plant.breathing = False
        twin = identify(plant) if twin is None else twin
        on = rhythm.preload > 0.0
        real, forces = _on_plant(plant, rhythm)
        thought = _on_twin(twin, forces, plant.layout.cycle, step)
        a, b = (_force_at_warning(c, forces, layout.cycle) for c in (real, thought))
        if a > 0.0 and b > 0.0:
            warning.append(b / a - 1.0)
        least = [float(c.left.min()) for c in (real, thought)]
        unlike += bool(min(least) < 0.5 * LIFTING and max(least) > LIFTING)
        if least[1] < LIFTING:
            warned += 1
            continue
        travel += list(thought.travel[on] / (real.travel[on] - twin.contact[0, on]) - 1.0)
        work += list(thought.work[on] / real.work[on] - 1.0)
    return Agreement(np.array(travel), np.array(work), np.array(warning), warned, unlike)


class _Course(NamedTuple):
    travel: Array  # largest in the rhythm, (n,), m
    work: Array  # in the rhythm, (n,), J
    times: Array  # of the looks at the padding, (t,), s
    left: Array  # share of its weight that each region has left, (t, 4)


def _force_at_warning(course: _Course, forces: Array, cycle: float) -> float:
    """Force of all fingers when the first region has `LIFTING` left, N; 0 if none ever has."""
    least = course.left.min(axis=1)
    below = np.flatnonzero(least < LIFTING)
    if not len(below) or below[0] == 0:
        return 0.0
    i = int(below[0])
    time = float(np.interp(-LIFTING, -least[i - 1 : i + 1], course.times[i - 1 : i + 1]))
    known = cycle * np.arange(1, len(forces) + 1)
    return float(np.interp(time, known, forces.sum(axis=1)))


def _on_plant(plant: Plant, rhythm: Pattern) -> tuple[_Course, Array]:
    """Press with damped sources of force; what is not pressed stays down.

    Returns:
        What happened, and the forces that the tissue really carried, shape (cycles, n), N.
    """
    cycle, finger, n = plant.layout.cycle, plant.layout.finger, plant.layout.n
    times: Array = cycle * np.arange(1.0, round(PATTERN_SECONDS / cycle) + 1.0)
    on, weight = rhythm.preload > 0.0, region_weights(plant.person)
    travel, velocity = np.full(n, -1.0), np.where(on, 0.0, -0.05)
    before, forces = np.zeros(n), np.zeros((len(times), n))
    left = np.zeros((len(times), len(weight)))
    speed = plant.data.qvel[plant.body.finger_q[0] : plant.body.finger_q[0] + n]
    for i, (time, force) in enumerate(zip(times, rhythm.force(times), strict=True)):
        spring = finger.return_stiffness * (plant.position - finger.stroke[0])
        motor = force + finger.return_preload + spring - TIP_DAMPING * speed
        low, high = np.where(on, motor, -finger.max_force), np.where(on, motor, finger.max_force)
        plant.step(velocity, low, high)
        forces[i] = plant.force
        if time <= RAMP:
            before = plant.work
        else:
            travel = np.maximum(travel, plant.position)
        left[i] = plant.region_loads() / weight
    return _Course(travel, plant.work - before, times, left), forces


def _on_twin(twin: Twin, forces: Array, cycle: float, step: float) -> _Course:
    run = TwinRun(twin, step)
    known = cycle * np.arange(1, len(forces) + 1)
    times: Array = step * np.arange(1.0, round(PATTERN_SECONDS / step) + 1.0)
    wanted = np.array([np.interp(times, known, f) for f in forces.T]).T
    travel, before, left = np.zeros(run.travel.shape), np.zeros(run.travel.shape), []
    for time, force in zip(times, wanted, strict=True):
        run.advance(force[None])
        if time <= RAMP:
            before = run.work
        else:
            travel = np.maximum(travel, run.travel)
        left.append(run.load[0] / twin.weight[0])
    return _Course(travel[0], (run.work - before)[0], times, np.array(left))


def fingerprint(layout: MatLayout, patient: Patient, seed: int, seconds: float = 3.0) -> bytes:
    """All that the sensors say while fingers press and let go, with all imperfections."""
    plant = Plant(layout, lie_down(patient), plain_urdf(layout), seed)
    said, bound = [], np.full(layout.n, 20.0)
    for i in range(round(seconds / layout.cycle)):
        plant.step(np.full(layout.n, 0.03 * np.sin(2.0 * i * layout.cycle)), -bound, bound)
        said += [values.tobytes() for values in plant.measure()]
    return b"".join([*said, plant.data.qpos.tobytes()])
