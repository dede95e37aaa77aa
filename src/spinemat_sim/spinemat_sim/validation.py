"""Experiments on virtual patients, each beside the published value it should reproduce.

Every figure is measured in the plant by pressing, waiting or watching, as a laboratory would do
with a person; none is read from the parameter that produced it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spinemat_sim.indenter import Indenter, indent, stiffness_truth
from spinemat_sim.patient import MEAN_STIFFNESS
from spinemat_sim.person import Person
from spinemat_sim.plant import Plant
from spinemat_sim.trunk import GRAVITY, MASS_FRACTION, REGIONS, Trunk, fit_interval, fit_toe

Array = NDArray[np.float64]

ANCHORS = tuple(MEAN_STIFFNESS)


def anchor_stiffness(person: Person, trunk: Trunk) -> dict[str, float]:
    """PA stiffness of a pair at the anchors of the published table, by indentation, N/m."""
    found = stiffness_truth(person, ANCHORS, trunk)
    return {level: found[level, "both"] for level in ANCHORS}


@dataclass(frozen=True)
class Curve:
    """Force over indentation of one level.

    Attributes:
        travel: mean travel of the pair, shape (k,), m.
        force: of the pair, shape (k,), N.
        toe_ratio: slope in the toe over the slope beyond it.
        r_squared: of a straight line beyond the toe.
    """

    travel: Array
    force: Array
    toe_ratio: float
    r_squared: float


def curve(person: Person, level: str, trunk: Trunk) -> Curve:
    """Press one level from the preload up to the end of its interval."""
    x = person.level_x[level]
    toe, (_, high) = fit_toe(person, x), fit_interval(person, x)
    soft, hard = np.linspace(0.3 * toe, 0.85 * toe, 5), np.linspace(1.05 * toe, high, 6)
    found = indent(person, level, [*soft.tolist(), *hard.tolist()], trunk)
    travel, force = found.travel.mean(axis=0), found.force.sum(axis=0)
    below, beyond = slice(0, 5), slice(5, None)
    fit = np.polyfit(travel[beyond], force[beyond], 1)
    residual = force[beyond] - np.polyval(fit, travel[beyond])
    spread = force[beyond] - force[beyond].mean()
    return Curve(
        travel=travel,
        force=force,
        toe_ratio=float(np.polyfit(travel[below], force[below], 1)[0] / fit[0]),
        r_squared=float(1.0 - residual @ residual / (spread @ spread)),
    )


def loss_factor(person: Person, level: str, rate: float, trunk: Trunk) -> float:
    """Tangent of the angle by which force leads travel, pressing up and down at `rate`, Hz.

    Travel is a small sinusoid in the middle of the linear range; the last three of six cycles
    count.
    """
    low, high = fit_interval(person, person.level_x[level])
    indenter = Indenter(person, level, trunk)
    indenter.approach()
    indenter.precondition(high)
    middle = 0.5 * (low + high)
    indenter.press(middle)
    indenter.hold(middle, 3.0)
    depth = 0.35 * (high - low) / person.patient.stiffness_of(level)
    cycle, w = indenter.layout.cycle, 2.0 * np.pi * rate
    steps = round(6.0 / rate / cycle)
    travel, force = np.zeros(steps), np.zeros(steps)
    for i in range(steps):
        indenter.move(depth * w * float(np.cos(w * i * cycle)))
        travel[i], force[i] = indenter.travel, indenter.force
    keep = slice(steps // 2, None)
    t = cycle * np.arange(steps)[keep]
    basis = np.column_stack([np.sin(w * t), np.cos(w * t), np.ones_like(t), t])

    def phasor(values: Array) -> complex:
        sine, cosine, *_ = np.linalg.lstsq(basis, values[keep], rcond=None)[0]
        return complex(sine, cosine)

    ratio = phasor(force) / phasor(travel)
    return float(ratio.imag / ratio.real)


def creep(person: Person, level: str, trunk: Trunk) -> tuple[Array, Array]:
    """Travel under a constant force in the linear range over two minutes.

    Returns:
        Time from the end of a loading ramp of about a second, s, and travel since then, m.
    """
    low, high = fit_interval(person, person.level_x[level])
    indenter = Indenter(person, level, trunk)
    indenter.approach()
    indenter.precondition(high)
    target = 0.5 * (low + high)
    indenter.press(target)
    indenter.hold(target, 1.0)
    time, travel = np.arange(0.0, 121.0, 1.0), [indenter.travel]
    for _ in time[1:]:
        indenter.hold(target, 1.0)
        travel.append(indenter.travel)
    return time, np.array(travel) - travel[0]


def creep_share(time: Array, travel: Array) -> float:
    """Share of two minutes' creep that has happened after 30 s."""
    return float(np.interp(30.0, time, travel) / np.interp(120.0, time, travel))


def still(plant: Plant, seconds: float, each: Callable[[], None] = lambda: None) -> None:
    """Leave the fingers down for a while; `each` is called after every cycle."""
    zero = np.zeros(plant.layout.n)
    for _ in range(round(seconds / plant.layout.cycle)):
        plant.step(zero, zero, zero)
        each()


