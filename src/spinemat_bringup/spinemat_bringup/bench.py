"""`spinemat bench …`: speed as ratios against a baseline measured in the same run."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from itertools import count

import mujoco
import numpy as np

from spinemat.control import FingerController
from spinemat.layout import MatLayout, load_layout, parse_layout
from spinemat.twin import LONGEST_STEP, Twin, TwinRun
from spinemat_bringup.graph import share
from spinemat_bringup.outcome import Outcome
from spinemat_bringup.processes import in_processes
from spinemat_sim.control_trials import STEP, Control, Hold, hold_block, try_patient
from spinemat_sim.identify import identify
from spinemat_sim.patient import presets
from spinemat_sim.person import lie_down
from spinemat_sim.plant import Plant
from spinemat_sim.population import find_patient
from spinemat_sim.urdf import expand_urdf

BLOCKS = (1e3, 2e3, 5e3, 1e4, 2e4, 3e4, 5e4)  # N/m per finger, believed to be 2000 to 5000
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
                run.lifting.any()

        return step

    many, single = _pairs(advance(crowd), advance(one))
    outcome = Outcome("bench twin", time.monotonic() - started)
    outcome.check("twin_times_real_time", LONGEST_STEP / single, ">=", 300.0)
    outcome.check("twin_cost_20_over_1", many / single, "<=", 3.0)
    outcome.details = {"twin_step_us": 1e6 * single, "twin_step_20_people_us": 1e6 * many}
    return outcome


def force(seed: int, jobs: int | None) -> Outcome:
    """Try force control on the noisy plant over all presets, judged by the truth."""
    started = time.monotonic()
    layout = load_layout(share("config", "mat.yaml"))
    who = presets()
    outcome = Outcome("bench force")
    found: list[Control] = in_processes(
        partial(try_patient, layout, seed=seed), [list(who.values())], jobs
    )
    blocks: list[Hold] = in_processes(partial(hold_block, layout, seed=seed), [BLOCKS], jobs)
    for name, trial in zip(who, found, strict=True):
        both = trial.slow + trial.fast
        outcome.check(f"{name}: error_0.5_hz_n", max(t.error for t in trial.slow), "<=", 0.5)
        outcome.check(f"{name}: error_1.5_hz_n", max(t.error for t in trial.fast), "<=", 1.0)
        outcome.check(f"{name}: step_overshoot_pct", 100 * trial.overshoot / STEP, "<=", 5.0)
        outcome.check(f"{name}: step_settling_s", trial.settling, "<=", 0.3)
        outcome.check(f"{name}: slew_n_per_s", max(t.slew for t in both), "<=", 100.01)
        outcome.check(f"{name}: contact_over_preload_n", trial.contact, "<=", 2.0)
        outcome.check(f"{name}: over_limit_n", trial.peak, "<=", 0.0)
        outcome.check(f"{name}: neighbour_n", trial.neighbour, "<=", 0.5)
        outcome.check(f"{name}: rows_1.5_hz_n", trial.rows, "<=", 0.75)
        outcome.check(f"{name}: cancel_s", trial.cancel, "<=", 0.5)
    for stiffness, hold in zip(BLOCKS, blocks, strict=True):
        name = f"block_{1e-3 * stiffness:g}_n_per_mm"
        outcome.check(f"{name}: contact_over_preload_n", hold.contact, "<=", 2.0)
        outcome.check(f"{name}: ripple_n", hold.ripple, "<=", 0.1)
    outcome.seconds = time.monotonic() - started
    outcome.details = {
        "seed": seed,
        "trials": dict(zip(who, (t._asdict() for t in found), strict=True)),
    }
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
