"""Presses: what a goal may ask for, and that every press keeps its limits and lets go."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import find_peaks

from mats import MAT, closed_loop
from spinemat.anatomy import regional_sums
from spinemat.control import FingerController
from spinemat.errors import InvalidInput
from spinemat.gains import SLEW
from spinemat.layout import MatLayout, load_layout, parse_layout
from spinemat.modes import Mode
from spinemat.press import KNOW_BREATH, Phase, PressRun
from spinemat.press_goal import PressGoal, Waveform, check_goal, wave
from spinemat_sim.patient_file import presets

LAYOUT = load_layout(MAT)


def asked(layout: MatLayout = LAYOUT, **changes: Any) -> dict[str, Any]:
    """A goal that is accepted, with some fields changed."""
    return {
        "waveform": Waveform.RAISED_COSINE, "fingers": [4, 5], "preload": [2.0, 2.0],
        "amplitude": [8.0, 8.0], "phase": [], "rate": 0.5, "duration": 4.0,
        "approach_speed": 0.005, "expected": [], "hold_after": False, "start_cycle": 0,
        "mass": 75.0,
    } | changes  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fingers": [], "preload": [], "amplitude": []}, ("fingers", "1 to 26")),
        ({"fingers": [4, 26]}, ("fingers", "26", "r13_right")),
        ({"fingers": [4, 4]}, ("fingers", "each finger once")),
        ({"preload": [2.0]}, ("preload", "2 values")),
        ({"preload": [np.nan, 2.0]}, ("preload[0] (r03_left)", "nan")),
        ({"preload": [-1.0, 2.0]}, ("preload[0]", "-1")),
        ({"amplitude": [8.0, -1.0]}, ("amplitude[1] (r03_right)", "-1")),
        ({"amplitude": [8.0, 29.0]}, ("amplitude[1]", "29", "28")),
        ({"amplitude": [8.0, np.inf]}, ("amplitude[1]", "inf")),
        ({"rate": 1e6}, ("rate", "1.5")),
        ({"rate": np.nan}, ("rate", "nan")),
        ({"rate": 1.5, "amplitude": [28.0, 28.0]}, ("rate", "1.14 Hz", "100 N/s")),
        ({"rate": 0.5, "waveform": 4, "amplitude": [28.0, 28.0], "cycles": 1e9}, ("cycles",)),
        ({"waveform": 9}, ("waveform", "9", "TRAPEZOID")),
        ({"duration": 1e6}, ("duration", "120")),
        ({"duration": 0.0}, ("duration", "0.004")),
        ({"duration": np.nan}, ("duration", "nan")),
        ({"preload": [12.0, 12.0], "duration": 20.0}, ("duration", "r03_left", "10 N", "5 s")),
        ({"waveform": 2, "preload": [12.0, 12.0], "duration": 6.0}, ("duration", "5 s")),
        ({"waveform": 5, "rate": 0.06, "amplitude": [20.0] * 2, "duration": 30.0},
         ("rate", "10 N")),
        ({"phase": [np.nan, 0.0]}, ("phase",)),
        ({"expected": [0.5, 0.0]}, ("expected_contact", "0.08")),
        ({"approach_speed": 1.0}, ("approach_speed", "0.03")),
        ({"mass": 20.0}, ("mass", "20", "35")),
        ({"mass": 0.0, "amplitude": [20.0, 20.0]}, ("44.0 N", "lumbar", "28.6 N", "35 kg")),
    ],
)  # fmt: skip
def test_bad_goals_are_named(changes: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(InvalidInput) as refused:
        check_goal(LAYOUT, **asked(**changes))
    for word in words:
        assert word in str(refused.value)


@pytest.mark.parametrize("shape", [w for w in Waveform if w is not Waveform.CONTACT])
def test_waveforms_stay_in_range_and_are_as_steep_as_they_say(shape: Waveform) -> None:
    turns = np.linspace(0.0, 3.0, 6001)
    w = wave(shape, turns)
    assert w.min() >= 0.0 and w.max() == pytest.approx(1.0, abs=1e-3)
    assert np.abs(np.diff(w)).max() / (turns[1] - turns[0]) <= shape.steepest * 1.001
    assert not wave(shape, np.array([-0.3])).any()


def test_turns_are_another_way_to_say_how_long() -> None:
    goal = check_goal(LAYOUT, **asked(cycles=3.0, duration=0.0))
    assert goal.duration == pytest.approx(6.0)


# --- any mat, any tissue, any rhythm ----------------------------------------------------------


def mat(rows: int) -> MatLayout:
    f = LAYOUT.finger
    regions = ("lumbar", "thoracic", "neck")
    return parse_layout(
        {
            "name": "any", "cycle": 0.004,
            "surface": {"x_min": -0.5, "x_max": 2.0, "width": 0.6, "thickness": 0.05},
            "rows": [
                {"name": f"r{i}", "x": 0.035 * i, "offset": 0.03,
                 "region": regions[3 * i // rows]}
                for i in range(rows)
            ],
            "finger": {**vars(f), "stroke": list(f.stroke)},
            "limits": {
                r: {"press": LAYOUT.press_limits[r], "trip": LAYOUT.trip_limits[r]}
                for r in regions
            },
        }
    )  # fmt: skip


class Springs:
    """Fingers on springs behind velocity drives with a cycle of delay: the controller's model."""

    def __init__(self, layout: MatLayout, stiffness: np.ndarray, skin: np.ndarray) -> None:
        self.layout, self.stiffness, self.skin = layout, stiffness, skin
        self.control = FingerController(layout)
        self.position = np.full(layout.n, layout.finger.stroke[0])
        self.speed, self.order = np.zeros((2, layout.n))
        self.cycle = 0
        for _ in range(50):
            self.step(None)

    @property
    def force(self) -> np.ndarray:
        return self.stiffness * np.maximum(self.position - self.skin, 0.0)

    def step(self, run: PressRun | None) -> tuple[np.ndarray, np.ndarray]:
        self.cycle += 1
        dt = self.layout.cycle
        self.speed += (self.order - self.speed) * (1.0 - np.exp(-1.0))
        self.position = np.clip(self.position + dt * self.speed, *self.layout.finger.stroke)
        if run is not None:
            run.tick(self.cycle, self.control)
        velocity, ceiling = self.control.step(self.position, self.force)
        self.order = velocity
        return velocity, ceiling


