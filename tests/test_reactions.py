"""What a person does under the fingers: guarding, movement, presence, posture, what changes."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transforms3d.euler import euler2mat
from transforms3d.quaternions import mat2quat

from mats import MAT
from planning import PROGRAMMES
from spinemat import level_dose as planned
from spinemat.anatomy import check_intake, level_positions
from spinemat.dosing import plan_session
from spinemat.errors import InvalidInput
from spinemat.layout import load_layout
from spinemat.modes import Mode
from spinemat.posture import check_strip, posture, rotation
from spinemat.press import Phase as Stretch
from spinemat.press import PressRun
from spinemat.reactions import Presence, Reaction, ReactionWatch
from spinemat.running import RunningStiffness
from spinemat.watches import Felt, FingerSample, Watches
from spinemat_sim.calm import SupervisedLoop
from spinemat_sim.control_trials import retract
from spinemat_sim.control_trials import scan as scan_plant
from spinemat_sim.patient_file import presets
from spinemat_sim.person import lie_down
from spinemat_sim.plant import Plant
from spinemat_sim.reaction_trials import WatchedLoop, try_reactions
from spinemat_sim.urdf import plain_urdf

LAYOUT = load_layout(MAT)
PERIOD = 0.02
PAIR = [10, 11]
Array = np.ndarray


def indentation(force: Array) -> Array:
    return np.minimum(force, 10.0) / 2200.0 + np.maximum(force - 10.0, 0.0) / 5500.0


class Back:
    """A made-up back under a rhythm of one pair, or under fingers at rest."""

    def __init__(self, pressing: bool, stiffer: float = 0.0, since: float = np.inf) -> None:
        self.watch = ReactionWatch(LAYOUT, PERIOD)
        self.running = RunningStiffness(LAYOUT, PERIOD)
        self._rng = np.random.default_rng(4)
        self._pressing, self._stiffer, self._since = pressing, stiffer, since
        self.driven = np.zeros(LAYOUT.n, dtype=bool)
        self.driven[PAIR if pressing else slice(None)] = True
        self.t = 0.0

    def force(self) -> Array:
        """What the pair presses with: 2 to 18 N at 0.5 Hz."""
        wave = 0.5 - 0.5 * np.cos(np.pi * self.t)
        return np.where(self.driven, 2.0 + (16.0 * wave if self._pressing else 0.0), 0.0)

    def step(self, shift: Array | float = 0.0, lost: slice | None = None) -> Reaction:
        self.t += PERIOD
        force = self.force()
        tense = 1.0 - np.exp(-max(self.t - self._since, 0.0) / 0.03)
        breath = 0.0005 * np.cos(2.0 * np.pi * 0.23 * self.t)
        z = 0.02 + breath + indentation(force) * (1.0 - self._stiffer * tense) + shift
        z = z + self._rng.normal(0.0, 2e-5, LAYOUT.n)
        contact = self.driven.copy()
        if lost is not None:
            contact[lost] = False
        felt = np.where(contact, force, 0.0) + self._rng.normal(0.0, 0.1, LAYOUT.n)
        self.running.add(z, felt, contact)
        return self.watch.add(self.t, z, felt, self.driven, contact)

    def until(self, end: float, said: Callable[[Reaction], bool]) -> float:
        """Go on to `end`; return when it was said first, or NaN."""
        first = np.nan
        while self.t < end - 1e-9:
            if said(self.step()) and np.isnan(first):
                first = self.t
        return first


# --- guarding, movement, presence ---------------------------------------------------------------


def test_guarding_is_said_at_once_told_where_and_ends_with_the_load() -> None:
    onset = 0.8 + 2.0 * 5  # on the way up
    back = Back(pressing=True, stiffer=0.08, since=onset)
    first = back.until(onset + 0.2, lambda r: r.guarding)
    assert onset < first < onset + 0.2
    said = back.watch.now
    row = LAYOUT.rows[PAIR[0] // 2].name
    assert said.guarding and said.stiffening[PAIR].min() > 1.03 and said.confidence > 0.5
    assert any(f"r{int(row[1:]) + k:02d}" in said.reason for k in (-1, 0, 1))
    assert (np.delete(said.stiffening, range(6, 16)) == 1.0).all(), "not where nobody presses"
    while back.force()[PAIR].max() > 5.0:
        back.step()
    assert not back.step().guarding, "it has let go"


@pytest.mark.parametrize("pressing", [False, True])
def test_a_person_who_only_breathes_is_neither_tense_nor_moving(pressing: bool) -> None:
    back = Back(pressing)
    assert np.isnan(back.until(60.0, lambda r: r.guarding or r.moving))
    assert back.watch.now.presence is Presence.PRESENT


def test_what_a_scan_did_not_feel_beyond_the_toe_is_not_taken_for_guarding() -> None:
    back, unknown = Back(pressing=True), np.full(LAYOUT.n, np.nan)
    back.watch.learn(unknown, np.full(LAYOUT.n, 2200.0), unknown)
    assert np.isnan(back.until(30.0, lambda r: r.guarding or r.moving))


@pytest.mark.parametrize("pressing", [False, True])
def test_who_rolls_is_seen_within_three_tenths_of_a_second(pressing: bool) -> None:
    back = Back(pressing)
    assert np.isnan(back.until(6.0, lambda r: r.moving))
    left = np.where(LAYOUT.y < 0.0, 1.0, 0.0 if not pressing else 1.0)
    for k in range(1, 16):
        if back.step(left * 0.009 * k * PERIOD).moving:
            break
    assert k * PERIOD < 0.3
    assert "carried along" in back.watch.now.reason and not back.watch.now.guarding


def test_who_leaves_is_seen_and_then_is_gone() -> None:
    back = Back(pressing=False)
    back.until(5.0, lambda r: False)
    said = back.step(lost=slice(None))
    assert said.moving and "lost the back" in said.reason
    for _ in range(round(4.0 / PERIOD)):
        said = back.step(lost=slice(None))
    assert said.presence is Presence.ABSENT and said.touching == 0
    back.driven[:] = False
    assert back.step().presence is Presence.UNKNOWN, "fingers that are down feel nothing"


def test_when_drive_time_begins_anew_nothing_is_carried_over() -> None:
    watches = Watches(LAYOUT)
    n = LAYOUT.n
    mode = np.full(n, int(Mode.FORCE))

    def felt(k: int, cycle: int, touching: bool) -> Felt:
        height = 0.02 + 5e-4 * np.cos(2.0 * np.pi * 0.25 * 0.02 * k)
        return watches.add(
            FingerSample(
                cycle, 4_000_000 * cycle, np.full(n, height), np.full(n, 2.5 * touching),
                np.full(n, 2.5), mode, np.full(n, touching),
            )
        )  # fmt: skip

    for k in range(1, 1001):
        last = felt(k, 5 * k, True)
    assert last.breath is not None and last.breath.valid
    for k in range(1, 500):
        said = felt(k, 5 * k, False)
        assert said.breath is None, "nobody touches, and the old breath is not carried on"


def test_a_gap_in_the_samples_is_no_movement() -> None:
    back = Back(pressing=False)
    back.until(3.0, lambda r: False)
    back.t += 1.0
    assert not back.step(shift=0.01).moving


def test_a_person_in_the_plant_is_felt_breathing_and_moving_without_false_alarms() -> None:
    found = try_reactions(LAYOUT, presets()["average_adult"], 4, "rolls", False)
    assert found.guarding == 0 and found.moving == 0, "false alarms"
    assert not found.tense_early, "how often and how fast it is seen: `evaluate sensing`"
    assert found.moved < 0.3
    assert 60.0 * np.abs(found.rate).max(initial=0.0) < 0.5
    assert np.degrees(np.abs(found.phase)).max(initial=0.0) < 30.0


# --- what changes while a rhythm runs -----------------------------------------------------------


def test_running_stiffness_follows_what_changes() -> None:
    back = Back(pressing=True, stiffer=0.15, since=20.0)
    back.until(8.0, lambda r: False)
    first = back.running.now()
    assert first.value[PAIR] == pytest.approx([5500.0] * 2, rel=0.05)
    assert first.change[PAIR] == pytest.approx([0.0, 0.0], abs=1e-9)
    assert np.isnan(np.delete(first.value, PAIR)).all()
    back.until(40.0, lambda r: False)
    now = back.running.now()
    grown = 1.0 / (1.0 - 0.15) - 1.0
    assert np.abs(now.change - grown)[PAIR].max() < max(3.0 * now.change_error[PAIR].max(), 0.02)


def test_running_stiffness_is_not_told_where_nothing_swings() -> None:
    back = Back(pressing=False)
    back.until(10.0, lambda r: False)
    assert np.isnan(back.running.now().value).all()


# --- the posture strip --------------------------------------------------------------------------

PLACES = np.linspace(0.0, 0.55, 12)
INTAKE = check_intake("male", 40.0, 1.756, 82.0)
LEVEL = level_positions(0.0, 0.437)


def pitch_of(s: Array, kyphosis: float, lordosis: float) -> Array:
    """Tangent of a back that turns evenly by these angles between its landmarks."""
    t12, t1 = LEVEL["T12"], LEVEL["T1"]
    return -lordosis * np.clip(s / t12, 0.0, 1.0) + kyphosis * np.clip(
        (s - t12) / (t1 - t12), 0.0, 1.0
    )


@pytest.mark.parametrize("turned", [(0.0, 0.0, 0.0), (0.1, -1.5, 0.7)])
def test_a_strip_tells_the_curve_lying_and_standing(turned: tuple[float, float, float]) -> None:
    rng = np.random.default_rng(8)
    pitch = pitch_of(PLACES, 0.45, 0.25) + rng.normal(0.0, np.radians(0.7), PLACES.size)
    world = euler2mat(*turned)
    rotations = np.array([world @ euler2mat(0.0, -p, 0.0) for p in pitch])
    error = np.full(PLACES.size, np.radians(1.0))
    found = posture(PLACES, rotations, error, INTAKE)
    assert found.kyphosis == pytest.approx(0.45, abs=np.radians(3.0))
    assert found.lordosis == pytest.approx(0.25, abs=np.radians(3.0))
    s = np.linspace(0.0, PLACES[-1], 2000)
    slope = pitch_of(s, 0.45, 0.25)
    x = np.concatenate([[0.0], np.cumsum(np.cos(slope[:-1]) * np.diff(s))])
    z = np.concatenate([[0.0], np.cumsum(np.sin(slope[:-1]) * np.diff(s))])
    chord = np.arctan2(z[-1], x[-1])
    x, z = np.cos(chord) * x + np.sin(chord) * z, np.cos(chord) * z - np.sin(chord) * x
    off = found.z - np.interp(found.x, x, z)
    assert np.abs(off).max() < 0.004 and (np.abs(off) < 3.0 * found.z_std + 5e-4).all()
    assert found.levels[0] == "S1" and "T1" in found.levels and "C1" not in found.levels
    moved = found.level_pitch[found.levels.index("T1")]
    assert moved - found.level_pitch[found.levels.index("T12")] == pytest.approx(found.kyphosis)


def test_without_an_intake_a_strip_names_no_levels() -> None:
    rotations = np.tile(np.eye(3), (PLACES.size, 1, 1))
    found = posture(PLACES, rotations, np.full(PLACES.size, 0.02), None)
    assert found.levels == () and np.isnan([found.kyphosis, found.lordosis]).all()
    assert np.abs(found.z).max() < 1e-9, "a straight strip is straight"


@pytest.mark.parametrize(
    "places", [[0.0, 0.1], [0.0, 0.2, 0.1], [0.0, np.nan, 0.2], [-0.1, 0.0, 0.1], [0.0, 0.5, 1.5]]
)
def test_a_strip_that_cannot_be_is_refused(places: list[float]) -> None:
    with pytest.raises(InvalidInput, match="posture_strip"):
        check_strip(np.array(places))


@given(st.tuples(*[st.floats(-3.0, 3.0)] * 3))
def test_quaternions_are_read_as_messages_have_them(angles: tuple[float, float, float]) -> None:
    matrix = euler2mat(*angles)
    w, x, y, z = mat2quat(matrix)
    assert rotation(np.array([x, y, z, w])) == pytest.approx(matrix, abs=1e-9)


@pytest.mark.parametrize(
    "bad", [[0.0, 0.0, 0.0, 0.0], [np.nan, 0.0, 0.0, 1.0], [1.0, 1.0, 0, 1.0]]
)
def test_what_is_no_direction_is_refused(bad: list[float]) -> None:
    with pytest.raises(InvalidInput, match="orientation"):
        rotation(np.array(bad))


class SeenLoop(WatchedLoop, SupervisedLoop):
    """Watched and supervised; the supervisor hears of guarding."""

    def step(self, run: PressRun | None = None) -> Array:
        force = super().step(run)
        if self.reactions:
            self.supervisor.guarding(self.reactions[-1][1].guarding, self.cycle)
        return force


def test_who_moves_in_a_stability_phase_is_supported_and_neither_stopped_nor_let_go() -> None:
    """All stability phases of `stable_spine`, a movement and back every 3 s; no stop is raised."""
    patient = presets()["average_adult"]
    loop = SeenLoop(Plant(LAYOUT, lie_down(patient), plain_urdf(LAYOUT), 3))
    loop.supervisor.session(True, 0)
    loop.supervisor.lower(mass=patient.mass)
    loop.self_test()
    found = scan_plant(loop)
    loop.watch.learn(*found.finger_stiffness(), found.toe_end())
    assert found.map is not None
    error = found.map.value * np.sqrt(np.diag(found.map.covariance))
    felt = planned.Felt(found.height, found.map.x, found.map.value, error, np.ones(24, dtype=bool))
    intake = check_intake(patient.sex, float(patient.age), patient.stature, patient.mass)
    plan = plan_session(PROGRAMMES["stable_spine"], LAYOUT, intake, felt, planned.Needs.none())
    supports = [step.goal for step in plan.steps if step.kind == "stability" and step.goal]
    assert len(supports) == 5
    loop.reactions.clear()
    moves = itertools.cycle(["slides a heel", "lies still", "raises an arm", "lies still"])
    for goal in supports:
        run = PressRun(replace(goal, duration=9.0), LAYOUT)
        felt_least = np.inf
        while not run.done:
            force = loop.step(run)
            if run.phase is not Stretch.RHYTHM:
                continue
            if loop.cycle % 750 == 0:
                loop.plant.move_person(next(moves))
            felt_least = min(felt_least, float(force[goal.fingers].mean()))
        assert run.contact.all() and felt_least > 0.7 * goal.preload.mean()
        loop.plant.move_person("lies still")
        retract(loop)
    assert not any(said.moving for _, said in loop.reactions), "slow movements stop nothing"
