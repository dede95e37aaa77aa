"""The plant behaves as a person on a mat does; truth is measured on it, not read from it."""

from __future__ import annotations

from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from mats import MAT, XACRO
from spinemat.errors import InvalidInput
from spinemat.layout import MatLayout, load_layout
from spinemat_sim.body import build_body
from spinemat_sim.indenter import indent, laboratory, stiffness_truth
from spinemat_sim.patient import LEVELS
from spinemat_sim.person import lie_down
from spinemat_sim.plant import Plant
from spinemat_sim.population import find_patient
from spinemat_sim.pressure import compare, man_in_the_maps, recordings
from spinemat_sim.render import NoOpenGL, render
from spinemat_sim.sensors import Imperfections
from spinemat_sim.trunk import Trunk, build_trunk
from spinemat_sim.urdf import expand_urdf, plain_urdf


@pytest.fixture(scope="module")
def layout() -> MatLayout:
    return load_layout(MAT)


@pytest.fixture(scope="module")
def urdf() -> str:
    return expand_urdf(XACRO, MAT)


@pytest.fixture(scope="module")
def trunk() -> Trunk:
    return build_trunk(lie_down(find_patient("")))


def make(layout: MatLayout, urdf: str, trunk: Trunk, seed: int = 0, ideal: bool = True) -> Plant:
    sensors = Imperfections.none() if ideal else Imperfections()
    plant = Plant(layout, trunk.person, urdf, seed, sensors, trunk)
    plant.breathing = not ideal
    return plant


def drive(plant: Plant, velocity: np.ndarray, cycles: int, bound: float = 60.0) -> None:
    high = np.full(plant.layout.n, bound)
    for _ in range(cycles):
        plant.step(velocity, -high, high)


def press_pair(plant: Plant, row: str, force: float, speed: float = 0.01) -> np.ndarray:
    """Press a pair until one finger feels a force; return its two indices."""
    pair = np.array([plant.layout.index(f"{row}_{s}") for s in ("left", "right")])
    velocity = np.zeros(plant.layout.n)
    velocity[pair] = speed
    for _ in range(5000):
        drive(plant, velocity, 1)
        if plant.truth().force[pair].max() >= force:
            return pair
    raise AssertionError("force not reached")


# --- the back ---------------------------------------------------------------------------------


def test_back_touches_and_hollows_are_in_reach(layout: MatLayout, urdf: str) -> None:
    for who in ("", "100", "3279", "4000", "small_elder", "adult_165kg"):
        plant = Plant(layout, lie_down(find_patient(who, 1)), urdf)
        person = plant.person
        thorax = np.linspace(person.x_of("T12"), person.x_of("T1"), 200)
        assert -0.003 < plant.contour(thorax).min() < 0.0
        z = plant.contour(layout.row_x)
        assert np.all(z < 0.070) and np.all(z > -0.005)
        hollow = plant.contour(np.linspace(person.s1_x, person.x_of("T12"), 100)).max()
        assert 0.002 < hollow < 0.05
        # the angles that the person is said to have are those of the contour
        x = np.array([person.x_of("T1"), person.x_of("T12"), person.s1_x])
        slope = np.arctan((plant.contour(x + 0.001) - plant.contour(x - 0.001)) / 0.002)
        assert slope[0] - slope[1] == pytest.approx(person.kyphosis, rel=0.05)
        assert slope[2] - slope[1] == pytest.approx(person.lordosis, rel=0.05)


# --- rest, lifting, breathing ----------------------------------------------------------------


def test_rest_loads_are_the_mass_fractions(layout: MatLayout, urdf: str, trunk: Trunk) -> None:
    plant = make(layout, urdf, trunk)
    drive(plant, np.zeros(layout.n), 500)
    wanted = plant.person.patient.mass * 9.81 * np.array([0.081, 0.216, 0.139, 0.142])
    np.testing.assert_allclose(plant.region_loads(), wanted, rtol=0.02)
    truth = plant.truth()
    assert truth.padding == pytest.approx(wanted.sum(), rel=0.02)
    assert np.all(truth.force == 0.0)
    x, padding, fingers = plant.load_along_back()
    assert padding.sum() == pytest.approx(truth.padding, rel=1e-6) and not fingers.any()
    assert np.all(np.diff(x) > 0)


def test_pressing_harder_than_the_weight_lifts(layout: MatLayout, urdf: str, trunk: Trunk) -> None:
    plant = make(layout, urdf, trunk)
    spring = layout.finger.return_preload + layout.finger.return_stiffness * 0.09
    for _ in range(1500):
        plant.step(np.full(layout.n, 0.05), np.zeros(layout.n), layout.press_limit + spring)
    truth = plant.truth()
    weight = 0.578 * plant.person.patient.mass * 9.81
    assert layout.press_limit.sum() > weight  # the limits together exceed what lies there
    assert truth.padding < 0.2 * weight
    assert truth.force.sum() + truth.padding == pytest.approx(weight, rel=0.03)
    assert np.all(truth.force >= 0.0)