@st.composite
def presses(draw: st.DrawFn) -> tuple[Springs, PressGoal]:
    layout = mat(draw(st.sampled_from([3, 7, 13, 26, 52])))
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    n = layout.n
    fingers = np.sort(rng.choice(n, int(rng.integers(1, min(n, 12) + 1)), replace=False))
    mass = float(rng.uniform(35.0, 165.0))
    rate = float(rng.uniform(0.2, 1.5))
    shape = draw(st.sampled_from([w for w in Waveform if w is not Waveform.CONTACT]))
    limit = layout.press_limit[fingers]
    preload = rng.uniform(0.5, np.minimum(0.4 * limit, 9.9))
    amplitude = rng.uniform(0.0, 1.0) * (limit - preload)
    amplitude = np.minimum(amplitude, SLEW / (shape.steepest * rate) * 0.999)
    regions = np.array(layout.regions)[fingers]
    for region, allowed in regional_sums(mass).items():
        mine = regions == region
        total = float((preload + amplitude)[mine].sum())
        share = min(1.0, 0.999 * allowed / total) if total else 1.0
        preload[mine], amplitude[mine] = preload[mine] * share, amplitude[mine] * share
    preload = np.maximum(preload, 0.5)
    fields = asked(
        waveform=int(shape), fingers=fingers.tolist(), preload=preload.tolist(),
        amplitude=amplitude.tolist(), phase=rng.uniform(-9.0, 9.0, fingers.size).tolist(),
        rate=rate, duration=3.0, mass=mass,
    )  # fmt: skip
    stiffness = np.exp(rng.uniform(np.log(1e3), np.log(3e4), n))
    springs = Springs(layout, stiffness, rng.uniform(0.0, 0.02, n))
    try:
        return springs, check_goal(layout, **fields)
    except InvalidInput as error:  # rounding at a limit
        assert "amplitude" in str(error) or "rate" in str(error)
        return springs, check_goal(layout, **asked(layout, fingers=[0], preload=[2.0],
                                                   amplitude=[3.0]))  # fmt: skip


