"""Where the levels of a person's spine are expected, from what an intake knows.

A prior from published means, scaled by stature. No individual's anatomy is known here; sensing
refines it, and everything that presses treats a place as the more delicate of its neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spinemat.errors import InvalidInput, choice, number

Array = NDArray[np.float64]

NECK = tuple(f"C{i}" for i in range(1, 8))
THORACIC = tuple(f"T{i}" for i in range(1, 13))
LUMBAR = tuple(f"L{i}" for i in range(1, 6))
LEVELS = NECK + THORACIC + LUMBAR  # C1 … L5, head to foot
TRUNK = THORACIC + LUMBAR  # the 17 levels that rows of 46 mm pitch can resolve

# vertebra and disc, mm, C1 … L5 (OpenSim full-body template; lumbar x 1.1 as anatomy books give)
_HEIGHTS = np.array(
    [14.0, 17.0, 15.4, 14.7, 18.4, 17.3, 15.9]
    + [20.2, 19.1, 20.9, 23.1, 24.8, 24.2, 25.5, 24.2, 24.7, 28.5, 29.0, 33.2]
    + [1.1 * h for h in (31.3, 30.1, 32.5, 32.5, 34.9)]
)
_MIDDLES = np.cumsum(_HEIGHTS[::-1])[::-1] - 0.5 * _HEIGHTS
ABOVE_SACRUM = _MIDDLES / (_MIDDLES[LEVELS.index("C7")] - _MIDDLES[LEVELS.index("L4")])
"""Middle of each level C1 … L5 above the upper edge of the sacrum, over the distance C7 to L4."""

PROPORTION = 0.05  # of a level's height: how people's differ from the template (choice)


def _proportions() -> Array:
    """Error of `ABOVE_SACRUM` by people's proportions, C1 … L5, shape (24,)."""
    ends = [LEVELS.index("C7"), LEVELS.index("L4")]

    def above(heights: Array) -> Array:
        middles = np.cumsum(heights[::-1])[::-1] - 0.5 * heights
        return np.asarray(middles / (middles[ends[0]] - middles[ends[1]]))

    here = above(_HEIGHTS)
    other = [above(_HEIGHTS * (1.0 + PROPORTION * one)) - here for one in np.eye(len(LEVELS))]
    return np.asarray(np.sqrt(np.sum(np.square(other), axis=0)))


PROPORTION_ERROR = _proportions()

# C7 to iliac crest, taken as the middles of C7 and L4: least squares over the 4,854 adults of
# ANSUR II (public domain): m, per m of stature over 1.7 m, for men, per kg over 75 kg
_BACK = (0.4159, 0.1870, 0.0259, 0.00032)
BACK_ERROR = 0.019  # m, standard deviation of what is left
# m, between which a person is asked to lie with the upper edge of the sacrum: where the first row
# presses a little above L5, and where it presses the sacrum (engineering choices, for rows from 0
# to 0.552 m)
S1_ON_MAT = (-0.030, 0.010)
UPPER_NECK_ON_MAT = 0.562  # m, where the middle of C1 to C4 lies at most, if S1 may (choice)
S1_ERROR = 0.020  # m, standard deviation of where a person then lies (engineering choice)
S1_FAR = 0.050  # m from there: the person is asked to lie elsewhere (engineering choice)
GRAVITY = 9.81  # m/s^2
LIGHTEST, HEAVIEST = 35.0, 165.0  # kg, who may lie on the mat
REGION_SHARE = 0.6  # of a region's weight that fingers may carry together (engineering choice)
WEIGHT_SHARE = {"neck": 0.081, "thoracic": 0.216, "lumbar": 0.139}  # of body mass


@dataclass(frozen=True)
class Intake:
    """What the nodes are told about a person. Build it with `check_intake`."""

    sex: str
    age: float  # years
    stature: float  # m
    mass: float  # kg


def check_intake(sex: str, age: float, stature: float, mass: float) -> Intake:
    """Check an intake against the bounds of the device.

    Raises:
        InvalidInput: a value is outside what this mat accepts (adults, 1.50 to 1.98 m, to 165 kg).
    """
    return Intake(
        choice("sex", sex, ("female", "male")),
        number("age", age, 18.0, 100.0, "years"),
        number("stature", stature, 1.50, 1.98, "m"),
        number("mass", mass, LIGHTEST, HEAVIEST, "kg"),
    )


def back_length(intake: Intake) -> float:
    """Expected distance from C7 to L4, m; its standard error is `BACK_ERROR`."""
    base, tall, man, heavy = _BACK
    return (
        base
        + tall * (intake.stature - 1.7)
        + man * (intake.sex == "male")
        + heavy * (intake.mass - 75.0)
    )


def s1_on_mat(intake: Intake) -> float:
    """Where this person is asked to lie: x of the upper edge of the sacrum, m.

    Long backs lie further down, so that the upper neck comes over the last row.
    """
    neck = back_length(intake) * float(np.mean(ABOVE_SACRUM[:4]))
    return float(np.clip(UPPER_NECK_ON_MAT - neck, *S1_ON_MAT))


def asked_to_lie(intake: Intake, first_row: float) -> str:
    """Where this person is asked to lie, for people.

    Args:
        intake: of the person.
        first_row: x of the first row of fingers, m.
    """
    above = s1_on_mat(intake) - first_row
    side = "above" if above >= 0.0 else "below"
    return f"upper edge of the sacrum {1e3 * abs(above):.0f} mm {side} the first row of fingers"


def level_positions(s1: float, back: float) -> dict[str, float]:
    """Return the x (m, frame `mat`) of every level C1 … L5 and of S1.

    Args:
        s1: x of the upper edge of the sacrum, m.
        back: distance from C7 to L4, m, to which the template's heights are scaled.
    """
    x = s1 + back * ABOVE_SACRUM
    return dict(zip(LEVELS, x.tolist(), strict=True)) | {"S1": s1}


def regional_sums(mass: float) -> dict[str, float]:
    """Largest sum of force of all fingers under each region, N, for a person of `mass` kg.

    Pressing harder than a region weighs would lift it.
    """
    return {r: REGION_SHARE * share * mass * GRAVITY for r, share in WEIGHT_SHARE.items()}


def region_of(level: str) -> str:
    """Region of a level.

    Raises:
        InvalidInput: there is no such level.
    """
    for name, levels in (("neck", NECK), ("thoracic", THORACIC), ("lumbar", (*LUMBAR, "S1"))):
        if level in levels:
            return name
    raise InvalidInput("level", level, "C1 … C7, T1 … T12, L1 … L5, S1")


def regions_at(x: Array, levels: Mapping[str, float], margin: float = 0.010) -> list[str]:
    """Return the region at each x (m); within `margin` of a border the more delicate one.

    Args:
        x: places along the mat, m.
        levels: x of the levels by name, m.
        margin: m.
    """
    neck = 0.5 * (levels["C7"] + levels["T1"]) - margin
    thorax = 0.5 * (levels["T12"] + levels["L1"]) - margin
    return ["neck" if v > neck else "thoracic" if v > thorax else "lumbar" for v in x]
