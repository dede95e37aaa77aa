"""People drawn from a real body survey and from published distributions.

Body measures are those of 4,854 adults who were measured (ANSUR II, public domain,
`data/README.md`). What the survey does not hold is drawn from the means and deviations named in
`patient.py` and here, from a generator seeded by (seed, row).
"""

from __future__ import annotations

import csv
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spinemat.anatomy import Intake, s1_on_mat
from spinemat.errors import InvalidInput, choice
from spinemat_sim.patient import (
    LEVELS,
    MEAN_CERVICAL,
    MEAN_KYPHOSIS,
    MEAN_LORDOSIS,
    Breathing,
    Build,
    Layer,
    Measures,
    Patient,
    Position,
    Tissue,
    mean_stiffness,
)
from spinemat_sim.patient_file import DEFAULT_PATIENT, load_patient, presets

# Level heights (vertebra and disc), m: OpenSim full-body template, C1 and C2 recalled. The lumbar
# sum of the template, 161 mm, is below the 170 to 190 mm of anatomy, hence the factor 1.1.
HEIGHTS = 1e-3 * np.array(
    [1.1 * h for h in (34.9, 32.5, 32.5, 30.1, 31.3)]
    + [33.2, 29.0, 28.5, 24.7, 24.2, 25.5, 24.2, 24.8, 23.1, 20.9, 19.1, 20.2]
    + [15.9, 17.3, 18.4, 14.7, 15.4, 17.0, 14.0]
)
TEMPLATE = tuple((np.cumsum(HEIGHTS) - 0.5 * HEIGHTS).tolist())
"""Middles of the levels over the sacrum of the template, m."""

CV_PERSON, CV_LEVEL = 0.25, 0.12  # of stiffness; total 0.28, the split is a choice
CV_SIDE = 0.05  # left against right (choice)
# How people's builds differ is not surveyed: wide and even, so that nothing that estimates can
# know them (choices). Toe, shear, spread and padding as in `Build`; heights of single levels.
BUILD = ((0.7, 1.0), (0.5, 2.0), (0.7, 1.4), (0.6, 1.6))
HEIGHT = 0.09  # a coefficient of variation of 5 %
BREATH_RATE_SPREAD, BREATH_RATES = 1.8, (12.0, 20.0)  # per minute; the spread is a choice
CV_BREATH_DEPTH, BREATH_DEPTHS = 0.35, (0.0005, 0.002)  # m; the variation is a choice
ANGLE_CUT = 1.5  # standard deviations at which curvature is cut (choice)
LEAST_ANGLES = (10.0, 8.0, 8.0)  # degrees standing: kyphosis, lordosis, neck (choice)

_COLUMNS = {
    "c7_height": "cervicaleheight", "iliac_height": "iliocristaleheight",
    "buttock_height": "buttockheight", "hip_height": "trochanterionheight",
    "shoulder_breadth": "biacromialbreadth", "chest_breadth": "chestbreadth",
    "waist_breadth": "waistbreadth", "hip_breadth": "hipbreadth", "chest_depth": "chestdepth",
    "waist_depth": "waistdepth", "buttock_depth": "buttockdepth",
}  # fmt: skip


@lru_cache(maxsize=1)
def survey() -> tuple[dict[str, str], ...]:
    """All rows of the survey as text, in the order of the file."""
    text = resources.files("spinemat_sim").joinpath("data/ansur2_torso.csv").read_text("utf-8")
    return tuple(csv.DictReader(text.splitlines()))


@lru_cache(maxsize=1)
def bodies() -> tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.float64]]:
    """Whether male, stature (m) and mass (kg) of all rows, shape (4854,) each."""
    rows = survey()
    male = np.array([r["sex"] == "male" for r in rows])
    stature = np.array([1e-3 * float(r["stature_mm"]) for r in rows])
    mass = np.array([0.1 * float(r["weight_hg"]) for r in rows])
    return male, stature, mass


def nearest_row(stature: float, mass: float, sex: str) -> int:
    """Row of the survey closest in stature and mass, each over its standard deviation.

    Raises:
        InvalidInput: the sex is unknown.
    """
    male, statures, masses = bodies()
    same = male == (choice("sex", sex, ("male", "female")) == "male")
    far = ((statures - stature) / statures.std()) ** 2 + ((masses - mass) / masses.std()) ** 2
    return int(np.argmin(np.where(same, far, np.inf)))


def measures_for(sex: str, stature: float, mass: float, row: Any = None) -> tuple[int, Measures]:
    """Measures of a row of the survey, scaled to a stature and a mass.

    Heights and the spine's length scale with stature, breadths and depths with the square root of
    mass over stature (choice).

    Args:
        sex, stature, mass: of the person.
        row: of the survey; None takes the nearest one.

    Raises:
        InvalidInput: there is no such row.
    """
    row = nearest_row(stature, mass, sex) if row is None else _check_row(row)
    _, statures, masses = bodies()
    tall = stature / float(statures[row])
    wide = float(np.sqrt(mass / float(masses[row]) / tall))
    mm = survey()[row]
    return row, Measures(
        **{
            field: 1e-3 * float(mm[f"{column}_mm"]) * (tall if "height" in field else wide)
            for field, column in _COLUMNS.items()
        }
    )