@settings(max_examples=12, deadline=None)
@given(press=presses(), cancel_after=st.floats(0.2, 9.0))
def test_any_press_keeps_its_limits_and_lets_go(
    press: tuple[Springs, PressGoal], cancel_after: float
) -> None:
    springs, goal = press
    layout, control = springs.layout, springs.control
    run = PressRun(goal, layout)
    regions = np.array(layout.regions)
    allowed = regional_sums(goal.mass)
    touched = control.contact.copy()
    before, end = control.reference, springs.cycle + round(cancel_after / layout.cycle)
    cancelled = 0
    while not run.done:
        if springs.cycle == end:
            run.cancel(springs.cycle)
            cancelled = springs.cycle
        velocity, ceiling = springs.step(run)
        assert np.isfinite(velocity).all() and np.isfinite(ceiling).all()
        assert np.abs(velocity).max() <= layout.finger.max_speed
        assert (ceiling >= 0.0).all() and (ceiling <= layout.press_limit).all()
        assert (control.reference <= layout.press_limit).all()
        for region, most in allowed.items() if run.phase is Phase.RHYTHM else ():
            assert control.reference[regions == region].sum() <= most + 1e-6
        idle = np.setdiff1d(np.arange(layout.n), goal.fingers)
        assert (control.mode[idle] == Mode.OFF).all()
        if run.phase is Phase.RHYTHM:
            change = np.abs(control.reference - before) / layout.cycle
            assert change[control.contact & touched].max(initial=0.0) <= SLEW * 1.001
        before, touched = control.reference, control.contact.copy()
    if cancelled:
        assert (springs.cycle - cancelled) * layout.cycle <= 0.5
    for _ in range(400):
        springs.step(None)
    assert (control.mode == Mode.OFF).all() and not springs.force.any()


@settings(max_examples=12, deadline=None)
@given(stiffness=st.floats(1e3, 5e4), force=st.floats(1.0, 9.0), kick=st.floats(-3e-5, 3e-5))
def test_no_tissue_makes_a_held_force_swing(stiffness: float, force: float, kick: float) -> None:
    springs = Springs(LAYOUT, np.full(26, stiffness), np.full(26, 0.005))
    goal = check_goal(LAYOUT, **asked(waveform=2, preload=[force] * 2, amplitude=[0.0] * 2))
    run, held = PressRun(goal, LAYOUT), []
    while not run.done:
        if len(held) == 250:
            springs.position[4:6] += kick
        springs.step(run)
        if run.phase is Phase.RHYTHM:
            held.append(springs.force[4])
    last = np.array(held)[-250:]
    assert last.mean() == pytest.approx(force, abs=0.05)
    assert np.ptp(last) < 0.05


def test_what_a_press_did_is_measured_in_the_plant() -> None:
    loop = closed_loop(ideal=True)
    loop.plant.breathing = False
    goal = check_goal(LAYOUT, **asked(fingers=[10, 11], duration=6.0))
    start = loop.plant.work
    run, _ = loop.press(goal)
    done = (loop.plant.work - start)[[10, 11]]
    np.testing.assert_allclose(run.work, done, rtol=0.25)  # the plant counts approach and load too
    assert (run.work < done).all()
    assert (run.peak > 9.0).all() and (run.peak < 10.5).all()
    assert (run.indentation > 0.001).all() and (run.indentation < 0.010).all()
    assert run.tracking_error < 0.3


def test_regions_fade_out_and_breathing_in_takes_force_away() -> None:
    loop = closed_loop(ideal=True)
    goal = check_goal(
        LAYOUT,
        **asked(fingers=[8, 9, 12, 13], preload=[2.0] * 4, amplitude=[8.0] * 4, duration=14.0,
                rate=1.0, gated=True),
    )  # fmt: skip
    run = PressRun(goal, LAYOUT)
    peaks: dict[str, np.ndarray] = {}
    for name, seconds in (("as asked", 3.0), ("breathing in", 3.0), ("one region", 3.0)):
        while run.phase < Phase.RHYTHM:
            loop.step(run)
        run.breath = 0.5 if name == "breathing in" else 0.0
        run.taking_part = np.array([True, True, name != "one region", name != "one region"])
        peak = np.zeros(26)
        for i in range(round(seconds / LAYOUT.cycle)):
            loop.step(run)
            if i * LAYOUT.cycle > 1.0:
                peak = np.maximum(peak, loop.control.reference)
        peaks[name] = peak[goal.fingers]
    np.testing.assert_allclose(peaks["as asked"], 10.0, atol=0.1)
    np.testing.assert_allclose(peaks["breathing in"], 2.0 + 0.7 * 8.0, atol=0.1)
    np.testing.assert_allclose(peaks["one region"], [10.0, 10.0, 2.0, 2.0], atol=0.1)


