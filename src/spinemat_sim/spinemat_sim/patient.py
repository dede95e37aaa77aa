"""A virtual patient: everything the plant needs to know of a person, checked.

A `Patient` is a specification (`patient_file` reads and writes it as YAML); `person.lie_down` lays
the person on the mat. All units are SI: m, kg, N/m,
rad, Hz, s. Level tuples follow `LEVELS`, from L5 at the foot end to C1.

Published stiffness was measured prone and from above; no public data exist for fingers that press
a supine back from below. Numbers without a source are engineering choices ("choice").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar

import numpy as np

from spinemat.anatomy import LUMBAR as _LUMBAR
from spinemat.anatomy import NECK as _NECK
from spinemat.anatomy import THORACIC as _THORACIC
from spinemat.errors import InvalidInput, choice, number

# Vertebrae from the foot end; S1 is the pelvis.
LUMBAR, THORACIC, CERVICAL = _LUMBAR[::-1], _THORACIC[::-1], _NECK[::-1]
LEVELS = LUMBAR + THORACIC + CERVICAL

SEXES = ("male", "female")

# PA stiffness of a pair, N/m, means over people: C2, C7 Snodgrass's cervical rig; T4, T7, T10
# Edmondston 1999; L3 Latimer 1996 and Viner 1997, padded plinth; C5, L1, L5 between them (choice).
MEAN_STIFFNESS = {
    "C2": 4600.0, "C5": 5500.0, "C7": 7000.0, "T4": 9100.0, "T7": 10700.0, "T10": 11400.0,
    "L1": 11500.0, "L3": 11500.0, "L5": 10000.0,
}  # fmt: skip

# Surface curvature standing (T1-T12, T12-S1), degrees, mean and standard deviation: SpinalMouse
# study of adults; the neck from doi 10.1186/s12891-020-03715-2.
MEAN_KYPHOSIS = {"male": (42.8, 8.8), "female": (40.4, 9.5)}
MEAN_LORDOSIS = {"male": (17.3, 9.3), "female": (29.6, 11.3)}
MEAN_CERVICAL = (17.4, 6.9)

STIFFNESS_RANGE = (2000.0, 30000.0)  # N/m of a pair
_MOST_ASYMMETRY = 0.5  # (left - right) / (left + right)
_TISSUE_MARGIN = 0.75  # a level may be at most this share as stiff as the tissue before it


Ranges = dict[str, tuple[float, float, str]]  # lowest, highest, unit of each field


@dataclass(frozen=True)
class Layer:
    """Soft tissue between a finger tip and bone, in one region.

    Attributes:
        thickness: m; compressed by more than half of it, the layer is compacted (choice).
        stiffness: of the layer under one tip beyond the toe region, N/m.
    """

    thickness: float
    stiffness: float

    RANGES: ClassVar[Ranges] = {
        "thickness": (0.003, 0.100, "m"),
        "stiffness": (3000.0, 60000.0, "N/m"),
    }


@dataclass(frozen=True)
class Tissue:
    """Tissue layers; their share of a pair's compliance is 0.35 on average (choice).

    Thickness: skin to transverse process 25 to 35 mm (thorax) and 45 to 60 mm (loins) less what
    lies beside the spinous process, recalled from ultrasound and regional-block literature.
    """

    neck: Layer = Layer(0.015, 7900.0)
    thoracic: Layer = Layer(0.020, 14900.0)
    lumbar: Layer = Layer(0.035, 16100.0)
    sacral: Layer = Layer(0.015, 8100.0)


@dataclass(frozen=True)
class Breathing:
    """Quiet breathing: 12 to 20 per minute; dorsal excursion lying 1 (0.5 to 2) mm.

    Attributes:
        rate: Hz.
        depth: largest movement of the skin of the back toward the mat, m.
    """

    rate: float = 14.0 / 60.0
    depth: float = 0.001

    RANGES: ClassVar[Ranges] = {"rate": (0.05, 1.0, "Hz"), "depth": (0.0, 0.005, "m")}


@dataclass(frozen=True)
class Guarding:
    """Protective muscle tension when pressed hard or fast; latency published, the rest choices.

    Attributes:
        force: on one finger in the trunk that provokes it, N; half of it in the neck.
        rate: of force on one finger that provokes it, N/s.
        gain: by which stiffness rises, 0.3 is 30 %.
        latency: from the stimulus to the first response, s.
        decay: time constant after the last stimulus, s.
    """

    force: float = 45.0
    rate: float = 250.0
    gain: float = 0.3
    latency: float = 0.080
    decay: float = 3.0

    RANGES: ClassVar[Ranges] = {
        "force": (1.0, 1000.0, "N"),
        "rate": (10.0, 1e5, "N/s"),
        "gain": (0.0, 3.5, "times"),
        "latency": (0.02, 0.5, "s"),
        "decay": (0.1, 60.0, "s"),
    }


@dataclass(frozen=True)
class Mobilisation:
    """How levels answer to being mobilised: an assumption of this project, off by default.

    A level that has taken up work W while being loaded is softer by
    ``softening * (1 - exp(-W / work))``; that share decays with the time constant `recovery`.
    Studies disagree whether mobilisation changes stiffness at all.

    Attributes:
        softening: largest share by which a level softens; 0 switches it off.
        work: that brings 63 % of it, J.
        recovery: s (3 days).
    """

    softening: float = 0.0
    work: float = 5.0
    recovery: float = 3.0 * 86400.0

    RANGES: ClassVar[Ranges] = {
        "softening": (0.0, 0.3, "share"),
        "work": (0.01, 1e4, "J"),
        "recovery": (60.0, 365.0 * 86400.0, "s"),
    }


@dataclass(frozen=True)
class Position:
    """Where the person lies.

    Attributes:
        along: upper edge of the sacrum along the mat, m.
        across: middle of the spine's line (T8) across the mat, m; left is negative.
        rotation: of the spine's line about z, rad; positive turns the head to the person's right.
    """

    along: float = 0.010
    across: float = 0.0
    rotation: float = 0.0

    RANGES: ClassVar[Ranges] = {
        "along": (-0.060, 0.080, "m"),
        "across": (-0.020, 0.020, "m"),
        "rotation": (-0.06, 0.06, "rad"),
    }


@dataclass(frozen=True)
class Build:
    """How a body is put together where no survey says how people differ; 1.0 is the mean person.

    Attributes:
        toe: force at which tissue leaves its toe, over the mean's.
        shear: springs between neighbouring levels, over the mean's.
        spread: along the back, of a finger's force over the levels, over the mean's.
        padding: stiffness of what the body lies on, over the mean's.
    """

    toe: float = 1.0
    shear: float = 1.0
    spread: float = 1.0
    padding: float = 1.0

    RANGES: ClassVar[Ranges] = {
        "toe": (0.5, 1.0, "times"),
        "shear": (0.3, 3.0, "times"),
        "spread": (0.5, 2.0, "times"),
        "padding": (0.4, 2.5, "times"),
    }


@dataclass(frozen=True)
class Measures:
    """Standing heights, breadths and depths as the survey defines them, m."""

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


@dataclass(frozen=True)
class Patient:
    """One virtual patient.

    Attributes:
        name: for people and file names.
        sentence: who that is.
        sex: ``male`` or ``female``.
        age: years.
        stature: m.
        mass: kg.
        kyphosis, lordosis, cervical_lordosis: surface angles T1-T12, T12-S1, C1-T1 standing, rad.
        measures: of the body.
        left, right: PA stiffness of the sides of each level, N/m; a pair has their sum.
        build: of the body, beside that.
        heights: height of each level over the template's, before all are scaled to the back.
        softened: share by which each level is softer now than that (`Mobilisation`).
        row: row of the survey that the measures come from; -1: none.

    Raises:
        InvalidInput: a value is outside what a person can be.
    """

    name: str
    sentence: str
    sex: str
    age: float
    stature: float
    mass: float
    kyphosis: float
    lordosis: float
    cervical_lordosis: float
    measures: Measures
    left: tuple[float, ...]
    right: tuple[float, ...]
    tissue: Tissue = field(default_factory=Tissue)
    breathing: Breathing = field(default_factory=Breathing)
    guarding: Guarding = field(default_factory=Guarding)
    mobilisation: Mobilisation = field(default_factory=Mobilisation)
    position: Position = field(default_factory=Position)
    build: Build = field(default_factory=Build)
    heights: tuple[float, ...] = (1.0,) * len(LEVELS)
    softened: tuple[float, ...] = (0.0,) * len(LEVELS)
    row: int = -1

    def __post_init__(self) -> None:
        choice("patient.sex", self.sex, SEXES)
        for name, low, high, unit in (
            ("age", 16.0, 100.0, "years"),
            ("stature", 1.30, 2.20, "m"),
            ("mass", 30.0, 200.0, "kg"),
            ("kyphosis", 0.0, 1.6, "rad"),
            ("lordosis", 0.0, 1.6, "rad"),
            ("cervical_lordosis", 0.0, 1.2, "rad"),
        ):
            number(f"patient.{name}", getattr(self, name), low, high, unit)
        for block in ("breathing", "guarding", "mobilisation", "position", "build"):
            _check_ranges(f"patient.{block}", getattr(self, block))
        for region in fields(self.tissue):
            _check_ranges(f"patient.tissue.{region.name}", getattr(self.tissue, region.name))
        for item in fields(self.measures):
            value = getattr(self.measures, item.name)
            number(f"patient.measures.{item.name}", value, 0.05, 2.0, "m")
        low, high = 0.2 * self.stature, 0.5 * self.stature
        back = self.measures.c7_height - self.measures.iliac_height
        number("patient.measures.c7_height - iliac_height", back, low, high, "m")
        self._check_levels()

    def _check_levels(self) -> None:
        for name in ("left", "right", "heights", "softened"):
            if len(getattr(self, name)) != len(LEVELS):
                raise InvalidInput(f"patient.{name}", getattr(self, name), "one per level")
        for i, level in enumerate(LEVELS):
            known = f"patient.stiffness.{level}"
            number(f"{known}.left", self.left[i], 0.0, STIFFNESS_RANGE[1], "N/m")
            number(f"{known}.right", self.right[i], 0.0, STIFFNESS_RANGE[1], "N/m")
            number(f"patient.heights.{level}", self.heights[i], 0.7, 1.4, "times")
            number(f"patient.softened.{level}", self.softened[i], 0.0, 0.3)
            pair = self.left[i] + self.right[i]
            number(known, pair, *STIFFNESS_RANGE, "N/m (both sides together)")
            skew = (self.left[i] - self.right[i]) / pair
            number(f"{known} (left - right) / both", skew, -_MOST_ASYMMETRY, _MOST_ASYMMETRY)
            most = _TISSUE_MARGIN * 2.0 * self.layer(level).stiffness
            if pair > most:
                allowed = f"up to {most:g} N/m with the tissue layer before it"
                raise InvalidInput(known, pair, allowed)

    def layer(self, level: str) -> Layer:
        """Tissue layer before a level."""
        region = {"C": self.tissue.neck, "T": self.tissue.thoracic, "L": self.tissue.lumbar}
        return region[level[0]]

    @property
    def stiffness(self) -> tuple[float, ...]:
        """PA stiffness of a pair on each level, as it is now, N/m."""
        sides = zip(self.left, self.right, self.softened, strict=True)
        return tuple((a + b) * (1.0 - s) for a, b, s in sides)

    @property
    def asymmetry(self) -> tuple[float, ...]:
        """Left minus right over the sum of both, of each level."""
        return tuple((a - b) / (a + b) for a, b in zip(self.left, self.right, strict=True))

    def stiffness_of(self, level: str) -> float:
        """PA stiffness of a pair on `level`, N/m.

        Raises:
            InvalidInput: there is no such level.
        """
        return self.stiffness[LEVELS.index(choice("level", level, LEVELS))]

    def after(self, softened: Sequence[float], seconds: float) -> Patient:
        """The same person after a session and some days.

        Args:
            softened: share of each level at the end of the session (`Plant.softened`).
            seconds: since then.
        """
        number("seconds", seconds, 0.0, 1e9, "s")
        left = float(np.exp(-seconds / self.mobilisation.recovery))
        return replace(self, softened=tuple(left * float(s) for s in softened))


def mean_stiffness(at: Sequence[float]) -> tuple[float, ...]:
    """Mean PA stiffness of a pair on each level, N/m.

    Args:
        at: places of the levels along the spine, ascending, any unit; linear between anchors.
    """
    anchors = sorted(MEAN_STIFFNESS, key=LEVELS.index)
    x = [at[LEVELS.index(a)] for a in anchors]
    return tuple(np.interp(at, x, [MEAN_STIFFNESS[a] for a in anchors]).tolist())


def _check_ranges(name: str, block: Any) -> None:
    for key, (low, high, unit) in block.RANGES.items():
        number(f"{name}.{key}", getattr(block, key), low, high, unit)
