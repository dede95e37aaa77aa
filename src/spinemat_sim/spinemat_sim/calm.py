"""Sessions in which nothing is wrong, watched by the supervisor: it must not stop them.

Supervisor, controller, drive stage and noisy plant in one process, without ROS.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from spinemat.back_model import UP
from spinemat.drive_track import Sample
from spinemat.layout import REGIONS, MatLayout
from spinemat.mobilisation import OnMat, rhythm
from spinemat.press import PressRun
from spinemat.press_goal import PressGoal
from spinemat.safety import State, Supervisor
from spinemat.scan import ScanRefused, SpineScan
from spinemat.session_programme import ONLY_IN, PATTERNS, PRELOAD
from spinemat_sim.closed_loop import ClosedLoop
from spinemat_sim.control_trials import retract, scan
from spinemat_sim.patient import Patient
from spinemat_sim.person import lie_down
from spinemat_sim.plant import Plant
from spinemat_sim.urdf import plain_urdf

INTENSITY = (0.2, 0.95)  # of the press limit
RATE = (0.2, 1.5)  # Hz
DURATION = (10.0, 45.0)  # s


class FalseStop(RuntimeError):
    """The supervisor stopped a mat on which nothing was wrong; the message is its cause."""


class SupervisedLoop(ClosedLoop):
    """A closed loop in which a supervisor gives the permit.

    Raises:
        FalseStop: from any step after which it is STOPPED.
    """

    def __init__(self, plant: Plant) -> None:
        self.supervisor = Supervisor(plant.layout)
        super().__init__(plant)

    def step(self, run: PressRun | None = None) -> np.ndarray:
        """One drive cycle, judged; return the measured forces, shape (n,), N."""
        force = super().step(run)
        s, m = self.supervisor, self.plant.measure()
        s.hand(self.held, self.cycle)
        s.commanded = self.control.velocity
        sample = Sample(
            cycle=self.cycle,
            stamp=round(self.cycle * self.layout.cycle * 1e9),
            boot_id="loop",
            position=m.position.copy(),
            velocity=m.velocity.copy(),
            force=m.force.copy(),
            current=m.current.copy(),
            temperature=m.temperature.copy(),
            status=m.status.astype(np.int64),
            stage=int(self.stage.stage),
        )
        self.granted = s.on_state(sample, 0.0).granted
        if s.state is State.STOPPED:
            raise FalseStop(f"{s.cause}: {s.detail}")
        return force


class Calm(NamedTuple):
    """What one person's time on the mat was like.

    Attributes:
        who: name of the person.
        seconds: of simulated time.
        presses: that were run.
        stop: cause of a false stop; empty without one.
    """

    who: str
    seconds: float
    presses: int
    stop: str


def any_press(
    layout: MatLayout,
    patient: Patient,
    found: SpineScan,
    rng: np.random.Generator,
    seconds: float,
) -> PressGoal | None:
    """Press as a programme may ask for, at random; None when no row can be pressed there.

    Args:
        layout: of the mat.
        patient: who lies on it.
        found: a scan of them.
        rng: what is drawn comes from here: region, pattern, force, rate.
        seconds: to press for.
    """
    x = np.array([found.place.levels[v] for v in UP])
    on_mat = OnMat(layout, patient.mass, x, found.height)
    rows = on_mat.rows(str(rng.choice(REGIONS)), None)
    pattern = str(rng.choice([p for p in PATTERNS if p not in ONLY_IN]))
    share, rate = rng.uniform(*INTENSITY), rng.uniform(*RATE)
    if rows.size == 0:
        return None
    return rhythm(
        on_mat,
        pattern,
        rows,
        base=np.full(rows.size, PRELOAD),
        peak=share * on_mat.limit[rows],
        rate=rate,
        duration=seconds,
        gated=False,
    )


def spend_time(layout: MatLayout, patient: Patient, seed: int, seconds: float) -> Calm:
    """Test the fingers, scan, and treat at random within what programmes may ask for.

    Args:
        layout: of the mat.
        patient: who lies on it.
        seed: of sensors, drives and treatment.
        seconds: of simulated time; the last press is run to its end.
    """
    plant = Plant(layout, lie_down(patient), plain_urdf(layout), seed)
    loop = SupervisedLoop(plant)
    rng = np.random.default_rng([seed, 2])
    presses, stop = 0, ""
    try:
        loop.supervisor.session(True, loop.cycle)
        loop.supervisor.lower(mass=patient.mass)
        loop.self_test()
        while loop.cycle * layout.cycle < seconds:
            if presses % 8 == 0:
                try:
                    found = scan(loop)
                except ScanRefused:  # it says so and gives no number: no stop
                    retract(loop)
                    continue
            goal = any_press(layout, patient, found, rng, rng.uniform(*DURATION))
            presses += 1
            if goal is not None:
                loop.press(goal)
                retract(loop)
            loop.samples.clear()
    except FalseStop as error:
        stop = str(error)
    return Calm(patient.name, loop.cycle * layout.cycle, presses, stop)