def from_row(row: int, seed: int = 0) -> Patient:
    """Build the person of one row of the survey.

    Args:
        row: 0 for the first row.
        seed: 0 or larger; curvature, stiffness, breathing and position follow from (seed, row).

    Raises:
        InvalidInput: there is no such row, or the seed is not a natural number.
    """
    row, seed = _check_row(row), _check_seed(seed)
    data = survey()[row]
    sex, stature, mass = (
        data["sex"],
        1e-3 * float(data["stature_mm"]),
        0.1 * float(data["weight_hg"]),
    )
    rng = np.random.default_rng([seed, row])
    asked = s1_on_mat(Intake(sex, float(data["age_years"]), stature, mass))
    position = Position(
        along=asked + float(rng.uniform(-0.010, 0.010)),
        across=float(rng.uniform(-0.003, 0.003)),
        rotation=float(rng.uniform(-0.01, 0.01)),
    )
    angles = [
        float(
            np.radians(max(least, mean + deviation * np.clip(rng.normal(), -ANGLE_CUT, ANGLE_CUT)))
        )
        for (mean, deviation), least in zip(
            (MEAN_KYPHOSIS[sex], MEAN_LORDOSIS[sex], MEAN_CERVICAL), LEAST_ANGLES, strict=True
        )
    ]
    common = float(_lognormal(rng, CV_PERSON, 1)[0])
    pair = np.array(mean_stiffness(TEMPLATE)) * common * _lognormal(rng, CV_LEVEL, len(LEVELS))
    skew = np.clip(rng.normal(0.0, CV_SIDE, len(LEVELS)), -0.15, 0.15)
    mean = Tissue()
    tissue = Tissue(
        *(
            Layer(layer.thickness, common * layer.stiffness)
            for layer in (mean.neck, mean.thoracic, mean.lumbar, mean.sacral)
        )
    )
    return Patient(
        name=f"row{row}",
        sentence=f"row {row} of the body survey, seed {seed}",
        sex=sex,
        age=float(data["age_years"]),
        stature=stature,
        mass=mass,
        kyphosis=angles[0],
        lordosis=angles[1],
        cervical_lordosis=angles[2],
        measures=measures_for(sex, stature, mass, row)[1],
        left=tuple((0.5 * pair * (1.0 + skew)).tolist()),
        right=tuple((0.5 * pair * (1.0 - skew)).tolist()),
        tissue=tissue,
        breathing=_breathing(rng),
        position=position,
        build=Build(*(float(rng.uniform(*span)) for span in BUILD)),
        heights=tuple(rng.uniform(1.0 - HEIGHT, 1.0 + HEIGHT, len(LEVELS)).tolist()),
        row=row,
    )


def sample(n: int, seed: int = 0) -> list[Patient]:
    """Draw n people; the same seed gives the same people.

    Rows are drawn without repetition as long as the survey has enough of them.

    Raises:
        InvalidInput: n is not 1 to 100000, or the seed is not a natural number.
    """
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or not 1 <= n <= 100_000:
        raise InvalidInput("number of people", n, "a whole number, 1 to 100000")
    rng = np.random.default_rng([_check_seed(seed), 2])
    rows = rng.choice(len(survey()), int(n), replace=bool(n > len(survey())))
    return [from_row(int(row), seed) for row in rows]


def find_patient(who: str, seed: int = 0) -> Patient:
    """A patient by the name of a preset, the path of a YAML file or a row of the survey.

    Args:
        who: ``average_adult``, ``path/to/patient.yaml`` or ``4352``; empty: the default preset.
        seed: of what is drawn for a row of the survey.

    Raises:
        InvalidInput: nothing is found, or the file is not acceptable.
    """
    known = presets()
    if not who:
        return known[DEFAULT_PATIENT]
    if who in known:
        return known[who]
    if who.lstrip("+-").isdecimal():
        return from_row(int(who), seed)
    if who.endswith((".yaml", ".yml")) or Path(who).is_file():
        return load_patient(who)
    allowed = f"{', '.join(known)}, a YAML file, or a row of the survey (0 to {len(survey()) - 1})"
    raise InvalidInput("patient", who, allowed)


def _check_row(row: Any) -> int:
    if isinstance(row, bool) or not isinstance(row, (int, np.integer)):
        raise InvalidInput("patient.row", row, f"a whole number, 0 to {len(survey()) - 1}")
    if not 0 <= row < len(survey()):
        raise InvalidInput("patient.row", row, f"0 to {len(survey()) - 1}")
    return int(row)


def _check_seed(seed: Any) -> int:
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise InvalidInput("seed", seed, "a whole number, 0 or larger")
    return int(seed)


def _breathing(rng: np.random.Generator) -> Breathing:
    """Quiet breathing: 14 per minute, 12 to 20; the skin moves by 1 mm, 0.5 to 2 mm."""
    rate = float(np.clip(14.0 + BREATH_RATE_SPREAD * rng.normal(), *BREATH_RATES)) / 60.0
    depth = float(np.clip(1e-3 * _lognormal(rng, CV_BREATH_DEPTH, 1)[0], *BREATH_DEPTHS))
    return Breathing(rate, depth)


def _lognormal(rng: np.random.Generator, cv: float, size: int) -> NDArray[np.float64]:
    """Factors of mean 1 and coefficient of variation `cv`, cut at 2 standard deviations."""
    sigma = np.sqrt(np.log1p(cv * cv))
    draw = np.clip(rng.normal(size=size), -2.0, 2.0)
    return np.exp(sigma * draw - 0.5 * sigma * sigma)