def test_breathing_is_felt_and_comes_back(layout: MatLayout, urdf: str, trunk: Trunk) -> None:
    plant = make(layout, urdf, trunk)
    pair = press_pair(plant, "r08", 8.0)
    drive(plant, np.zeros(layout.n), 200)
    quiet = plant.truth().force[pair].sum()
    plant.breathing = True
    felt, breath = [], []
    for _ in range(round(2.0 / plant.person.patient.breathing.rate / layout.cycle)):
        drive(plant, np.zeros(layout.n), 1)
        truth = plant.truth()
        felt.append(truth.force[pair].sum())
        breath.append(truth.breath)
    assert min(breath) == 0.0 and max(breath) > 0.99
    assert np.corrcoef(felt, breath)[0, 1] > 0.9
    assert max(felt) - quiet > 0.5
    assert min(felt[len(felt) // 2 :]) == pytest.approx(quiet, abs=1.0)


# --- stiffness -------------------------------------------------------------------------------


def test_measured_stiffness_is_the_persons(trunk: Trunk) -> None:
    levels = ["T4", "T7", "T10", "L1", "L3", "L5"]
    truth = stiffness_truth(trunk.person, levels, trunk)
    for level in levels:
        assert truth[level, "both"] == pytest.approx(
            trunk.person.patient.stiffness_of(level), rel=0.05
        )
        sides = truth[level, "left"] + truth[level, "right"]
        assert sides == pytest.approx(truth[level, "both"], rel=0.02)


def test_sides_differ_as_the_person_does(trunk: Trunk) -> None:
    patient = find_patient("left_right_asymmetry")
    truth = stiffness_truth(lie_down(patient), ["T9", "L2", "T4"])
    for level, tolerance in (("T9", 0.05), ("L2", 0.05), ("T4", 0.02)):
        i = LEVELS.index(level)
        found = truth[level, "left"] / truth[level, "right"]
        assert found == pytest.approx(patient.left[i] / patient.right[i], rel=tolerance)
        assert truth[level, "both"] == pytest.approx(patient.stiffness_of(level), rel=0.05)


def test_neck_levels_too(trunk: Trunk) -> None:
    truth = stiffness_truth(trunk.person, ["C5"], trunk)
    assert truth["C5", "both"] == pytest.approx(trunk.person.patient.stiffness_of("C5"), rel=0.05)


@pytest.mark.parametrize(("level", "toe"), [("T8", [8.0, 17.0]), ("C6", [2.5, 6.0])])
def test_toe_is_softer(trunk: Trunk, level: str, toe: list[float]) -> None:
    found = indent(trunk.person, level, toe, trunk).stiffness()[0]
    assert found / trunk.person.patient.stiffness_of(level) == pytest.approx(0.4, abs=0.03)


def test_unknown_levels_are_refused(trunk: Trunk) -> None:
    with pytest.raises(InvalidInput, match="level"):
        stiffness_truth(trunk.person, ["S2"], trunk)
    with pytest.raises(InvalidInput, match="forces"):
        indent(trunk.person, "T7", [20.0, 10.0], trunk)


# --- drives and sensors ----------------------------------------------------------------------


def test_same_seed_is_bit_identical(layout: MatLayout, urdf: str, trunk: Trunk) -> None:
    runs = []
    for seed in (3, 3, 4):
        plant = make(layout, urdf, trunk, seed, ideal=False)
        drive(plant, np.full(layout.n, 0.02), 400)
        m = plant.measure()
        runs.append(np.concatenate([m.position, m.velocity, m.force, m.current, m.temperature]))
    assert np.array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])


def test_unpowered_finger_releases(layout: MatLayout, urdf: str, trunk: Trunk) -> None:
    plant = make(layout, urdf, trunk)
    pair = press_pair(plant, "r04", 20.0)
    zero = np.zeros(layout.n)
    cycles = 0
    while plant.truth().force[pair].max() >= 1.0:
        plant.step(zero, zero, zero)
        cycles += 1
    assert cycles * layout.cycle < 0.100
    drive(plant, zero, 250, bound=0.0)
    assert plant.truth().position[pair].max() < layout.finger.stroke[0] + 0.001


def test_velocity_is_held_under_load(layout: MatLayout, urdf: str, trunk: Trunk) -> None:
    plant = Plant(layout, trunk.person, urdf, 0, Imperfections(), trunk)
    pair = press_pair(plant, "r04", 5.0)
    velocity = np.zeros(layout.n)
    velocity[pair] = 0.008
    before = plant.truth()
    drive(plant, velocity, 100)
    after = plant.truth()
    assert after.force[pair].min() > before.force[pair].max() + 5.0
    moved = after.position - before.position
    np.testing.assert_allclose(moved[pair], 0.008 * 0.4, rtol=0.03)
    np.testing.assert_allclose(plant.measure().velocity[pair], 0.008, atol=0.002)
    assert np.abs(np.delete(moved, pair)).max() < 1e-5


