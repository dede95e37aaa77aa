"""Drive stage, controller and plant in one process, without ROS."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from spinemat.control import FingerController
from spinemat.drive import DriveStage
from spinemat.layout import MatLayout, load_layout
from spinemat.press import PressGoal, PressRun
from spinemat.scan import Outcome, Samples
from spinemat_sim.person import DEFAULT_ROW, person_from_row
from spinemat_sim.plant import Imperfections, Plant
from spinemat_sim.urdf import expand_urdf

ROOT = Path(__file__).resolve().parents[1]
MAT = ROOT / "config/mat.yaml"
XACRO = ROOT / "urdf/mat.urdf.xacro"


class ClosedLoop:
    """A mat with a person on it; `permit` and `hand` may be withdrawn at any time."""

    def __init__(self, row: int = DEFAULT_ROW, seed: int = 0, ideal: bool = False) -> None:
        self.layout: MatLayout = load_layout(MAT)
        self.person = person_from_row(row, seed)
        sensors = Imperfections.none() if ideal else Imperfections()
        urdf = expand_urdf(XACRO, MAT)
        self.plant = Plant(self.layout, self.person, urdf, seed=seed, imperfections=sensors)
        self.stage = DriveStage(self.layout)
        self.control = FingerController(self.layout)
        self.samples = Samples()
        self.cycle = 0
        self.granted = self.held = self.commanding = True
        self.peak = np.zeros(self.layout.n)
        zero = []
        for _ in range(50):
            zero.append(self.step())
        self.control.zero(np.mean(zero, axis=0))

    def step(self, run: PressRun | None = None) -> np.ndarray:
        """One drive cycle, with one cycle of latency; return the measured forces (n,)."""
        self.cycle += 1
        m = self.plant.measure()
        self.stage.hand(self.held)
        order = self.stage.step(self.cycle, m.position)
        self.plant.step(order.velocity, order.low, order.high)
        self.peak = np.maximum(self.peak, self.plant.truth().peak_force)
        if run is not None:
            run.tick(self.cycle, self.control)
        velocity, ceiling = self.control.step(m.position, m.force)
        if self.cycle % 5 == 0:
            self.samples.add(self.cycle, m.position, self.control.force)
        if self.commanding:
            assert self.stage.command(self.cycle, velocity, ceiling) is None
        if self.cycle % 2 == 0:
            assert self.stage.permit(self.cycle, self.granted, 0, "test") is None
        return m.force

    def press(self, goal: PressGoal) -> tuple[PressRun, Outcome]:
        """Run a press to its end."""
        run = PressRun(goal, self.layout)
        while not run.done:
            self.step(run)
        return run, Outcome(run.loaded_cycle, run.end_cycle, run.contact)
