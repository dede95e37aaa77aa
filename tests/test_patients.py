"""Virtual patients: what a file may say, who is drawn, how they react, and their fast twin."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from command_line import spinemat
from mats import MAT
from spinemat.errors import InvalidInput
from spinemat.layout import MatLayout, load_layout
from spinemat.twin import LONGEST_STEP, Twin, TwinRun
from spinemat_sim.identify import identify
from spinemat_sim.patient import LEVELS, Mobilisation
from spinemat_sim.patient_file import dump_patient, load_patient, parse_patient, presets
from spinemat_sim.person import lie_down
from spinemat_sim.plant import Plant
from spinemat_sim.population import find_patient, sample
from spinemat_sim.sensors import Imperfections
from spinemat_sim.trials import agree, patterns, stress
from spinemat_sim.urdf import plain_urdf

SPEED = {"twin_times_real_time", "twin_cost_20_over_1"}  # reported by `spinemat bench twin`


@pytest.fixture(scope="module")
def layout() -> MatLayout:
    return load_layout(MAT)


def text(**changes: object) -> str:
    """A patient file: the mean adult with some fields changed, None removes one."""
    data = yaml.safe_load(dump_patient(find_patient("")))
    for key, value in changes.items():
        part = data
        *folders, last = key.split("__")
        for folder in folders:
            part = part[folder]
        if value is None:
            del part[last]
        else:
            part[last] = value
    return yaml.safe_dump(data)


# --- what a file may say ----------------------------------------------------------------------


def test_presets_are_the_people_they_say() -> None:
    known = presets()
    assert set(known) == {
        "average_adult", "desk_worker_45", "athlete_25", "small_elder", "adult_165kg",
        "stiff_t5_t7", "left_right_asymmetry", "guards",
    }  # fmt: skip
    assert all(len(p.sentence.split()) > 5 for p in known.values())
    mean = known["average_adult"]
    assert known["desk_worker_45"].age == 45 and known["athlete_25"].age == 25
    assert known["adult_165kg"].mass == 165.0
    assert known["desk_worker_45"].stiffness_of("L4") > 1.1 * mean.stiffness_of("L4")
    others = [i for i, v in enumerate(LEVELS) if v not in ("T4", "T5", "T6", "T7", "T8")]
    stiff = np.array(known["stiff_t5_t7"].stiffness) / mean.stiffness
    assert stiff[[LEVELS.index(v) for v in ("T5", "T6", "T7")]].min() > 1.15 * stiff[others].max()
    assert max(abs(a) for a in known["left_right_asymmetry"].asymmetry) > 0.1
    assert known["guards"].guarding.force < 0.5 * mean.guarding.force


@pytest.mark.parametrize("who", [*presets(), "17", "4853"])
def test_a_written_patient_reads_back_the_same(tmp_path: Path, who: str) -> None:
    patient = find_patient(who, 5)
    path = tmp_path / "patient.yaml"
    path.write_text(dump_patient(patient), encoding="utf-8")
    assert load_patient(path) == patient
    assert find_patient(str(path)) == patient


def test_what_a_file_leaves_out_is_that_of_the_mean() -> None:
    few = {
        "version": 1, "name": "a", "sentence": "b", "sex": "female", "age": 30,
        "stature": 1.65, "mass": 60.0, "stiffness": {"scale": 1.1, "levels": {"L4": 15000.0}},
    }  # fmt: skip
    p = parse_patient(few)
    assert p.stiffness_of("T7") == pytest.approx(1.1 * 10700.0)
    assert p.stiffness_of("L4") == pytest.approx(15000.0)
    assert math.degrees(p.lordosis) == pytest.approx(29.6)  # women's mean
    assert p.measures.c7_height == pytest.approx(0.86 * 1.65, rel=0.03)
    assert not any(p.softened) and p.mobilisation.softening == 0.0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"stature": 3.0}, ("patient.stature", "3", "1.3", "2.2", "m")),
        ({"mass": -70.0}, ("patient.mass", "-70")),
        ({"mass": math.nan}, ("patient.mass", "nan")),
        ({"age": "old"}, ("patient.age", "old")),
        ({"sex": "robot"}, ("patient.sex", "robot", "male, female")),
        ({"stiffness__levels__T5": {"left": -1.0, "right": 5000.0}}, ("T5", "-1", "N/m")),
        ({"stiffness__levels__T13": 9000.0}, ("T13",)),
        ({"stiffness__levels__T7": 29000.0}, ("T7", "tissue")),
        ({"tissue__neck__stiffness": -5.0}, ("tissue.neck.stiffness", "-5", "N/m")),
        ({"breathing__rate": 14.0}, ("breathing.rate", "14", "Hz")),
        ({"guarding__latency": 0.0}, ("guarding.latency", "0", "0.02")),
        ({"mobilisation__softening": 0.9}, ("mobilisation.softening", "0.9", "0.3")),
        ({"position__across": 0.2}, ("position.across", "0.2")),
        ({"colour": "blue"}, ("patient.colour", "blue")),
        ({"sentence": None}, ("patient.sentence",)),
        ({"version": 2}, ("patient.version", "2", "1")),
        ({"row": 5000}, ("row", "5000", "4853")),
    ],
)
def test_impossible_patients_are_named(changes: dict[str, object], words: tuple[str, ...]) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_patient(yaml.safe_load(text(**changes)))
    for word in words:
        assert word in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show", "tall.yaml"], ("patient.stature", "3.0")),
        (["show", "none.yaml"], ("none.yaml", "No such file")),
        (["show", "broken.yaml"], ("broken.yaml", "valid YAML")),
        (["show", "nobody"], ("nobody", "average_adult")),
        (["sample", "0"], ("number of people", "0")),
    ],
)
def test_bad_input_on_the_command_line_is_one_line(
    tmp_path: Path, arguments: list[str], words: tuple[str, ...]
) -> None:
    (tmp_path / "tall.yaml").write_text(text(stature=3.0))
    (tmp_path / "broken.yaml").write_text("a: [")
    status, output = spinemat("patient", *arguments, cwd=tmp_path)
    assert status == 1
    for word in words:
        assert word in output
    assert output.strip().splitlines()[-1].startswith("Error: ")
    assert "Traceback" not in output


# --- who is drawn -----------------------------------------------------------------------------


def test_the_same_seed_draws_the_same_people() -> None:
    one, same, other = sample(30, 4), sample(30, 4), sample(30, 5)
    assert one == same
    assert one != other
    assert len({p.row for p in one}) == 30
    assert sample(10, 4) == one[:10] or {p.row for p in sample(10, 4)} != {p.row for p in one}


def test_many_people_have_the_published_means_and_spread() -> None:
    people = sample(1500, 0)
    t7 = np.array([p.stiffness_of("T7") for p in people])
    assert t7.mean() == pytest.approx(10700.0, rel=0.03)
    assert t7.std() / t7.mean() == pytest.approx(0.28, abs=0.04)
    women = [p for p in people if p.sex == "female"]
    lordosis = np.degrees([p.lordosis for p in women])
    assert lordosis.mean() == pytest.approx(29.6, abs=2.0)
    for bad in (0, -1, 2.5, True):
        with pytest.raises(InvalidInput, match="number of people"):
            sample(bad)  # type: ignore[arg-type]


# --- how they react ---------------------------------------------------------------------------


def pressed(patient: str | object, layout: MatLayout, seconds: float) -> Plant:
    """A plant whose r05 pair was pressed up and down."""
    who = find_patient(patient) if isinstance(patient, str) else patient
    plant = Plant(layout, lie_down(who), plain_urdf(layout), 0, Imperfections.none())
    plant.breathing = False
    finger, bound = layout.finger, np.full(layout.n, 60.0)
    pair = [layout.index("r05_left"), layout.index("r05_right")]
    speed = np.zeros(layout.n)
    for i in range(round(seconds / layout.cycle)):
        wave = 10.0 - 8.0 * np.cos(np.pi * i * layout.cycle)
        spring = finger.return_stiffness * (plant.position - finger.stroke[0])
        high = np.where(speed > 0.0, wave + finger.return_preload + spring, bound)
        speed[pair] = 0.03
        plant.step(speed, -bound, np.minimum(high, bound))
    return plant


def test_levels_soften_only_if_asked_and_recover_over_days(layout: MatLayout) -> None:
    assert not pressed("", layout, 8.0).softened.any()
    mean = find_patient("")
    willing = replace(mean, mobilisation=Mobilisation(softening=0.2, work=0.5))
    after = pressed(willing, layout, 8.0).softened
    level = int(np.argmax(after))
    assert 0.01 < after[level] <= 0.2
    row = layout.x[layout.index("r05_left")]
    assert abs(lie_down(willing).x[level] - row) < 0.05  # the levels under the pair
    soft = willing.after(after, 0.0)
    assert soft.stiffness[level] == pytest.approx(mean.stiffness[level] * (1.0 - after[level]))
    days = willing.after(after, 3.0 * 86400.0).softened[level]
    assert days == pytest.approx(after[level] / math.e)
    assert load_round(soft) == soft


def load_round(patient: object) -> object:
    return parse_patient(yaml.safe_load(dump_patient(patient)))  # type: ignore[arg-type]


def test_late_sensors_say_what_was(layout: MatLayout) -> None:
    person, urdf = lie_down(find_patient("")), plain_urdf(layout)
    said = []
    for cycles in (0, 5):
        late = replace(Imperfections.none(), latency=cycles)
        plant = Plant(layout, person, urdf, 0, late)
        positions = []
        for _ in range(40):
            plant.step(np.full(layout.n, 0.05), np.full(layout.n, -60.0), np.full(layout.n, 60.0))
            positions.append(plant.measure().position.copy())
        said.append(np.array(positions))
    assert np.array_equal(said[1][5:], said[0][:-5])
    assert np.ptp(said[0], axis=0).min() > 0.001


@pytest.mark.parametrize(
    ("change", "words"),
    [({"latency": 2.5}, "latency"), ({"force_noise": -1.0}, "force_noise"),
     ({"friction": math.nan}, "friction")],
)  # fmt: skip
def test_impossible_imperfections_are_named(change: dict[str, float], words: str) -> None:
    with pytest.raises(InvalidInput, match=f"imperfections.{words}"):
        Imperfections(**change)  # type: ignore[arg-type]


def test_fingers_at_their_limits_lift_a_person_and_break_nothing(layout: MatLayout) -> None:
    over, within = stress(layout, sample(1, 11)[0], 11)
    assert over.finite and within.finite
    assert over.kinetic < 0.5 and within.kinetic < 0.5
    assert over.residual < 0.05 * over.kinetic  # it came to rest
    assert over.rise > 0.010 > 0.005 > within.rise


# --- the twin ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def twins(layout: MatLayout) -> list[Twin]:
    return [
        identify(Plant(layout, lie_down(find_patient(who)), plain_urdf(layout)))
        for who in ("", "small_elder")
    ]


def test_the_twin_does_what_the_plant_does(layout: MatLayout) -> None:
    found = agree(layout, find_patient("athlete_25"), patterns(layout, 10, 1), LONGEST_STEP)
    for what in (found.indentation, found.work, found.warning):
        assert len(what)
        assert np.abs(what).max() <= 0.10 and np.median(np.abs(what)) <= 0.05
    assert found.warned >= 1 and found.unlike == 0


def forces(n: int, people: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.0, 10.0, (people, n))


def test_people_together_move_as_each_alone(layout: MatLayout, twins: list[Twin]) -> None:
    together = TwinRun(Twin.together(twins), 0.01)
    alone = [TwinRun(t, 0.01) for t in twins]
    for i in range(20):
        force = forces(layout.n, 2, i)
        together.advance(force)
        for who, run in enumerate(alone):
            run.advance(force[who : who + 1])
    for name in ("travel", "work", "load"):
        both = np.concatenate([getattr(run, name) for run in alone])
        np.testing.assert_allclose(getattr(together, name), both, rtol=1e-4, atol=1e-7)


@settings(max_examples=25, deadline=None)
@given(
    finger=st.integers(0, 25),
    force=st.floats(1.0, 15.0),
    more=st.floats(0.5, 15.0),
    step=st.sampled_from([0.001, 0.004, 0.01]),
)
def test_more_force_goes_deeper_and_leaves_less_on_the_padding(
    twins: list[Twin], finger: int, force: float, more: float, step: float
) -> None:
    deep, light = TwinRun(twins[0], step), TwinRun(twins[0], step)
    low, high = np.zeros((1, 26)), np.zeros((1, 26))
    low[0, finger], high[0, finger] = force, force + more
    for _ in range(round(0.5 / step)):
        light.advance(low)
        deep.advance(high)
    assert deep.travel[0, finger] > light.travel[0, finger] > 0.0
    assert deep.work[0, finger] > light.work[0, finger] > 0.0
    assert deep.load.sum() < light.load.sum() < twins[0].weight.sum()
    travel = light.travel[0, finger]
    assert light.work[0, finger] <= force * travel * 1.001  # a spring stores less than that
    for _ in range(round(0.5 / step)):
        light.advance(np.zeros((1, 26)))
    assert light.travel[0, finger] < 0.5 * travel  # creep comes back
    assert not light.lifting.any()


def test_the_twin_refuses_what_does_not_fit(twins: list[Twin]) -> None:
    with pytest.raises(InvalidInput, match="step"):
        TwinRun(twins[0], 0.02)
    with pytest.raises(InvalidInput, match="force"):
        TwinRun(twins[0], 0.01).advance(np.zeros(26))
    with pytest.raises(InvalidInput, match=r"twin\.quick"):
        replace(twins[0], quick=twins[0].quick[:, :3])
    with pytest.raises(InvalidInput, match=r"twin\.times"):
        replace(twins[0], times=twins[0].times * np.nan)
    with pytest.raises(InvalidInput, match="twins"):
        Twin.together([])


# --- the command line -------------------------------------------------------------------------


def test_presets_and_people_on_the_command_line(tmp_path: Path) -> None:
    status, output = spinemat("patient", "list", cwd=tmp_path)
    assert status == 0
    assert all(name in output for name in presets())
    status, output = spinemat("patient", "show", "stiff_t5_t7", "--yaml", cwd=tmp_path)
    assert status == 0
    assert parse_patient(yaml.safe_load(output)) == find_patient("stiff_t5_t7")
    status, output = spinemat("patient", "show", "guards", cwd=tmp_path)
    assert status == 0 and "T7" in output and "12 N on a finger" in output
    arguments = ("patient", "sample", "4", "--seed", "9", "--out", "people", "--json", "4.json")
    status, output = spinemat(*arguments, cwd=tmp_path)
    assert status == 0, output
    files = sorted((tmp_path / "people").iterdir())
    assert [load_patient(f) for f in files] == sorted(sample(4, 9), key=lambda p: f"{p.name}.yaml")
    told = json.loads((tmp_path / "4.json").read_text())["people"]
    assert [p["mass"] for p in told] == [p.mass for p in sample(4, 9)]


def test_the_model_stands_beside_the_published_values(tmp_path: Path) -> None:
    status, output = spinemat(
        "patient", "validate", "--people", "1", "--json", "out.json", cwd=tmp_path
    )
    figures = json.loads((tmp_path / "out.json").read_text())
    failed = {c["name"] for c in figures["checks"] if not c["pass"]}
    assert failed <= SPEED, output
    assert status == (1 if failed else 0)
    assert {"stiffness_error_C2_pct", "guarding_latency_off_80_ms", "map_correlation",
            "creep_share_off_0.69", "same_seed_bit_identical"} <= {
        c["name"] for c in figures["checks"]
    }  # fmt: skip
    assert all(row["source"] and row["published"] for row in figures["table"])
    assert (tmp_path / "validation/validation.png").stat().st_size > 50_000