@pytest.mark.parametrize(("rate", "breath"), [(0.25, 0.23), (0.5, 0.2), (0.2, 0.31), (0.4, 0.35)])
def test_a_gated_rhythm_peaks_while_the_person_breathes_out(rate: float, breath: float) -> None:
    goal = check_goal(
        LAYOUT, **asked(waveform=0, preload=[2.0] * 2, amplitude=[8.0] * 2, rate=rate,
                        duration=50.0, gated=True)
    )  # fmt: skip
    loop = Springs(LAYOUT, np.full(26, 6000.0), np.full(26, 0.005))
    run = PressRun(goal, LAYOUT)
    asked_for, phases = [], []
    wander = np.random.default_rng(4)
    phase = 0.35
    while not run.done:
        phase += breath * LAYOUT.cycle * (1.0 + 0.1 * np.sin(0.3 * loop.cycle * LAYOUT.cycle))
        run.breath = (phase + wander.normal(0.0, 0.01)) % 1.0
        run.breath_rate = breath
        loop.step(run)
        asked_for.append(loop.control.reference[goal.fingers[0]])
        phases.append(phase % 1.0)
    top = find_peaks(asked_for, prominence=3.0)[0]
    at = np.array(phases)[top]
    assert at.size >= 0.7 * 50.0 * breath / np.ceil(breath / rate)
    assert np.mean((at > 0.4) & (at < 1.0)) >= 0.9
    assert np.diff(top).min() * LAYOUT.cycle >= 0.95 / rate, "never faster"


@pytest.mark.parametrize("gated", [True, False])
def test_a_gated_rhythm_waits_at_contact_for_a_breath_that_is_not_felt_yet(gated: bool) -> None:
    goal = check_goal(LAYOUT, **asked(rate=0.25, duration=8.0, gated=gated))
    loop = Springs(LAYOUT, np.full(26, 6000.0), np.full(26, 0.005))
    run, top = PressRun(goal, LAYOUT), 0.0
    while not run.done:
        loop.step(run)
        if run.phase is Phase.RHYTHM and run.turn == 0.0:
            top = max(top, float(loop.control.reference.max()))
    took = (run.end_cycle - run.loaded_cycle) * LAYOUT.cycle
    assert top <= 2.0 + 1e-6
    assert took == pytest.approx(8.4 + KNOW_BREATH * gated, abs=0.1), "it goes on all the same"


@settings(max_examples=6, deadline=None)
@given(
    patient=st.sampled_from([*presets(), "17", "1203", "4000"]),
    seed=st.integers(0, 2**31 - 1),
    cancel_after=st.floats(0.2, 6.0),
)
def test_any_press_on_any_patient_keeps_its_limits_and_lets_go(
    patient: str, seed: int, cancel_after: float
) -> None:
    loop = closed_loop(patient, seed % 3)
    rng = np.random.default_rng(seed)
    fingers = np.sort(rng.choice(LAYOUT.n, int(rng.integers(1, 9)), replace=False))
    shape = rng.choice([w for w in Waveform if w is not Waveform.CONTACT])
    limit, rate = LAYOUT.press_limit[fingers], float(rng.uniform(0.2, 1.5))
    preload = rng.uniform(0.6, 4.0, fingers.size)
    amplitude = np.minimum(limit - preload, SLEW / (Waveform(shape).steepest * rate)) * 0.99
    mass = loop.plant.person.patient.mass
    allowed = min(regional_sums(mass).values())
    amplitude *= rng.uniform(0.1, 1.0) * min(1.0, 0.8 * allowed / (preload + amplitude).sum())
    preload = np.maximum(preload * min(1.0, 0.2 * allowed / preload.sum()), 0.5)
    goal = check_goal(
        LAYOUT,
        **asked(
            waveform=int(shape), fingers=fingers.tolist(), preload=preload.tolist(),
            amplitude=amplitude.tolist(), phase=rng.uniform(0.0, 6.0, fingers.size).tolist(),
            rate=rate, duration=6.0, mass=mass,
        ),
    )  # fmt: skip
    run, cancelled, since = PressRun(goal, LAYOUT), 0, 0
    while not run.done:
        loop.step(run)
        assert np.isfinite(loop.control.velocity).all()
        assert (loop.control.reference <= LAYOUT.press_limit).all()
        since += run.phase is Phase.RHYTHM
        if not cancelled and since * LAYOUT.cycle > cancel_after:
            run.cancel(loop.cycle)
            cancelled = loop.cycle
    assert not cancelled or (loop.cycle - cancelled) * LAYOUT.cycle <= 0.5
    for _ in range(round(2.0 / LAYOUT.cycle)):
        loop.step()
    assert loop.plant.truth().force.max() < 0.01
    assert (loop.peak < LAYOUT.trip_limit).all()
