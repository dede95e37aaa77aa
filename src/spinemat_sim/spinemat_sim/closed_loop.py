"""Drive stage, controller and plant in one process, without ROS.

What the nodes do over topics happens here by calls: for tuning, benchmarks and tests.
"""

from __future__ import annotations

import numpy as np

from spinemat.control import FingerController
from spinemat.drive import DriveStage
from spinemat.layout import MatLayout
from spinemat.press import PressRun
from spinemat.press_goal import PressGoal
from spinemat.scan import Outcome, Samples
from spinemat.self_test import Calibration, SelfTest, Verdict
from spinemat_sim.plant import Plant


class ClosedLoop:
    """A mat with a person on it; permit, hand and commands may be withdrawn at any time.

    Attributes:
        granted, held, commanding: whether the permit is given, the hand control held, the
            controller heard.
        peak: largest tissue force of each finger so far, shape (n,), N.
    """

    def __init__(self, plant: Plant) -> None:
        self.layout: MatLayout = plant.layout
        self.plant = plant
        self.stage = DriveStage(self.layout)
        self.control = FingerController(self.layout)
        self.samples = Samples()
        self.cycle = 0
        self.granted = self.held = self.commanding = True
        self.peak = np.zeros(self.layout.n)
        for _ in range(50):  # the load cells' zero
            self.step()

    def step(self, run: PressRun | None = None) -> np.ndarray:
        """One drive cycle, with one cycle of latency; return the measured forces (n,)."""
        self.cycle += 1
        m = self.plant.measure()
        position, force = m.position.copy(), m.force.copy()
        self.stage.hand(self.held)
        order = self.stage.step(self.cycle, position)
        self.plant.step(order.velocity, order.low, order.high)
        self.peak = np.maximum(self.peak, self.plant.truth().peak_force)
        if run is not None:
            run.tick(self.cycle, self.control)
        velocity, ceiling = self.control.step(position, force)
        if self.cycle % 5 == 0:
            self.samples.add(self.cycle, position, self.control.force)
        refused = None
        if self.commanding:
            refused = self.stage.command(self.cycle, velocity, ceiling)
        if self.cycle % 2 == 0:
            refused = self.stage.permit(self.cycle, self.granted, 0, "loop") or refused
        if refused:
            raise RuntimeError(refused)
        return force

    def self_test(self, stored: Calibration | None = None) -> Verdict:
        """Test the fingers as at a start."""
        test = SelfTest(self.layout, "now", stored)
        while test.verdict is None:
            m = self.plant.measure()
            test.tick(
                self.control, *(a.copy() for a in (m.position, m.velocity, m.force, m.current))
            )
            self.step()
        return test.verdict

    def press(self, goal: PressGoal) -> tuple[PressRun, Outcome]:
        """Run a press to its end."""
        run = PressRun(goal, self.layout)
        while not run.done:
            self.step(run)
        return run, Outcome(run.loaded_cycle, run.end_cycle, run.contact)