def test_force_stays_under_the_bound(layout: MatLayout, urdf: str, trunk: Trunk) -> None:
    plant = make(layout, urdf, trunk)
    finger, bound = layout.finger, 24.0
    peak = np.zeros(layout.n)
    velocity = np.zeros(layout.n)
    velocity[6:8] = 0.05
    for _ in range(800):
        plant.step(velocity, np.full(layout.n, -60.0), np.full(layout.n, bound))
        peak = np.maximum(peak, plant.truth().peak_force)
    truth = plant.truth()
    travel = truth.position[6:8] - finger.stroke[0]
    tip = bound - finger.return_preload - finger.return_stiffness * travel
    np.testing.assert_allclose(truth.force[6:8], tip, atol=0.2)
    assert np.all(peak[6:8] < tip + 2.0)  # the tip's momentum at 50 mm/s


def test_ends_of_the_stroke(layout: MatLayout, urdf: str, trunk: Trunk) -> None:
    plant = make(layout, urdf, trunk)
    drive(plant, np.full(layout.n, -0.1), 100)
    assert np.all(plant.truth().position >= layout.finger.stroke[0] - 0.0005)
    assert not plant.measure().status.any()
    velocity = np.zeros(layout.n)
    velocity[-1] = 0.1
    drive(plant, velocity, 500)
    assert plant.truth().position[-1] < layout.finger.stroke[1] + 0.0005


def test_sensors_have_their_imperfections(layout: MatLayout, urdf: str, trunk: Trunk) -> None:
    plant = make(layout, urdf, trunk, 1, ideal=False)
    zero, forces = np.zeros(layout.n), []
    for _ in range(500):
        plant.step(zero, zero, zero)
        forces.append(plant.measure().force.copy())
    noise = np.std(forces, axis=0)
    assert np.all((noise > 0.08) & (noise < 0.13))
    steps = np.array(forces) / 0.02
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-6)
    m = plant.measure()
    assert np.abs(m.position - plant.truth().position).max() < 0.0001
    assert m.status.dtype == np.uint16 and m.temperature.min() > 20.0


def test_bad_orders_are_refused(layout: MatLayout, urdf: str, trunk: Trunk) -> None:
    plant = make(layout, urdf, trunk)
    good, bad = np.zeros(layout.n), np.full(layout.n, np.nan)
    for orders in ((good[:3], good[:3], good[:3]), (bad, good, good), (good, good + 1, good)):
        with pytest.raises(InvalidInput):
            plant.step(*orders)
    assert plant.cycle == 0


def test_other_layouts_and_wrong_urdf(layout: MatLayout, urdf: str, trunk: Trunk) -> None:
    small = laboratory(trunk.person, "T6")
    body = build_body(trunk, small, plain_urdf(small))
    assert len(body.start) == 3
    with pytest.raises(InvalidInput, match="urdf joints"):
        build_body(trunk, small, urdf)
    with pytest.raises(InvalidInput, match="urdf"):
        build_body(trunk, layout, "no URDF")


# --- load along the back ---------------------------------------------------------------------


def test_load_resembles_real_people(layout: MatLayout, urdf: str) -> None:
    patient = man_in_the_maps()
    assert abs(patient.stature - 1.90) < 0.02 and abs(patient.mass - 96) < 3
    person = lie_down(patient)
    found = compare(Plant(layout, person, urdf))
    assert found.correlation >= 0.75
    assert found.model.sum() == pytest.approx(1.0) and found.maps.sum() == pytest.approx(1.0)
    assert len(found.ceiling) == len(recordings()) == 9
    assert abs(found.shift) <= 0.030 and 0.02 < found.row_pitch < 0.04


# --- picture ---------------------------------------------------------------------------------


def test_picture(layout: MatLayout, urdf: str, trunk: Trunk, tmp_path: Path) -> None:
    path = tmp_path / "mat.png"
    try:
        render(make(layout, urdf, trunk), urdf, path, 320, 180)
    except NoOpenGL as error:
        pytest.skip(str(error))
    pixels = matplotlib.image.imread(path)
    assert pixels.shape == (180, 320, 3)
    assert pixels.std() > 0.05  # something is to be seen


def test_missing_opengl_says_what_to_install(
    layout: MatLayout, urdf: str, trunk: Trunk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spinemat_sim.render.BACKENDS", ("absent",))
    with pytest.raises(NoOpenGL, match="apt-get install libegl1 libgl1-mesa-dri"):
        render(make(layout, urdf, trunk), urdf, tmp_path / "mat.png", 320, 180)
    with pytest.raises(InvalidInput, match="width"):
        render(make(layout, urdf, trunk), urdf, tmp_path / "mat.png", 3, 180)
