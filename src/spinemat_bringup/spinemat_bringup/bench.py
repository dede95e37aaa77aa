"""`spinemat bench …`: speed as ratios against a baseline measured in the same run."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import count

import mujoco
import numpy as np

from spinemat.control import FingerController
from spinemat.layout import MatLayout, load_layout, parse_layout
from spinemat.twin import LONGEST_STEP, Twin, TwinRun
from spinemat_bringup.graph import share
from spinemat_bringup.outcome import Outcome
from spinemat_sim.identify import identify
from spinemat_sim.person import lie_down
from spinemat_sim.plant import Plant
from spinemat_sim.population import find_patient
from spinemat_sim.urdf import expand_urdf

CROWD = 20  # people in one twin
LOOK = 10  # steps of the twin between looks at the lift-off warning
ROUNDS, CALLS = 15, 200  # medians over rounds, baseline and candidate in turn


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    for _ in range(CALLS):
        call()
    return (time.perf_counter() - started) / CALLS


def _pairs(candidate: Callable[[], object], base: Callable[[], object]) -> tuple[float, float]:
    """Return the medians of candidate and baseline, s per call, measured in turn."""
    both = np.array([(_seconds(candidate), _seconds(base)) for _ in range(ROUNDS)])
    median = np.median(both, axis=0)
    return float(median[0]), float(median[1])


def plant() -> Outcome:
    """Measure one cycle of the plant, sensors and drives included, against bare physics."""
    started = time.monotonic()
    mat = share("config", "mat.yaml")
    layout = load_layout(mat)
    urdf = expand_urdf(share("urdf", "mat.urdf.xacro"), mat)
    person = lie_down(find_patient(""))
    whole, bare = Plant(layout, person, urdf), Plant(layout, person, urdf)
    still, low, high = np.zeros(layout.n), np.full(layout.n, -20.0), np.full(layout.n, 20.0)
    model, data = bare.model, bare.data
    steps = max(round(layout.cycle / model.opt.timestep), 1)

    def cycle() -> None:
        whole.step(still, low, high)
        whole.measure()

    def physics() -> None:
        for _ in range(steps):
            mujoco.mj_step(model, data)

    seconds, base = _pairs(cycle, physics)
    outcome = Outcome("bench plant", time.monotonic() - started)
    truth, _ = _pairs(whole.truth, physics)
    outcome.check("cycle_over_bare_physics", seconds / base, "<=", 1.3)
    outcome.check("times_real_time", layout.cycle / seconds, ">=", 20.0)
    outcome.details = {
        "cycle_us": 1e6 * seconds,
        "bare_physics_us": 1e6 * base,
        "truth_us": 1e6 * truth,
    }
    return outcome


def twin() -> Outcome:
    """Measure the reduced-order twin: one person against real time, twenty against one."""
    started = time.monotonic()
    mat = share("config", "mat.yaml")
    layout = load_layout(mat)
    urdf = expand_urdf(share("urdf", "mat.urdf.xacro"), mat)
    one = identify(Plant(layout, lie_down(find_patient("")), urdf))
    crowd = Twin.together([one] * CROWD)

    def advance(who: Twin) -> Callable[[], None]:
        run, force = TwinRun(who, LONGEST_STEP), np.full((who.people, layout.n), 5.0)
        turns = count()

        def step() -> None:
            run.advance(force)
            if next(turns) % LOOK == 0:
                run.lifting  # noqa: B018

        return step

    many, single = _pairs(advance(crowd), advance(one))
    outcome = Outcome("bench twin", time.monotonic() - started)
    outcome.check("twin_times_real_time", LONGEST_STEP / single, ">=", 300.0)
    outcome.check("twin_cost_20_over_1", many / single, "<=", 3.0)
    outcome.details = {"twin_step_us": 1e6 * single, "twin_step_20_people_us": 1e6 * many}
    return outcome


def control() -> Outcome:
    """Measure one control step for 26 fingers against one for 104."""
    started = time.monotonic()
    normal = load_layout(share("config", "mat.yaml"))
    seconds, base = _pairs(_step(_long_mat(52)), _step(normal))
    outcome = Outcome("bench control", time.monotonic() - started)
    outcome.check("cost_104_over_26", seconds / base, "<=", 2.0)
    outcome.details = {"step_104_us": 1e6 * seconds, "step_26_us": 1e6 * base}
    return outcome


def _step(layout: MatLayout) -> Callable[[], object]:
    controller = FingerController(layout)
    controller.approach(np.arange(layout.n), 0.005, np.full(layout.n, np.nan))
    position, force = np.zeros(layout.n), np.full(layout.n, 2.0)
    return lambda: controller.step(position, force)


def _long_mat(rows: int) -> MatLayout:
    normal = load_layout(share("config", "mat.yaml"))
    f = normal.finger
    return parse_layout(
        {
            "name": "long",
            "cycle": normal.cycle,
            "surface": {"x_min": -0.5, "x_max": 2.0, "width": 0.6, "thickness": 0.05},
            "rows": [
                {"name": f"r{i:02d}", "x": 0.035 * i, "offset": 0.03, "region": "lumbar"}
                for i in range(rows)
            ],
            "finger": {**vars(f), "stroke": list(f.stroke)},
            "limits": {
                region: {"press": normal.press_limits[region], "trip": normal.trip_limits[region]}
                for region in normal.press_limits
            },
        }
    )
