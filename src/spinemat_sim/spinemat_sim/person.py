"""Virtual people: one row of a real body survey, completed by seeded variation.

Body measures are those of a person who was measured (ANSUR II, public domain, `data/README.md`).
What the survey does not hold (curvature, stiffness, where the person lies) is drawn from the
distributions named beside the constants below, from a generator seeded by (seed, row).

Stiffness was measured by others prone and from above; no public data exist for fingers that press
a supine back from below. Engineering choices are called so.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from spinemat.errors import InvalidInput, choice, number
from spinemat_sim.contour import lying

# Vertebrae from the foot end; S1 is the pelvis.
LUMBAR = tuple(f"L{i}" for i in range(5, 0, -1))
THORACIC = tuple(f"T{i}" for i in range(12, 0, -1))
CERVICAL = tuple(f"C{i}" for i in range(7, 0, -1))
LEVELS = LUMBAR + THORACIC + CERVICAL

# Level heights (vertebra and disc), mm: OpenSim full-body template, C1 and C2 recalled. The lumbar
# sum of the template, 161 mm, is below the 170 to 190 mm of anatomy, hence the factor 1.1.
_HEIGHTS = np.array(
    [1.1 * h for h in (34.9, 32.5, 32.5, 30.1, 31.3)]
    + [33.2, 29.0, 28.5, 24.7, 24.2, 25.5, 24.2, 24.8, 23.1, 20.9, 19.1, 20.2]
    + [15.9, 17.3, 18.4, 14.7, 15.4, 17.0, 14.0]
)

# PA stiffness of a pair, N/mm, means over people: C2, C7 Snodgrass's cervical rig; T4, T7, T10
# Edmondston 1999; L3 Latimer 1996 and Viner 1997, padded plinth; the rest interpolated.
_STIFFNESS = {
    "C2": 4.6, "C5": 5.5, "C7": 7.0, "T4": 9.1, "T7": 10.7, "T10": 11.4,
    "L1": 11.5, "L3": 11.5, "L5": 10.0,
}  # fmt: skip
CV_PERSON, CV_LEVEL = 0.25, 0.12  # total 0.28; the split is an engineering choice
CV_SIDE = 0.05  # left against right (engineering choice)

# Surface curvature standing (T1-T12, T12-S1), degrees, mean and standard deviation: SpinalMouse
# study of adults.
_KYPHOSIS = {"male": (42.8, 8.8), "female": (40.4, 9.5)}
_LORDOSIS = {"male": (17.3, 9.3), "female": (29.6, 11.3)}
_CERVICAL = (17.4, 6.9)  # doi 10.1186/s12891-020-03715-2
LUMBAR_LYING = 0.74  # T12-S1 lying over standing, PMC6680033
THORACIC_LYING = 0.6  # engineering choice: ribs and skin flatten on the padding
CERVICAL_LYING = 1.0  # engineering choice: as standing, without a pillow

DEFAULT_ROW = 4352
"""A man of 41 years, 1.756 m, 81.9 kg: the person of 40 to 50 years closest to the medians of all
20 measures of his sex (root mean square distance 0.27 standard deviations)."""


@dataclass(frozen=True)
class Person:
    """One virtual person lying face up; SI units, frame `mat`.

    Level tuples follow `LEVELS`, from L5 at the foot end to C1.

    Attributes:
        row: row of the survey, 0 is the first.
        seed: seed of everything that the survey does not hold.
        sex: ``male`` or ``female``.
        age: years.
        stature: m.
        mass: kg.
        c7_height, iliac_height, buttock_height, hip_height: standing heights, m.
        shoulder_breadth, chest_breadth, waist_breadth, hip_breadth: m.
        chest_depth, waist_depth, buttock_depth: m.
        x: middle of each level along the mat, m.
        s1_x: upper edge of the sacrum along the mat, m.
        y: the spine's position across the mat, m.
        kyphosis: angle between the skin's tangents at T1 and T12 lying, rad.
        lordosis: angle between the skin's tangents at T12 and S1 lying, rad.
        cervical_lordosis: angle between the skin's tangents at C1 and T1 lying, rad.
        stiffness: target PA stiffness of a pair on each level, N/m.
        asymmetry: left minus right over the sum of the side stiffnesses of each level.
        breath_rate: Hz.
        breath_excursion: largest movement of the dorsal skin toward the mat, m.
    """

    row: int
    seed: int
    sex: str
    age: int
    stature: float
    mass: float
    c7_height: float
    iliac_height: float
    buttock_height: float
    hip_height: float
    shoulder_breadth: float
    chest_breadth: float
    waist_breadth: float
    hip_breadth: float
    chest_depth: float
    waist_depth: float
    buttock_depth: float
    x: tuple[float, ...]
    s1_x: float
    y: float
    kyphosis: float
    lordosis: float
    cervical_lordosis: float
    stiffness: tuple[float, ...]
    asymmetry: tuple[float, ...]
    breath_rate: float
    breath_excursion: float

    def __post_init__(self) -> None:
        choice("person.sex", self.sex, _KYPHOSIS)
        number("person.mass", self.mass, 30.0, 200.0, "kg")
        number("person.stature", self.stature, 1.2, 2.3, "m")
        number("person.breath_rate", self.breath_rate, 0.05, 1.0, "Hz")
        number("person.breath_excursion", self.breath_excursion, 0.0, 0.005, "m")
        for field in ("x", "stiffness", "asymmetry"):
            values = getattr(self, field)
            if len(values) != len(LEVELS) or not np.all(np.isfinite(values)):
                raise InvalidInput(f"person.{field}", values, f"{len(LEVELS)} finite numbers")
        if np.any(np.diff(self.x) <= 0) or self.x[0] <= self.s1_x:
            raise InvalidInput("person.x", self.x, "ascending, above s1_x")
        if not 2000.0 <= min(self.stiffness) <= max(self.stiffness) <= 30000.0:
            raise InvalidInput("person.stiffness", self.stiffness, "2000 to 30000 N/m")
        if np.max(np.abs(self.asymmetry)) > 0.5:
            raise InvalidInput("person.asymmetry", self.asymmetry, "-0.5 to 0.5")

    @property
    def level_x(self) -> dict[str, float]:
        """Middle of each level along the mat by its name, L5 first, m."""
        return dict(zip(LEVELS, self.x, strict=True))

    def x_of(self, level: str) -> float:
        """Middle of `level` (``C1`` … ``L5``; ``S1``: its upper edge) along the mat, m.

        Raises:
            InvalidInput: there is no such level.
        """
        choice("level", level, (*LEVELS, "S1"))
        return self.s1_x if level == "S1" else self.x[LEVELS.index(level)]

    def stiffness_of(self, level: str) -> float:
        """Target PA stiffness of a pair on `level`, N/m.

        Raises:
            InvalidInput: there is no such level.
        """
        return self.stiffness[LEVELS.index(choice("level", level, LEVELS))]


@lru_cache(maxsize=1)
def survey() -> tuple[dict[str, str], ...]:
    """All rows of the survey as text, in the order of the file."""
    text = resources.files("spinemat_sim").joinpath("data/ansur2_torso.csv").read_text("utf-8")
    return tuple(csv.DictReader(text.splitlines()))


def person_from_row(row: int = DEFAULT_ROW, seed: int = 0) -> Person:
    """Build the person of one row of the survey.

    The distance C7 to L4 is the difference of that person's standing heights of C7 and of the
    iliac crest; lying length is taken equal to standing length. Level heights of the template are
    scaled to it, also above C7 and below L4.

    Args:
        row: 0 for the first row.
        seed: 0 or larger; curvature, stiffness and position follow from it.

    Raises:
        InvalidInput: there is no such row, or the seed is not a natural number.
    """
    people = survey()
    if isinstance(row, bool) or not isinstance(row, (int, np.integer)):
        raise InvalidInput("person row", row, f"a whole number, 0 to {len(people) - 1}")
    if not 0 <= row < len(people):
        raise InvalidInput("person row", row, f"0 to {len(people) - 1}")
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise InvalidInput("person seed", seed, "a whole number, 0 or larger")
    data = people[row]
    mm = {k[:-3]: 1e-3 * float(v) for k, v in data.items() if k.endswith("_mm")}
    rng = np.random.default_rng([int(seed), int(row)])
    sex = data["sex"]

    s1_x = 0.010 + rng.uniform(-0.010, 0.010)
    y = rng.uniform(-0.003, 0.003)
    level_x = _level_positions(mm["cervicaleheight"] - mm["iliocristaleheight"], s1_x)

    def angle(mean: float, deviation: float, factor: float, low: float) -> float:
        draw = float(np.clip(rng.normal(), -1.5, 1.5))  # an engineering choice
        return float(np.radians(max(low, factor * (mean + deviation * draw))))

    kyphosis = angle(*_KYPHOSIS[sex], THORACIC_LYING, 10.0)
    lordosis = angle(*_LORDOSIS[sex], LUMBAR_LYING, 8.0)
    cervical = angle(*_CERVICAL, CERVICAL_LYING, 8.0)
    stiffness = _mean_stiffness(level_x) * _lognormal(rng, CV_PERSON, 1)
    stiffness *= _lognormal(rng, CV_LEVEL, len(LEVELS))
    asymmetry = np.clip(rng.normal(0.0, CV_SIDE, len(LEVELS)), -0.15, 0.15)
    person = Person(
        row=int(row),
        seed=int(seed),
        sex=sex,
        age=int(data["age_years"]),
        stature=mm["stature"],
        mass=0.1 * float(data["weight_hg"]),
        c7_height=mm["cervicaleheight"],
        iliac_height=mm["iliocristaleheight"],
        buttock_height=mm["buttockheight"],
        hip_height=mm["trochanterionheight"],
        shoulder_breadth=mm["biacromialbreadth"],
        chest_breadth=mm["chestbreadth"],
        waist_breadth=mm["waistbreadth"],
        hip_breadth=mm["hipbreadth"],
        chest_depth=mm["chestdepth"],
        waist_depth=mm["waistdepth"],
        buttock_depth=mm["buttockdepth"],
        x=tuple(map(float, level_x)),
        s1_x=float(s1_x),
        y=float(y),
        kyphosis=kyphosis,
        lordosis=lordosis,
        cervical_lordosis=cervical,
        stiffness=tuple(map(float, stiffness)),
        asymmetry=tuple(map(float, asymmetry)),
        breath_rate=float(np.clip(rng.normal(14.0, 1.0), 12.0, 16.0)) / 60.0,
        breath_excursion=0.001,
    )
    return lying(person)


def _level_positions(c7_to_l4: float, s1_x: float) -> NDArray[np.float64]:
    """Middles of the levels along the mat, shape (24,), m."""
    top = np.cumsum(_HEIGHTS)
    middle = top - 0.5 * _HEIGHTS
    scale = c7_to_l4 / (middle[LEVELS.index("C7")] - middle[LEVELS.index("L4")])
    return s1_x + scale * middle


def _mean_stiffness(level_x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean PA stiffness of each level, linear in x between the anchors, shape (24,), N/m."""
    anchors = sorted(_STIFFNESS, key=LEVELS.index)
    at = [level_x[LEVELS.index(a)] for a in anchors]
    return 1e3 * np.interp(level_x, at, [_STIFFNESS[a] for a in anchors])


def _lognormal(rng: np.random.Generator, cv: float, size: int) -> NDArray[np.float64]:
    """Factors of mean 1 and coefficient of variation `cv`, cut at 2 standard deviations."""
    sigma = np.sqrt(np.log1p(cv * cv))
    draw = np.clip(rng.normal(size=size), -2.0, 2.0)
    return np.exp(sigma * draw - 0.5 * sigma * sigma)
