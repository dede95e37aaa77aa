"""What the fingers feel: contour, levels, stiffness, findings; made-up backs and the plant."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mats import MAT
from spinemat.anatomy import (
    LEVELS,
    TRUNK,
    asked_to_lie,
    back_length,
    check_intake,
    level_positions,
    s1_on_mat,
)
from spinemat.back_model import UP, Back, mean_back, means, pair_stiffness, response, rows_beside
from spinemat.breathing import BreathingEstimate, BreathWatch
from spinemat.contour import SpinePlace, expected_place, fit_contour
from spinemat.deconvolution import SIDE, LevelMap, Probe, deconvolve, side_differences
from spinemat.errors import InvalidInput
from spinemat.findings import evenness, findings, over_trend, stands_out
from spinemat.layout import load_layout
from spinemat.scan import PersonMoved, Samples, ScanRefused, SpineScan
from spinemat.segments import Segment, fit_segments
from spinemat.stiffness import REACH, TO_COME, RowProbes
from spinemat_bringup.evaluate import LIMITS, draw, eligible
from spinemat_sim.calm import FalseStop, SupervisedLoop
from spinemat_sim.closed_loop import ClosedLoop
from spinemat_sim.control_trials import scan as scan_plant
from spinemat_sim.faults import Fault
from spinemat_sim.indenter import stiffness_truth
from spinemat_sim.patient import Build, Patient
from spinemat_sim.patient_file import parse_patient, presets
from spinemat_sim.person import lie_down
from spinemat_sim.plant import Plant
from spinemat_sim.population import sample
from spinemat_sim.reaction_trials import WatchedLoop
from spinemat_sim.sensing_trials import (
    SIDES,
    Felt,
    Person,
    area_under_roc,
    feel,
    intraclass,
    stiffened,
    summary,
)
from spinemat_sim.trunk import build_trunk
from spinemat_sim.urdf import plain_urdf

LAYOUT = load_layout(MAT)
ROWS = LAYOUT.row_x
INTAKE = check_intake("male", 40.0, 1.756, 82.0)
RNG = np.random.default_rng(3)
# figures of `reaction_trials`, not of scans
REACTIONS = ("breath_", "guarding_", "sits_", "rolls_", "leaves_", "movement_", "update_")
BEGIN = RNG.bit_generator.state


@pytest.fixture(autouse=True)
def same_numbers() -> None:
    """Every test draws the same numbers, whatever ran before."""
    RNG.bit_generator.state = BEGIN


def place(s1: float = 0.01, back: float = 0.44, error: float = 0.003) -> SpinePlace:
    return SpinePlace(s1, back, np.diag([error**2, error**2]))


def lying_at(patient: Patient, s1: float) -> Patient:
    return replace(patient, position=replace(patient.position, along=s1))


# --- contour and levels -------------------------------------------------------------------------


def made_up_skin(s1: float, back: float, kyphosis: float, lordosis: float) -> np.ndarray:
    """Heights over the rows of a back with parabolic curvature between its landmarks."""
    level = level_positions(s1, back)
    x = np.arange(-0.05, 0.65, 0.0005)
    curvature = np.zeros_like(x)
    for angle, low, high in (
        (kyphosis, level["T12"], level["T1"]),
        (-lordosis, s1, level["T12"]),
        (-0.25, level["T1"], level["C1"]),
    ):
        t = (2.0 * x - low - high) / (high - low)
        curvature += angle * np.where(np.abs(t) < 1.0, 1.5 / (high - low) * (1.0 - t * t), 0.0)
    slope = np.cumsum(curvature) * 0.0005
    z = np.cumsum(slope - slope[x.searchsorted(level["T6"])]) * 0.0005
    return np.interp(ROWS, x, z - z.min())


@pytest.mark.parametrize(("s1", "back"), [(0.004, 0.40), (0.012, 0.44), (0.016, 0.47)])
def test_contour_tells_angles_and_where_the_levels_are(s1: float, back: float) -> None:
    skin = made_up_skin(s1, back, 0.42, 0.25)
    z = skin + RNG.normal(0.0, 3e-4, ROWS.size)
    found = fit_contour(ROWS, z, z, np.full(ROWS.size, 3e-4), INTAKE)
    assert found.kyphosis == pytest.approx(0.42, abs=np.radians(3.0))
    assert found.lordosis == pytest.approx(0.25, abs=np.radians(3.0))
    at = level_positions(s1, back)
    for level, error in found.place.errors.items():
        assert abs(found.place.levels[level] - at[level]) < max(3.0 * error, 0.004)
    assert np.abs(np.interp(ROWS, found.x, found.z) - skin).max() < 1.5e-3
    assert (found.z_std > 0.0).all() and found.valid.all()
    before = expected_place(INTAKE)
    assert found.place.errors["T1"] < 0.5 * before.errors["T1"]


@pytest.mark.parametrize("off", [-0.04, 0.03, 0.045])
def test_who_lies_elsewhere_than_asked_is_found_there(off: float) -> None:
    s1 = s1_on_mat(INTAKE) + off
    z = made_up_skin(s1, 0.44, 0.42, 0.25) + RNG.normal(0.0, 3e-4, ROWS.size)
    found = fit_contour(ROWS, z, z, np.full(ROWS.size, 3e-4), INTAKE)
    at = level_positions(s1, 0.44)
    assert not found.doubt
    for level, error in found.place.errors.items():
        assert abs(found.place.levels[level] - at[level]) < 2.5 * error, level


def test_long_backs_lie_further_down_so_that_their_neck_comes_over_the_last_row() -> None:
    small = check_intake("female", 40.0, 1.55, 55.0)
    tall = check_intake("male", 40.0, 1.80, 80.0)
    for intake in (small, tall):
        at = level_positions(s1_on_mat(intake), back_length(intake))
        assert ROWS[0] - 0.5 * REACH <= at["L5"], "the first row feels L5, or presses the sacrum"
        assert at["C4"] <= ROWS[-1] + 0.005
    assert "10 mm above the first row" in asked_to_lie(small, float(ROWS[0]))
    assert "30 mm below the first row" in asked_to_lie(tall, float(ROWS[0]))


def test_who_lies_far_from_where_asked_is_sent_back() -> None:
    z = made_up_skin(0.09, 0.44, 0.42, 0.25)
    found = fit_contour(ROWS, z, z, np.full(ROWS.size, 3e-4), INTAKE)
    assert "too far toward the head end" in found.doubt


def test_an_angle_is_told_only_where_both_its_ends_were_felt() -> None:
    z = made_up_skin(0.01, 0.44, 0.8, 0.25)
    felt = np.where(np.arange(ROWS.size) < 6, z, np.nan)
    found = fit_contour(ROWS, felt, felt, np.full(ROWS.size, 3e-4), INTAKE)
    assert np.isnan(found.kyphosis), "nothing was felt at T1"
    assert found.lordosis == pytest.approx(0.25, abs=np.radians(5.0))


def test_rows_without_contact_are_left_out_and_few_rows_give_no_contour() -> None:
    skin = made_up_skin(0.01, 0.44, 0.42, 0.25)
    left = skin.copy()
    left[[2, 7]] = np.nan
    found = fit_contour(ROWS, left, skin, np.full(ROWS.size, 3e-4), INTAKE)
    assert not found.valid[[2, 7]].any() and found.valid.sum() == ROWS.size - 2
    assert np.abs(np.interp(ROWS, found.x, found.z) - skin).max() < 1.5e-3
    left[3:] = np.nan
    found = fit_contour(ROWS, left, skin, np.full(ROWS.size, 3e-4), INTAKE)
    assert found.x.size == 0 and np.isnan(found.kyphosis)
    assert found.place.back == expected_place(INTAKE).back


def test_a_row_that_all_others_contradict_is_left_out() -> None:
    skin = made_up_skin(0.01, 0.44, 0.42, 0.25)
    wrong = skin.copy()
    wrong[6] += 0.025  # a load cell that is stuck lets its finger stand in the air, or push
    found = fit_contour(ROWS, wrong, wrong, np.full(ROWS.size, 4e-4), INTAKE)
    assert np.flatnonzero(~found.valid).tolist() == [6]
    assert np.abs(np.interp(ROWS, found.x, found.z) - skin)[6] < 3e-3
    assert fit_contour(ROWS, skin, skin, np.full(ROWS.size, 4e-4), INTAKE).valid.all()


@pytest.mark.parametrize("who", range(6))
def test_who_lies_the_other_way_round_is_told_so(who: int) -> None:
    people = [p for p in sample(30, 11) if 1.5 <= p.stature <= 1.98 and p.mass < 165.0]
    p = people[who]
    intake = check_intake(p.sex, 40.0, p.stature, p.mass)
    skin = build_trunk(lie_down(p)).skin_height
    noise = np.full(ROWS.size, 4e-4)
    for z, doubt in ((skin(ROWS), ""), (skin(ROWS[0] + ROWS[-1] - ROWS), "head lie at the foot")):
        z = z + RNG.normal(0.0, 3e-4, ROWS.size)
        said = fit_contour(ROWS, z, z, noise, intake).doubt
        assert said == "" if not doubt else doubt in said


def test_a_back_of_another_length_than_was_said_is_doubted_or_found_all_the_same() -> None:
    """A child-sized person whose stature was given as 1.98 m, and the other way round."""
    people = [p for p in sample(150, 11) if p.mass < 165.0]
    small = [p for p in people if 1.5 <= p.stature < 1.60][:5]
    tall = [p for p in people if 1.84 < p.stature <= 1.98][:5]
    doubted = 0
    for p, said in ((p, 1.98 if p in small else 1.50) for p in (*small, *tall)):
        intake = check_intake(p.sex, 40.0, said, p.mass)
        person = lie_down(lying_at(p, s1_on_mat(intake)))
        z = build_trunk(person).skin_height(ROWS)
        found = fit_contour(ROWS, z, z, np.full(ROWS.size, 4e-4), intake)
        doubted += bool(found.doubt)
        off = max(abs(found.place.levels[v] - person.x_of(v)) for v in ("L4", "T12", "T6"))
        assert found.doubt or off < 0.035, "nearly half of what was said wrongly, at most"
        if found.doubt:
            assert "check stature" in found.doubt
    assert doubted >= 2


@settings(max_examples=40)
@given(
    st.lists(st.floats(-0.01, 0.08), min_size=13, max_size=13),
    st.sampled_from(["male", "female"]),
    st.floats(1.5, 1.98),
)
def test_any_heights_give_finite_answers(z: list[float], sex: str, stature: float) -> None:
    intake = check_intake(sex, 40.0, stature, 70.0)
    heights = np.array(z)
    found = fit_contour(ROWS, heights, heights, np.full(ROWS.size, 4e-4), intake)
    assert np.isfinite(found.z).all() and np.isfinite(found.z_std).all()
    x = np.array([found.place.levels[v] for v in LEVELS])
    assert (np.diff(x) < 0.0).all(), "C1 is the highest"


# --- the back as springs, and back again --------------------------------------------------------


def test_a_mean_back_has_the_published_means_and_answers_like_springs() -> None:
    back = mean_back(0.01, 0.43)
    assert pair_stiffness(back) == pytest.approx(means(), rel=0.01)
    body, tissue = response(back, ROWS)
    assert body == pytest.approx(body.T)
    assert (np.linalg.eigvalsh(body) > 0.0).all() and (tissue > 0.0).all()
    assert (np.diag(body) >= body.max(axis=0) - 1e-12).all(), "nobody moves more than who presses"


def probes_of(back: Back, noise: float, held: bool = True) -> list[Probe]:
    """Probes of five groups of rows, as a scan presses them."""
    body, tissue = response(back, ROWS)
    probes = []
    for first in range(5):
        force = np.zeros(ROWS.size)
        force[first::5] = np.where(ROWS[first::5] > 0.5, 13.4, 33.4)
        travel = force @ body + force * tissue + RNG.normal(0.0, noise, ROWS.size)
        if not held:
            travel[force == 0.0] = np.nan
        error = np.full(ROWS.size, max(noise, 2e-5))
        probes.append(Probe(force, travel, error, np.zeros(ROWS.size, dtype=bool)))
    return probes


def drawn_back() -> Back:
    common = RNG.normal(0.0, 0.2)
    return Back(
        0.01,
        0.44,
        np.exp(common + RNG.normal(0.0, 0.12, len(UP))),
        np.exp(common + RNG.normal(0.0, 0.08, 4)),
        1.0,
    )


def test_rows_under_levels_show_as_much_less_travel_as_is_added_for_creep() -> None:
    more, chest = [], TRUNK[3:]  # what presses the neck as well is read otherwise
    for number, patient in enumerate(eligible(5, 8000)):
        person = lie_down(patient)
        below = np.abs(ROWS[:, None] - [person.x_of(v) for v in chest]) < 0.004
        scan = scan_plant(ClosedLoop(Plant(LAYOUT, person, plain_urdf(LAYOUT), number)))
        row, level = np.nonzero(below & scan.probes.measured[:, None])
        slope = 2.0 / (1.0 / scan.probes.linear.reshape(-1, 2)).mean(axis=1)
        truth = stiffness_truth(person, [chest[i] for i in level])
        more += [slope[r] / truth[(chest[i], "both")] for r, i in zip(row, level, strict=True)]
    assert len(more) >= 8
    assert np.mean(more) == pytest.approx(TO_COME, abs=0.03)


def test_levels_come_back_out_of_probes_and_neighbours_help() -> None:
    trunk = [UP.index(v) for v in TRUNK]
    whole, alone, inside = [], [], []
    for _ in range(12):
        back = drawn_back()
        truth = pair_stiffness(back)
        found = deconvolve(ROWS, probes_of(back, 5e-5), place())
        error = np.log(found.value / truth)
        whole.append(np.abs(error[trunk]))
        inside.append(np.abs(error[trunk]) < 1.96 * np.sqrt(np.diag(found.covariance))[trunk])
        found = deconvolve(ROWS, probes_of(back, 5e-5, held=False), place())
        alone.append(np.abs(np.log(found.value / truth))[trunk])
    assert np.median(whole) < 0.05
    assert np.median(whole) < np.median(alone)
    assert np.mean(inside) > 0.85


def test_sides_and_an_oblique_person_are_told_apart() -> None:
    found = deconvolve(ROWS, probes_of(mean_back(0.01, 0.44), 0.0), place())
    offset = np.array([row.offset for row in LAYOUT.rows])
    near = int(np.argmin(np.abs(found.x - ROWS[6])))
    straight, error = np.full(ROWS.size, 0.004), np.full(ROWS.size, 1e-4)
    gain, difference = 2.0 * straight, np.zeros(ROWS.size)
    difference[6] = 0.12 * gain[6]
    sides = side_differences(ROWS, offset, straight, gain, difference, error, found)
    assert np.argmax(sides.skew) == near and sides.skew[near] > 0.08
    assert abs(sides.across[0]) < 0.002
    # lying 4 mm to the left: the right fingers have the longer lever all along the back
    difference = 0.004 * straight * offset * 0.6 / 0.026**2
    sides = side_differences(ROWS, offset, straight, gain, difference, error, found)
    assert sides.across[0] == pytest.approx(-0.004, abs=0.002)


def test_segments_are_fitted_together_with_the_breath() -> None:
    breath = BreathingEstimate(0.23, 1.0, 0.0, 4e-4, 0.9)
    phase = lambda t: 1.0 + 2.0 * np.pi * 0.23 * t  # noqa: E731
    segments, n = [], 4
    for k in range(4):
        t = 10.0 * k + np.arange(0.0, 4.2, 0.02)
        u = np.linspace(0.0, 1.0, t.size)
        rise = np.where(np.arange(n) == k, 16.0, 0.0)
        push = np.repeat(u[:, None], n, axis=1)
        corner = np.where(rise > 0.0, 0.45, 0.5)
        z = 0.02 + 1e-3 * np.cos(phase(t))[:, None] * (1.0 + 0.1 * np.arange(n))
        z = z + np.where(
            rise > 0.0,
            6e-3 * np.minimum(u, 0.45)[:, None] + 3e-3 * np.maximum(u - 0.45, 0.0)[:, None],
            5e-4 * u[:, None],
        )
        z += RNG.normal(0.0, 2e-5, z.shape)
        segments.append(Segment(t, z, push, corner, rise, np.zeros(rise.size, dtype=bool)))
    for k, fit in enumerate(fit_segments(segments, breath)):
        # from the last third of the ramp only: what creeps behind the corner is left out
        assert abs(fit.above[k] - 3e-3) < min(2.0 * fit.error[k], 2e-4)
        assert fit.below[k] == pytest.approx(6e-3, rel=0.02)
        others = np.arange(n) != k
        assert fit.above[others] == pytest.approx(5e-4, abs=5e-5)
        assert fit.height == pytest.approx(0.02 + 1e-3 * (1.0 + 0.1 * np.arange(n)), abs=5e-5)
        assert (fit.residual < 1e-4).all()
    segments[0] = segments[0]._replace(corner=np.array([1.0, 0.5, 0.5, 0.5]))  # none is expected
    found = fit_segments(segments, breath, np.arange(3))[0]
    assert found.corner[0] == pytest.approx(0.45, abs=0.05)
    assert found.below[0] == pytest.approx(6e-3, rel=0.02)
    assert np.isnan(found.height[3]), "not asked for"


# --- findings -----------------------------------------------------------------------------------


def a_map(value: np.ndarray, spread: float = 0.05) -> LevelMap:
    x = mean_back(0.01, 0.44).x
    unit = np.eye(len(UP))
    return LevelMap(x, value, spread**2 * unit, 0.5**2 * unit, 1.0)


def test_evenness_is_one_for_the_published_profile_at_any_stiffness() -> None:
    assert evenness(means()) == pytest.approx(1.0)
    assert evenness(1.7 * means()) == pytest.approx(1.0)
    stiff = means().copy()
    stiff[UP.index("T6")] *= 3.0
    assert 0.9 < evenness(stiff) < 0.99
    stiff[:12] *= 3.0
    assert evenness(stiff) < 0.85


def test_evenness_is_not_made_better_by_what_is_not_known() -> None:
    """Backs drawn from what is believed before a scan: the interval holds what it promises."""
    rng = np.random.default_rng(4)
    spread, noise = 0.12, 0.08
    inside = []
    for _ in range(60):
        true = means() * np.exp(rng.normal(0.0, spread, len(UP)))
        share = spread**2 / (spread**2 + noise**2)
        seen = np.log(true / means()) + rng.normal(0.0, noise, len(UP))
        left = np.full(len(UP), share * noise**2)
        believed = replace(a_map(means() * np.exp(share * seen)), covariance=np.diag(left))
        told = findings(believed, np.ones(len(UP), dtype=bool))
        inside.append(abs(told.evenness - evenness(true)) < 1.96 * told.evenness_error)
    assert np.mean(inside) >= 0.85
    few = np.arange(len(UP)) < 11
    assert np.isnan(findings(believed, few).evenness), "too few levels are known"


def test_a_back_that_does_not_fit_the_model_has_no_levels() -> None:
    back = drawn_back()
    probes, rng = probes_of(back, 1e-5), np.random.default_rng(8)
    plain = deconvolve(ROWS, probes, place())
    odd = [p._replace(travel=p.travel * (1.0 + rng.normal(0.0, 0.3, ROWS.size))) for p in probes]
    found = deconvolve(ROWS, odd, place())
    rows = RowProbes(ROWS, np.full(ROWS.size, 0.025))
    rows.reason = [""] * ROWS.size
    assert sum(e.valid for e in rows.levels(plain, place()) if e.side == "both") >= 15
    levels = rows.levels(found, place())
    assert levels and all("poor fit" in e.reason and np.isnan(e.value) for e in levels)


def test_sides_that_no_row_tells_apart_have_no_value() -> None:
    rows = RowProbes(ROWS, np.full(ROWS.size, 0.025))
    rows.reason = [""] * ROWS.size
    felt = np.where(np.arange(len(UP)) % 2, SIDE, 0.5 * SIDE)
    found = replace(a_map(means()), skew_error=felt)
    levels = {(e.level, e.side): e for e in rows.levels(found, place())}
    assert levels[("L4", "both")].valid and not levels[("L4", "left")].valid
    assert "sides" in levels[("L4", "left")].reason and levels[("L5", "right")].valid


def test_a_stiff_level_is_a_tension_point_and_only_when_it_is_sure() -> None:
    value = 1.3 * means()
    value[UP.index("T8")] *= 1.5
    valid = np.ones(len(UP), dtype=bool)
    found = findings(a_map(value), valid)
    assert [point.level for point in found.tension] == ["T8"]
    assert found.tension[0].ratio == pytest.approx(1.5, rel=0.05)
    assert not findings(a_map(value, 0.4), valid).tension
    valid[UP.index("T8")] = False
    assert not findings(a_map(value), valid).tension
    above, _ = over_trend(a_map(value))
    assert np.argmax(above) == UP.index("T8")


def test_a_stiff_level_stands_out_and_neither_its_neighbours_nor_a_stiff_person() -> None:
    near = np.exp(-np.abs(np.subtract.outer(np.arange(24.0), np.arange(24.0))))  # felt together
    before = 0.12**2 * np.eye(24) + 0.25**2
    k = UP.index("T8")
    for person in (0.8, 1.3):
        value = person * means() * np.exp(0.3 * near[k])
        found = replace(a_map(value), before=before, covariance=0.05**2 * near)
        out = stands_out(found)
        assert np.argmax(out) == k and out[k] > 1.0
        assert out[[k - 3, k + 3]].max() < 0.0
        even = replace(found, value=person * means())
        assert stands_out(even).max() < 0.0


def test_figures_of_agreement() -> None:
    a = RNG.normal(size=200)
    assert intraclass(a, a) == pytest.approx(1.0)
    assert intraclass(a, a + RNG.normal(scale=1.0, size=200)) == pytest.approx(0.667, abs=0.1)
    assert intraclass(a, a + 2.0) < 0.4
    assert area_under_roc(np.array([2.0, 3.0]), np.array([1.0, 0.0])) == 1.0
    assert area_under_roc(np.array([1.0]), np.array([1.0])) == 0.5
    assert area_under_roc(np.array([np.nan]), np.array([1.0, np.nan])) == 0.0, "a miss"


# --- on the plant -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def average() -> Felt:
    """What a quick scan feels of the average adult."""
    return feel(LAYOUT, presets()["average_adult"], 7)


def test_a_quick_scan_feels_a_person(average: Felt) -> None:
    felt, patient = average, presets()["average_adult"]
    truth = np.array([patient.stiffness_of(v) for v in TRUNK])
    assert np.isfinite(felt.value).sum() >= 15
    assert np.nanmedian(np.abs(felt.value / truth - 1.0)) < 0.13
    assert felt.seconds <= 60.0
    assert felt.contour < 1.5e-3 and np.abs(felt.angles).max() < np.radians(3.0)
    assert np.abs(felt.places).max() < 0.020
    assert felt.over <= 0.0
    assert abs(felt.breath) < 0.5 / 60.0


def test_what_was_not_found_counts_against_the_figures(average: Felt, tmp_path: Path) -> None:
    patient = presets()["average_adult"]
    found = stiffness_truth(lie_down(patient), TRUNK)
    truth = np.array([found[(v, "both")] for v in TRUNK])
    sides = np.array([[found[(v, side)] for side in SIDES] for v in TRUNK])
    nothing = replace(
        average, value=np.full(len(TRUNK), np.nan), regions=np.full(4, np.nan),
        contour=np.nan, refused="nobody", skew=np.full(len(TRUNK), np.nan),
    )  # fmt: skip
    people = [
        Person("felt", truth, sides, average.regions, average.evenness, f, f, f, 3, f, s, f)
        for f, s in ((average, 1.0), (average, -1.0), (nothing, 1.0))
    ]
    seen = summary(people[:2])
    named = {name for name, _, _ in LIMITS}
    assert {n for n in named if not n.startswith(REACTIONS)} <= seen.keys()
    assert seen["thoracic_level_pct"] < 13.0 and seen["upper_neck_pct"] == 0.0
    assert seen["side_right_share"] == 0.5
    lost = summary([people[2], people[0], people[2]])
    assert lost["thoracic_level_pct"] == lost["lower_neck_pct"] == 100.0
    assert lost["contour_mm"] == np.inf and lost["side_right_share"] == pytest.approx(1 / 3)
    assert lost["icc_least"] == 0.0 and lost["valid_levels"] == 0.0
    draw(people, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_a_body_built_otherwise_than_the_estimator_believes_is_felt_all_the_same() -> None:
    patient = presets()["average_adult"]
    heights = tuple(np.linspace(0.93, 1.07, len(UP)).tolist())
    odd = replace(patient, build=Build(0.75, 1.6, 1.3, 0.7), heights=heights)
    felt = feel(LAYOUT, odd, 7)
    truth = np.array([odd.stiffness_of(v) for v in TRUNK])
    assert np.isfinite(felt.value).sum() >= 15
    assert np.nanmedian(np.abs(felt.value / truth - 1.0)) < 0.13
    assert np.nanmean(np.abs(felt.value - truth) < 1.96 * felt.error) >= 0.75
    assert np.abs(felt.deviation).max() < 3.0


def test_a_row_at_the_end_of_the_neck_is_read_as_what_it_presses() -> None:
    """Taken for one of the thorax, it made T1 of this person twice as stiff as it is."""
    person = eligible(17, 9000)[16]
    felt = feel(LAYOUT, person, 9016)
    truth = stiffness_truth(lie_down(person), TRUNK[:2])
    for i, level in enumerate(TRUNK[:2]):
        assert felt.value[i] == pytest.approx(truth[(level, "both")], rel=0.25), level


def test_a_row_that_was_pressed_in_its_toe_alone_tells_nothing_of_what_lies_beyond() -> None:
    person = lie_down(eligible(100, 15000)[12])
    scan = scan_plant(ClosedLoop(Plant(LAYOUT, person, plain_urdf(LAYOUT), 15012)))
    linear, toe = scan.finger_stiffness()
    lightly = np.flatnonzero(np.isfinite(toe) & np.isnan(linear))
    assert lightly.tolist() == [20, 21] and scan.probes.measured[10]
    assert person.x_of("T1") - 0.02 < LAYOUT.x[20] < person.x_of("C7"), "beside the neck"
    assert np.isnan(scan.toe_end()[lightly]).all()


def test_the_contour_is_told_again_when_the_breath_is_known() -> None:
    loop = loop_of(presets()["average_adult"])
    scan, methods = SpineScan(LAYOUT, INTAKE), []
    for step in scan.steps(0, True):
        loop.samples.clear()
        _, outcome = loop.press(step.goal)
        scan.take(outcome, loop.samples)
        methods += [scan.contour.method] if scan.contour is not None else []
    assert "no breathing found" in methods[0], "two short rests do not tell 13 breaths a minute"
    scan.levels()
    assert scan.contour is not None and "breathing removed" in scan.contour.method
    with pytest.raises(PersonMoved, match="3 fingers are carried along"):
        scan.take(replace(outcome, moved="3 fingers are carried along"), loop.samples)


def loop_of(patient: Patient, seed: int = 5) -> ClosedLoop:
    return ClosedLoop(Plant(LAYOUT, lie_down(patient), plain_urdf(LAYOUT), seed))


def test_held_breath_is_no_breath_and_no_harm() -> None:
    patient = presets()["average_adult"]
    still = replace(patient, breathing=replace(patient.breathing, depth=0.0))
    found = scan_plant(loop_of(still))
    assert found.breath is None
    values = {e.level: e.value for e in found.levels() if e.side == "both"}
    errors = [abs(values[v] / patient.stiffness_of(v) - 1.0) for v in TRUNK]
    assert np.median(errors) < 0.13


def test_excluded_fingers_leave_their_levels_out_or_less_certain() -> None:
    loop = loop_of(presets()["average_adult"])
    loop.control.exclude(np.isin(np.arange(LAYOUT.n), [6, 7, 12]))
    found = scan_plant(loop)
    levels = {(e.level, e.side): e for e in found.levels()}
    gap = [e for e in levels.values() if e.side == "both" and abs(e.x - ROWS[3]) < 0.015]
    assert gap and all(not e.valid and e.reason == "no contact" for e in gap)
    assert sum(e.valid for (v, side), e in levels.items() if side == "both" and v in TRUNK) >= 12


@pytest.mark.parametrize(("sex", "stature", "mass", "said"), [
    ("female", 1.30, 30.0, 1.50), ("male", 1.38, 36.0, 1.75), ("male", 1.98, 95.0, 1.98),
])  # fmt: skip
def test_child_sized_and_very_tall_people_are_measured_or_refused(
    sex: str, stature: float, mass: float, said: float
) -> None:
    """No confident wrong number, also where the stature given is not theirs."""
    patient = parse_patient({
        "version": 1, "name": "someone", "sentence": "Another size.", "sex": sex, "age": 18,
        "stature": stature, "mass": mass,
    })  # fmt: skip
    scan, loop = (
        SpineScan(LAYOUT, check_intake(sex, 18.0, said, max(mass, 40.0))),
        loop_of(patient),
    )
    for step in scan.steps(0, True):
        loop.samples.clear()
        scan.take(loop.press(step.goal)[1], loop.samples)
    levels = [e for e in scan.levels() if e.side == "both" and e.level in TRUNK and e.valid]
    inside = [abs(e.value - patient.stiffness_of(e.level)) < 1.96 * e.error for e in levels]
    assert len(levels) >= 15 and np.mean(inside) >= 0.9
    c, person = scan.contour, lie_down(patient)
    assert c is not None and not c.doubt
    for angle, error, true in (
        (c.kyphosis, c.kyphosis_std, person.kyphosis),
        (c.lordosis, c.lordosis_std, person.lordosis),
    ):
        assert abs(angle - true) < 3.0 * error < np.radians(6.0)


def test_nobody_on_the_mat_is_said() -> None:
    loop = loop_of(presets()["average_adult"])
    loop.plant.move_person("leaves")
    for _ in range(round(3.0 / LAYOUT.cycle)):
        loop.step()
    with pytest.raises(ScanRefused, match="is anybody on the mat"):
        scan_plant(loop)


def test_who_lies_the_other_way_round_is_told_so_before_anything_presses() -> None:
    loop = loop_of(presets()["average_adult"])
    scan = SpineScan(LAYOUT, INTAKE)
    around = np.arange(LAYOUT.n).reshape(-1, 2)[::-1].ravel()
    with pytest.raises(ScanRefused, match="head lie at the foot"):
        for step in scan.steps(0, True):
            assert step.phase == "contour"
            loop.samples.clear()
            _, outcome = loop.press(step.goal)
            turned = Samples()
            for cycle, position, force in zip(*loop.samples.window(0, loop.cycle), strict=True):
                turned.add(int(cycle), position[around], force[around])
            scan.take(outcome, turned)


def test_a_row_that_loses_the_back_or_slips_has_no_value_and_says_why() -> None:
    loop = loop_of(presets()["average_adult"])
    scan = SpineScan(LAYOUT, INTAKE)
    lost, slips = slice(8, 10), slice(16, 18)
    for step in scan.steps(0, True):
        loop.samples.clear()
        _, outcome = loop.press(step.goal)
        felt = loop.samples
        if step.phase == "stiffness":
            pressed = step.goal.fingers[step.goal.amplitude > 0.0]
            felt = Samples()
            for cycle, position, force in zip(*loop.samples.window(0, loop.cycle), strict=True):
                if lost.start in pressed:
                    force[lost] = 0.0
                if slips.start in pressed and cycle % 500 < 250:
                    position[slips] += 0.002
                felt.add(int(cycle), position, force)
        scan.take(outcome, felt)
    assert scan.probes.reason[4] == "lifted: contact was lost"
    assert scan.probes.reason[8].startswith("poor fit")
    assert sum(not reason for reason in scan.probes.reason) == len(ROWS) - 2
    near = {e.level: e for e in scan.levels() if e.side == "both" and abs(e.x - ROWS[4]) < 0.014}
    assert near and not any(e.valid for e in near.values())


def test_few_rows_with_something_on_them_are_not_a_back() -> None:
    loop = loop_of(presets()["average_adult"])
    loop.control.exclude(np.arange(LAYOUT.n) >= 6)  # three rows feel something, like a bag
    with pytest.raises(ScanRefused, match="only 3 rows feel a back, 4 are needed"):
        scan_plant(loop)
    assert loop.peak.max() < 5.0


def test_what_a_level_may_get_holds_for_the_probes_of_a_scan() -> None:
    share = np.ones(len(UP))
    share[[UP.index("L4"), UP.index("T7")]] = 0.0, 0.5
    loop = loop_of(lying_at(presets()["average_adult"], 0.010))  # L4 between two rows beside it
    scan = SpineScan(LAYOUT, INTAKE, share=share)
    strongest = np.zeros(LAYOUT.n)
    for step in scan.steps(0, True):
        if step.goal.amplitude.any():
            most = step.goal.preload + step.goal.amplitude
            np.maximum.at(strongest, step.goal.fingers, most)
        loop.samples.clear()
        _, outcome = loop.press(step.goal)
        scan.take(outcome, loop.samples)
    beside = rows_beside(LAYOUT.row_x, np.array([scan.place.levels[v] for v in UP]))
    rows = strongest.reshape(-1, 2).max(axis=1)
    assert (rows[beside[:, UP.index("L4")]] <= 2.5).all(), "contact only"
    assert (rows[beside[:, UP.index("T7")]] <= 10.0).all()
    assert rows.max() > 18.0
    levels = {e.level: e for e in scan.levels() if e.side == "both"}
    assert not levels["L4"].valid and levels["T10"].valid
    for bad in (np.ones(3), np.full(len(UP), 1.5), np.full(len(UP), np.nan)):
        with pytest.raises(InvalidInput, match="share"):
            SpineScan(LAYOUT, INTAKE, share=bad)


def test_where_muscles_tense_under_a_probe_no_number_is_told() -> None:
    patient = presets()["average_adult"]
    loop = WatchedLoop(Plant(LAYOUT, lie_down(patient), plain_urdf(LAYOUT), 5))
    loop.plant.guard_from(11.0)
    found = scan_plant(loop)
    levels = {e.level: e for e in found.levels() if e.side == "both"}
    guarded = [v for v in TRUNK if levels[v].reason.startswith("guarded")]
    assert len(guarded) >= 3 and not any(levels[v].valid for v in guarded)


def test_a_load_cell_stuck_in_the_air_leaves_its_levels_out() -> None:
    loop = loop_of(presets()["average_adult"])
    loop.plant.break_fingers([Fault(8, "load_cell_stuck", 0.0)])
    found = scan_plant(loop)
    near = [e for e in found.levels() if e.side == "both" and abs(e.x - ROWS[4]) < 0.015]
    assert near and all(not e.valid and e.reason == "no contact" for e in near)
    assert loop.peak[8] < 6.0, "it ends its search by the force that its drive may give"


def test_a_load_cell_that_sticks_under_a_back_stops_the_scan_and_no_number_is_told() -> None:
    plant = Plant(LAYOUT, lie_down(presets()["average_adult"]), plain_urdf(LAYOUT), 5)
    loop = SupervisedLoop(plant)
    loop.self_test()
    scan = SpineScan(LAYOUT, INTAKE)
    with pytest.raises(FalseStop, match="load cell"):
        for step in scan.steps(0, True):
            if step.phase == "stiffness":
                plant.break_fingers([Fault(8, "load_cell_stuck", 0.0)])
            loop.samples.clear()
            _, outcome = loop.press(step.goal)
            scan.take(outcome, loop.samples)
    assert not any(e.valid for e in scan.levels())


def test_a_full_scan_probes_sides_alone_and_tells_the_stiffer_one() -> None:
    patient = lying_at(presets()["average_adult"], 0.010)  # a row lies under T8
    felt = feel(LAYOUT, stiffened(patient, "T8", 1.0, 0.0), 7, full=True)
    skew = dict(zip(TRUNK, felt.skew, strict=True))
    assert skew["T8"] > 0.03 and skew["T8"] > skew["T5"] and skew["T8"] > skew["T11"]
    assert felt.seconds <= 300.0 and felt.over <= 0.0


# --- breathing in real time ---------------------------------------------------------------------


@pytest.mark.parametrize("pressing", [False, True])
def test_breathing_is_felt_at_rest_and_under_a_rhythm(pressing: bool) -> None:
    rate, n = 0.225, LAYOUT.n
    watch = BreathWatch(LAYOUT)
    contact = np.ones(n, dtype=bool)
    rng = np.random.default_rng(5)
    turns = np.repeat(np.arange(n // 2) / 13.0, 2)
    for k in range(round(30.0 / 0.02)):
        t = 0.02 * k
        wave = 0.5 - 0.5 * np.cos(2.0 * np.pi * (0.5 * t - turns))
        force = 2.5 + (12.0 * wave if pressing else 0.0) + rng.normal(0.0, 0.1, n)
        beside = np.convolve(force[::2], [1.0, 0.0, 1.0], "same").repeat(2)
        z = 0.02 + np.minimum(force, 10.0) / 2500.0 + np.maximum(force - 10.0, 0.0) / 6000.0
        z = z + beside / 25000.0 + 4e-4 * np.cos(2.0 * np.pi * rate * t + 0.7)
        watch.add(t, z + rng.normal(0.0, 2e-5, n), force, contact)
    found = watch.at(t)
    assert found is not None and found.valid
    assert 60.0 * abs(found.rate - rate) < 0.5
    off = (found.phase - 2.0 * np.pi * rate * t - 0.7 + np.pi) % (2.0 * np.pi) - np.pi
    assert abs(np.degrees(off)) < 30.0


def test_breathing_is_not_made_up_where_there_is_none() -> None:
    watch = BreathWatch(LAYOUT)
    rng = np.random.default_rng(6)
    for k in range(round(30.0 / 0.02)):
        force = 2.5 + rng.normal(0.0, 0.1, LAYOUT.n)
        z = 0.02 + rng.normal(0.0, 2e-5, LAYOUT.n)
        watch.add(0.02 * k, z, force, np.ones(LAYOUT.n, dtype=bool))
    found = watch.at(30.0)
    assert found is None or not found.valid
    watch = BreathWatch(LAYOUT)
    watch.add(0.0, z, force, np.zeros(LAYOUT.n, dtype=bool))
    assert watch.at(0.0) is None, "nobody touches"


@pytest.mark.parametrize(("scanned", "rows", "told"), [
    (False, slice(3, 10), True), (False, slice(10, 13), False), (False, slice(0, 1), False),
    (True, slice(3, 9), True), (True, slice(8, 13), False),
])  # fmt: skip
def test_the_ends_of_the_trunk_tell_no_breath(scanned: bool, rows: slice, told: bool) -> None:
    """There the back is heaved by more than the skin goes down: the breath seems turned round."""
    watch, contact = BreathWatch(LAYOUT), np.zeros((13, 2), dtype=bool)
    if scanned:
        watch.learn(0.0, 0.38)  # somebody short
    contact[rows] = True
    rng = np.random.default_rng(7)
    for k in range(round(30.0 / 0.02)):
        z = 0.02 - 5e-4 * np.cos(2.0 * np.pi * 0.25 * 0.02 * k) + rng.normal(0.0, 2e-5, LAYOUT.n)
        watch.add(0.02 * k, z, np.full(LAYOUT.n, 2.5), contact.reshape(-1))
    found = watch.at(30.0)
    assert (found is not None and found.valid) is told


def test_a_scan_notices_that_the_person_slid_along_the_mat() -> None:
    """What is felt of the same person lying 12 mm further up, from the second probe on."""
    patient = presets()["average_adult"]
    there = replace(patient.position, along=patient.position.along + 0.012)
    loops = loop_of(patient), loop_of(replace(patient, position=there))
    here, beyond = SpineScan(LAYOUT, INTAKE), SpineScan(LAYOUT, INTAKE)
    probes = 0
    with pytest.raises(PersonMoved, match=r"slid by (9|1\d) mm toward the head end"):
        for step, other in zip(here.steps(0, True), beyond.steps(0, True), strict=True):
            outcomes = []
            for loop, s in zip(loops, (step, other), strict=True):
                loop.samples.clear()
                outcomes.append(loop.press(s.goal)[1])
            beyond.take(outcomes[1], loops[1].samples)
            slid = int(probes > 1)
            here.take(outcomes[slid], loops[slid].samples)
            probes += step.phase == "stiffness"
    assert probes == 2, "noticed at once"


@pytest.mark.parametrize("movement", ["rolls", "leaves"])
def test_a_scan_notices_that_the_person_moved(movement: str) -> None:
    loop = loop_of(presets()["average_adult"])
    scan = SpineScan(LAYOUT, INTAKE)
    with pytest.raises(PersonMoved, match="the person moved"):
        for step in scan.steps(0, True):
            loop.samples.clear()
            _, outcome = loop.press(step.goal)
            scan.take(outcome, loop.samples)
            if step.phase == "stiffness":
                loop.plant.move_person(movement)
