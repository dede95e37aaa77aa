"""The same presses on the same person in any engine, so that engines can be compared.

Controller, drive stage and plant in one process, as in `closed_loop.py`; which engine moves the
plant is the caller's choice. Numbers without a source are engineering choices.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spinemat.anatomy import check_intake
from spinemat.layout import MatLayout
from spinemat.press import PressRun
from spinemat.press_goal import PressGoal, Waveform, check_goal
from spinemat.scan import SpineScan
from spinemat_sim.closed_loop import ClosedLoop
from spinemat_sim.person import Person
from spinemat_sim.plant import Plant

Array = NDArray[np.float64]

LEVELS = ("C7", "T7", "L3")
PRELOAD = 2.0  # N per finger
AMPLITUDE = {"neck": 5.0, "thoracic": 12.0, "lumbar": 20.0}  # N per finger
TRAVEL = {"neck": 0.003, "thoracic": 0.0045, "lumbar": 0.0055}  # m from just below the skin
RATE, TURNS = 0.5, 2  # Hz, presses
NEAR = 0.001  # m below the skin where a press by travel begins
SPEED = 0.05  # m/s up to there
LET_GO = 0.25  # s after a stop, in which every finger has to be below
SLACK = 1.0  # N
DOWN, RETRACTED = 0.002, 2.5  # m over the lower end of the stroke, and s after a stop


@dataclass(frozen=True)
class Engine:
    """What the presses showed in one engine; (levels,) in the order of `LEVELS`.

    Attributes:
        travel_force, travel_depth: largest force of the pair, N, and its mean indentation then, m,
            where the tips' travel was the same.
        force, depth: the same where the controller pressed with the same force.
        x, contour: of the scan, m.
        pressing: fingers that still press `LET_GO` after a stop.
        standing: fingers that are not down `RETRACTED` after it.
        loaded: fingers that pressed when it came.
        times_real_time: simulated time over wall time.
    """

    travel_force: Array
    travel_depth: Array
    force: Array
    depth: Array
    x: Array
    contour: Array
    pressing: int
    standing: int
    loaded: int
    times_real_time: float


def nearest_row(layout: MatLayout, person: Person, level: str) -> int:
    """Index of the row nearest to a level."""
    return int(np.argmin(np.abs(layout.row_x - person.x_of(level))))


class _Pair:
    """The largest force of a pair, and its mean indentation then."""

    def __init__(self, plant: Plant, row: int) -> None:
        self._plant, self._pair = plant, [2 * row, 2 * row + 1]
        self.force = self.depth = 0.0

    def look(self) -> None:
        truth = self._plant.truth()
        force = float(truth.force[self._pair].sum())
        if force > self.force:
            self.force, self.depth = force, float(truth.indentation[self._pair].mean())


def press_by_travel(plant: Plant, row: int) -> tuple[float, float]:
    """Move the tips of a row in and out, the same way whatever they feel.

    Returns:
        Largest force of the pair, N, and its mean indentation then, m.
    """
    layout, finger = plant.layout, plant.layout.finger
    pair, found = [2 * row, 2 * row + 1], _Pair(plant, row)
    bound = np.full(layout.n, finger.max_force)
    height = float(plant.contour(layout.row_x[row : row + 1])[0]) - NEAR
    amplitude = TRAVEL[layout.regions[pair[0]]] + NEAR

    def move(speed: float) -> None:
        velocity = np.full(layout.n, -finger.max_speed)
        velocity[pair] = speed
        plant.step(velocity, -bound, bound)
        found.look()

    while plant.position[pair].min() < height:
        move(SPEED)
    for i in range(round(TURNS / RATE / layout.cycle)):
        turn = 2.0 * np.pi * RATE * i * layout.cycle
        move(amplitude * np.pi * RATE * float(np.sin(turn)))
    while plant.position[pair].max() > finger.stroke[0] + DOWN:
        move(-finger.max_speed)
    return found.force, found.depth


def press_by_force(loop: ClosedLoop, person: Person, row: int) -> tuple[float, float]:
    """Let the controller press with a row; see `press_by_travel` for what is returned."""
    layout, found = loop.layout, _Pair(loop.plant, row)
    goal = _goal(loop, person, [2 * row, 2 * row + 1], Waveform.RAISED_COSINE)
    run = PressRun(goal, layout)
    while not run.done:
        loop.step(run)
        found.look()
    return found.force, found.depth


def _goal(loop: ClosedLoop, person: Person, fingers: list[int], shape: Waveform) -> PressGoal:
    layout = loop.layout
    amplitude = [AMPLITUDE[layout.regions[i]] for i in fingers]
    return check_goal(
        layout,
        waveform=shape,
        fingers=fingers,
        preload=[PRELOAD] * len(fingers),
        amplitude=amplitude if shape is Waveform.RAISED_COSINE else [0.0] * len(fingers),
        phase=[],
        rate=RATE,
        duration=TURNS / RATE,
        approach_speed=0.02,
        expected=loop.plant.contour(layout.x[fingers]).tolist(),
        hold_after=shape is Waveform.CONTACT,
        start_cycle=0,
        mass=person.patient.mass,
    )


def stop_all(loop: ClosedLoop, person: Person) -> tuple[int, int, int]:
    """Press lightly with all fingers and withdraw the permit.

    Returns:
        How many pressed, how many press after `LET_GO`, how many are not down after `RETRACTED`.
    """
    loop.press(_goal(loop, person, list(range(loop.layout.n)), Waveform.CONTACT))
    loaded = int((loop.plant.force > 0.5 * PRELOAD).sum())
    loop.granted = False
    _spend(loop, LET_GO)
    pressing = int((loop.plant.force > SLACK).sum())
    _spend(loop, RETRACTED - LET_GO)
    standing = int((loop.plant.position > loop.layout.finger.stroke[0] + DOWN).sum())
    loop.granted = True
    return loaded, pressing, standing


def _spend(loop: ClosedLoop, seconds: float) -> None:
    for _ in range(round(seconds / loop.layout.cycle)):
        loop.step()


def try_engine(plant: Plant) -> Engine:
    """Scan the contour, press `LEVELS` by travel and by force, and stop."""
    person, layout = plant.person, plant.layout
    begun, start = time.perf_counter(), plant.cycle
    rows = [nearest_row(layout, person, level) for level in LEVELS]
    travel = np.array([press_by_travel(plant, row) for row in rows])
    loop = ClosedLoop(plant)
    patient = person.patient
    intake = check_intake(patient.sex, float(patient.age), patient.stature, patient.mass)
    scan = SpineScan(layout, intake)
    for step in scan.steps(0, False):
        loop.samples.clear()
        _, outcome = loop.press(step.goal)
        scan.take(outcome, loop.samples)
    assert scan.contour is not None
    force = np.array([press_by_force(loop, person, row) for row in rows])
    loaded, pressing, standing = stop_all(loop, person)
    seconds = (plant.cycle - start) * layout.cycle
    return Engine(
        travel_force=travel[:, 0],
        travel_depth=travel[:, 1],
        force=force[:, 0],
        depth=force[:, 1],
        x=scan.contour.x,
        contour=scan.contour.z,
        pressing=pressing,
        standing=standing,
        loaded=loaded,
        times_real_time=seconds / (time.perf_counter() - begun),
    )