def region_weights(person: Person) -> Array:
    """Weight of head with neck, thorax, abdomen and pelvis by the mass fractions, N."""
    return person.patient.mass * GRAVITY * np.array(MASS_FRACTION)


def lift(plant: Plant, region: str, over: float) -> tuple[float, float]:
    """Press under one region with a multiple of its weight, evenly by the rows under it.

    Returns:
        The region's load on the padding over its weight, and how far it rose, m.
    """
    r, person = REGIONS.index(region), plant.person
    spans = {
        "head": (0.5 * (person.x_of("T1") + person.x_of("C7")), np.inf),
        "thorax": (person.x_of("T11"), person.x_of("T2")),
        "abdomen": (person.x_of("L5"), person.x_of("L1")),
    }
    low, high = spans[region]
    under = (plant.layout.x >= low) & (plant.layout.x <= high)
    weight = region_weights(person)[r]
    target = np.where(under, over * weight / under.sum(), 0.0)
    finger, bound = plant.layout.finger, np.full(plant.layout.n, 200.0)
    start = plant.data.qpos[plant.body.body_q[2 * r]]
    for _ in range(round(6.0 / plant.layout.cycle)):
        speed = np.clip((target - plant.force) * 0.004, -0.02, 0.02)
        plant.step(np.where(under, speed, -finger.max_speed), -bound, bound)
    rise = float(plant.data.qpos[plant.body.body_q[2 * r]] - start)
    return float(plant.region_loads()[r] / weight), rise


def breathing(plant: Plant) -> tuple[float, float]:
    """Watch three breaths.

    Returns:
        Excursion of the skin of the back at the thorax felt by a pair that follows it with 1 N per
        finger, m, and ripple of the thorax' load on the padding with all fingers down: from peak
        to peak over its mean.
    """
    loads: list[float] = []
    time = 3.0 / plant.person.patient.breathing.rate
    still(plant, 3.0)
    still(plant, time, lambda: loads.append(float(plant.region_loads()[1])))
    ripple = float(np.ptp(loads) / np.mean(loads))
    pair = _pair_near(plant, plant.person.x_of("T8"))
    bound = np.full(plant.layout.n, 200.0)
    heights = []
    for i in range(round((time + 4.0) / plant.layout.cycle)):
        speed = np.zeros(plant.layout.n)
        speed[pair] = np.clip((1.0 - plant.force[pair]) * 0.01, -0.02, 0.02)
        plant.step(speed, -bound, bound)
        if i * plant.layout.cycle > 4.0:
            heights.append(float(plant.position[pair].mean()))
    return float(np.ptp(heights)), ripple


def _pair_near(plant: Plant, x: float) -> NDArray[np.int64]:
    row = int(np.argmin(np.abs(plant.layout.row_x - x)))
    return np.flatnonzero(plant.layout.x == plant.layout.row_x[row])


@dataclass(frozen=True)
class GuardingFound:
    """What a quick press provokes.

    Attributes:
        latency: from the stimulus to the first change of force against a person who does not
            guard, s.
        gain: largest rise of the force at the same place, share.
        decay: time constant of its fading, s.
    """

    latency: float
    gain: float
    decay: float


def guarding(make: Callable[[bool], Plant], threshold: float) -> GuardingFound:
    """Press a pair slowly over the threshold, hold it, and let go by half, with and without guard.

    Args:
        make: returns a plant without imperfections; true: of the person as is, false: of the same
            person whose muscles stay quiet.
        threshold: force on a finger that provokes guarding, N.
    """
    traces, begun, fell = [], 0, 0
    for guards in (False, True):
        plant = make(guards)
        plant.breathing = False
        cycle = plant.layout.cycle
        pair = _pair_near(plant, plant.person.x_of("T8"))
        bound, speed = np.full(plant.layout.n, 200.0), np.zeros(plant.layout.n)
        force: list[float] = []
        if not guards:  # the other one is moved in the same way
            moves: list[float] = []
            while not force or force[-1] <= threshold:
                moves.append(0.006)
                speed[pair] = moves[-1]
                plant.step(speed, -bound, bound)
                force.append(float(plant.force[pair].max()))
            begun = len(moves) - 1
            hold, back = round(2.0 / cycle), round(0.1 / cycle)
            moves += [0.0] * hold + [-0.012] * back + [0.0] * round(4.0 / cycle)
            fell = begun + 1 + hold + back
            plant, force = make(False), []
            plant.breathing = False
        for move in moves:
            speed[pair] = move
            plant.step(speed, -bound, bound)
            force.append(float(plant.force[pair].max()))
        traces.append(np.array(force))
    difference = (traces[1] - traces[0]) / np.maximum(traces[0], 1.0)
    first = int(np.argmax(difference > 0.005))
    late = difference[fell + round(0.5 / cycle) :]
    slope = np.polyfit(cycle * np.arange(len(late)), np.log(np.maximum(late, 1e-6)), 1)[0]
    return GuardingFound((first - begun) * cycle, float(difference[:fell].max()), -1.0 / slope)
