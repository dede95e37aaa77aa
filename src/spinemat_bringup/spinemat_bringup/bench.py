"""`spinemat bench …`: speed as ratios against a baseline measured in the same run."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial

import mujoco
import numpy as np

from spinemat.anatomy import regional_sums
from spinemat.control import Array, FingerController
from spinemat.layout import MatLayout, load_layout, parse_layout
from spinemat.modes import Mode
from spinemat.press_goal import Waveform, wave
from spinemat.twin import LONGEST_STEP, Twin, TwinRun
from spinemat_bringup.bench_control import beside_echo
from spinemat_bringup.evaluate import eligible
from spinemat_bringup.graph import share
from spinemat_bringup.outcome import Outcome
from spinemat_bringup.processes import in_processes
from spinemat_sim.calm import spend_time
from spinemat_sim.control_trials import STEP, Control, Hold, hold_block, try_patient
from spinemat_sim.identify import identify
from spinemat_sim.patient_file import presets
from spinemat_sim.person import lie_down
from spinemat_sim.plant import Plant
from spinemat_sim.population import find_patient
from spinemat_sim.urdf import expand_urdf

BLOCKS = (1e3, 2e3, 5e3, 1e4, 2e4, 3e4, 5e4)  # N/m per finger, believed to be 2000 to 5000
CROWD = 20  # people in one twin
LOOK = 10  # steps of the twin between looks at the lift-off warning
ROUNDS, CALLS = 15, 200  # medians over rounds, baseline and candidate in turn
SPRING = 5000.0  # N/m under each finger of a timed control step
RATES = (250, 500)  # Hz, of the drive


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
        turns = itertools.count()

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


def control(seconds: float) -> Outcome:
    """Measure a control step for 26 and 104 fingers, and the node beside a bare echo.

    Args:
        seconds: that the node is counted at each rate, in real time.

    Raises:
        NodeDied, NoAnswer: a node ends, or the fingers do not come to press.
    """
    started = time.monotonic()
    few, many = (_Pressing(m) for m in (load_layout(share("config", "mat.yaml")), _long_mat(4)))
    cost, base = _pairs(many, few)
    outcome = Outcome("bench control")
    outcome.check("cost_104_over_26", cost / base, "<=", 2.0)
    outcome.check("step_26_us", 1e6 * base, "<=", 200.0)
    outcome.check("fingers_pressing", few.pressing + many.pressing, "==", 26 + 104)
    outcome.details = {"step_104_us": 1e6 * cost, "step_26_us": 1e6 * base}
    for rate in RATES:
        found = beside_echo(rate, seconds)
        name = f"{rate}_hz"
        outcome.check(f"late_share_over_echo_{name}", found.late_share, "<=", 0.001)
        outcome.check(f"cpu_over_echo_{name}", found.cpu, "<=", 2.0)
        if rate == RATES[0]:
            outcome.check(f"round_trip_over_echo_{name}", found.round_trip, "<=", 1.8)
        outcome.details[name] = asdict(found) | {
            "round_trip_over_echo": found.round_trip,
            "round_trip_goal": 1.5,
        }
    outcome.seconds = time.monotonic() - started
    return outcome


def calm(people: int, hours: float, seed: int, jobs: int | None) -> Outcome:
    """Watch sampled people on the noisy plant with the supervisor: it must not stop anything.

    Args:
        people: drawn from the survey.
        hours: of simulated time, all people together.
        seed: of people, sensors and treatments.
        jobs: processes; None: one per core.
    """
    started = time.monotonic()
    layout = load_layout(share("config", "mat.yaml"))
    work = partial(spend_time, layout)
    share_of = 3600.0 * hours / people
    patients = eligible(people, seed)
    seeds = [seed + i for i in range(people)]
    found = in_processes(work, (patients, seeds, itertools.repeat(share_of, people)), jobs)
    outcome = Outcome("bench calm", time.monotonic() - started)
    simulated = sum(c.seconds for c in found) / 3600.0
    outcome.check("false_stops", sum(bool(c.stop) for c in found), "==", 0)
    outcome.check("simulated_hours", simulated, ">=", hours)
    outcome.check("people_treated", sum(c.presses > 0 for c in found), "==", people)
    outcome.details = {"seed": seed, "people": [c._asdict() for c in found]}
    return outcome


class _Pressing:
    """Control steps of fingers that press on springs, each following a rhythm of 1 Hz.

    One turn of the closed loop is kept and then stepped through again and again, so that calls
    cost what the controller costs.
    """

    def __init__(self, layout: MatLayout) -> None:
        self._control = FingerController(layout)
        self._fingers = np.arange(layout.n)
        dt, turn = layout.cycle, round(1.0 / layout.cycle)
        phase = np.linspace(0.0, 1.0, layout.n)
        position, force = np.full(layout.n, layout.finger.stroke[0]), np.zeros(layout.n)
        skin = position + 0.002
        fold = layout.n / 26  # more fingers under each region may press more
        self._control.bear({r: fold * s for r, s in regional_sums(75.0).items()})
        self._control.approach(self._fingers, 0.005, np.full(layout.n, np.nan))
        kept = []
        for i in range(4 * turn):
            wanted = 2.0 + 3.0 * wave(Waveform.RAISED_COSINE, 1.0 + i / turn - phase)
            kept.append((wanted, position, force))
            velocity = self._step(*kept[-1])
            position = position + dt * velocity
            force = SPRING * np.maximum(position - skin, 0.0)
        self._next = itertools.cycle(kept[-turn:])

    def __call__(self) -> None:
        self._step(*next(self._next))

    def _step(self, wanted: Array, position: Array, force: Array) -> Array:
        self._control.follow_force(self._fingers, wanted)
        return self._control.step(position, force)[0]

    @property
    def pressing(self) -> int:
        """How many fingers are in contact and controlled by force."""
        return int((self._control.contact & (self._control.mode == Mode.FORCE)).sum())


def _long_mat(fold: int) -> MatLayout:
    """A mat with each row of the normal one `fold` times."""
    normal = load_layout(share("config", "mat.yaml"))
    f = normal.finger
    regions = [row.region for row in normal.rows for _ in range(fold)]
    return parse_layout(
        {
            "name": "long",
            "cycle": normal.cycle,
            "surface": {"x_min": -0.5, "x_max": 2.0, "width": 0.6, "thickness": 0.05},
            "rows": [
                {"name": f"r{i:02d}", "x": 0.035 * i, "offset": 0.03, "region": region}
                for i, region in enumerate(regions)
            ],
            "finger": {**vars(f), "stroke": list(f.stroke)},
            "limits": {
                region: {"press": normal.press_limits[region], "trip": normal.trip_limits[region]}
                for region in normal.press_limits
            },
        }
    )
