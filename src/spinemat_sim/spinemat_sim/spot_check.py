"""A session of a simulated course once more, on the full plant.

The course reckons with the twin; here controller, drive stage, noise, friction and backlash take
part. Forces are those of the plan; gated presses are not lowered, as on the twin.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spinemat.back_model import UP
from spinemat.layout import MatLayout
from spinemat_sim.closed_loop import ClosedLoop
from spinemat_sim.course import Pressed
from spinemat_sim.person import lie_down
from spinemat_sim.plant import Plant
from spinemat_sim.urdf import plain_urdf

Array = NDArray[np.float64]

LITTLE = 0.25  # of the work of the level that has most: below it is not compared (choice)


class Spot(NamedTuple):
    """What the plant makes of presses that the twin had.

    Attributes:
        breathing: whether the person breathed.
        work: of each level in the rhythms, as fingers measure it, over the twin's, less 1, L5
            first, shape (24,); NaN where the level has less than `LITTLE` of the work of the
            level that has most.
        peak: greatest true force of a finger over the plan's, less 1.
        over: greatest true force of a finger over its press limit, N.
    """

    breathing: bool
    work: Array
    peak: float
    over: float


def press_plant(layout: MatLayout, pressed: Pressed, breathing: bool, seed: int) -> Spot:
    """Do a session once more.

    Args:
        layout: the mat.
        pressed: the session.
        breathing: whether the person breathes; the twin knows no breath.
        seed: of sensors and drives.
    """
    plant = Plant(layout, lie_down(pressed.patient), plain_urdf(layout), seed)
    plant.breathing = breathing
    loop, work = ClosedLoop(plant), np.zeros(layout.n)
    for step in pressed.plan.steps:
        if step.goal is not None:
            run, _ = loop.press(step.goal)
            work[step.goal.fingers] += step.pressing * run.work
            for _ in range(round(step.rest / layout.cycle)):
                loop.step()
    real, thought = work @ plant.body.share, pressed.work @ plant.body.share
    off = np.full(len(UP), np.nan)
    much = thought >= LITTLE * thought.max()
    off[much] = real[much] / thought[much] - 1.0
    peak = float(loop.peak.max()) / pressed.peak - 1.0
    return Spot(breathing, off, peak, float((loop.peak - layout.press_limit).max()))
