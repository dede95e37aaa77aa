"""A virtual patient: everything the plant needs to know of a person, checked, as YAML.

A `Patient` is a specification (`data/patients/*.yaml` hold presets, `spinemat patient show --yaml`
writes a whole one); `person.lie_down` lays the person on the mat. All units are SI: m, kg, N/m,
rad, Hz, s. Level tuples follow `LEVELS`, from L5 at the foot end to C1.

Published stiffness was measured prone and from above; no public data exist for fingers that press
a supine back from below. Numbers without a source are engineering choices ("choice").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import yaml

from spinemat.anatomy import LUMBAR as _LUMBAR
from spinemat.anatomy import NECK as _NECK
from spinemat.anatomy import THORACIC as _THORACIC
from spinemat.errors import InvalidInput, choice, number

# Vertebrae from the foot end; S1 is the pelvis.
LUMBAR, THORACIC, CERVICAL = _LUMBAR[::-1], _THORACIC[::-1], _NECK[::-1]
LEVELS = LUMBAR + THORACIC + CERVICAL

VERSION = 1  # of the YAML format
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

_STIFFNESS_RANGE = (2000.0, 30000.0)  # N/m of a pair
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
        for block in ("breathing", "guarding", "mobilisation", "position"):
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
        for name in ("left", "right", "softened"):
            if len(getattr(self, name)) != len(LEVELS):
                raise InvalidInput(f"patient.{name}", getattr(self, name), "one per level")
        for i, level in enumerate(LEVELS):
            known = f"patient.stiffness.{level}"
            number(f"{known}.left", self.left[i], 0.0, _STIFFNESS_RANGE[1], "N/m")
            number(f"{known}.right", self.right[i], 0.0, _STIFFNESS_RANGE[1], "N/m")
            number(f"patient.softened.{level}", self.softened[i], 0.0, 0.3)
            pair = self.left[i] + self.right[i]
            number(known, pair, *_STIFFNESS_RANGE, "N/m (both sides together)")
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


# --- YAML -----------------------------------------------------------------------------------

_TOP = (
    "version", "name", "sentence", "sex", "age", "stature", "mass", "row", "measures", "curvature",
    "stiffness", "tissue", "breathing", "guarding", "mobilisation", "position", "softened",
)  # fmt: skip
_CURVATURE = ("kyphosis", "lordosis", "cervical_lordosis")


def load_patient(path: str | Path) -> Patient:
    """Read a patient from a YAML file.

    Raises:
        InvalidInput: the file cannot be read or a field is not acceptable.
    """
    try:
        data: Any = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        allowed = f"a readable file ({error.strerror})"
        raise InvalidInput("patient file", str(path), allowed) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidInput("patient file", str(path), "valid YAML in UTF-8") from error
    return parse_patient(data)


def parse_patient(data: Any) -> Patient:
    """Build a patient from the content of a YAML file; what is left out is that of the mean.

    Measures come from `row` of the survey or, without one, from the person of the same sex closest
    in stature and mass, scaled to both. Curvature is the mean of the sex, stiffness the published
    mean times `stiffness.scale` but where `stiffness.levels` says otherwise.

    Raises:
        InvalidInput: a field is unknown, missing or not acceptable.
    """
    from spinemat_sim.population import measures_for

    top = _known("patient", data, _TOP)
    if top.get("version") != VERSION:
        raise InvalidInput("patient.version", top.get("version"), str(VERSION))
    for key in ("name", "sentence", "sex", "age", "stature", "mass"):
        if key not in top:
            raise InvalidInput(f"patient.{key}", None, "it must be given")
    sex = choice("patient.sex", top["sex"], SEXES)
    number("patient.age", top["age"], 16.0, 100.0, "years")
    stature = number("patient.stature", top["stature"], 1.30, 2.20, "m")
    mass = number("patient.mass", top["mass"], 30.0, 200.0, "kg")
    row, measures = measures_for(sex, stature, mass, top.get("row"))
    if "measures" in top:
        given = _known("patient.measures", top["measures"], [f.name for f in fields(Measures)])
        values = {k: number(f"patient.measures.{k}", v, 0.05, 2.0, "m") for k, v in given.items()}
        measures = replace(measures, **values)
    curve = _known("patient.curvature", top.get("curvature", {}), _CURVATURE)
    means = (MEAN_KYPHOSIS[sex][0], MEAN_LORDOSIS[sex][0], MEAN_CERVICAL[0])
    angles = {
        key: number(f"patient.{key}", curve.get(key, float(np.radians(mean))), 0.0, 1.6, "rad")
        for key, mean in zip(_CURVATURE, means, strict=True)
    }
    left, right = _stiffness(top.get("stiffness", {}))
    return Patient(
        name=_text("patient.name", top["name"]),
        sentence=_text("patient.sentence", top["sentence"]),
        sex=sex,
        age=top["age"],
        stature=stature,
        mass=mass,
        measures=measures,
        left=left,
        right=right,
        tissue=_tissue(top.get("tissue", {})),
        breathing=_block("patient.breathing", Breathing(), top),
        guarding=_block("patient.guarding", Guarding(), top),
        mobilisation=_block("patient.mobilisation", Mobilisation(), top),
        position=_block("patient.position", Position(), top),
        softened=_softened(top.get("softened", {})),
        row=row,
        **angles,
    )


def dump_patient(patient: Patient) -> str:
    """The whole patient as YAML that `parse_patient` reads back without loss."""
    p = asdict(patient)
    levels = {v: {"left": p["left"][i], "right": p["right"][i]} for i, v in enumerate(LEVELS)}
    data: dict[str, Any] = {"version": VERSION}
    for key in ("name", "sentence", "sex", "age", "stature", "mass"):
        data[key] = p[key]
    if patient.row >= 0:
        data["row"] = patient.row
    data["measures"] = p["measures"]
    data["curvature"] = {key: p[key] for key in _CURVATURE}
    data["stiffness"] = {"levels": dict(reversed(levels.items()))}
    for key in ("tissue", "breathing", "guarding", "mobilisation", "position"):
        data[key] = p[key]
    if any(patient.softened):
        data["softened"] = dict(zip(LEVELS, patient.softened, strict=True))
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=100)


_T = TypeVar("_T")


def _block(name: str, default: _T, top: Mapping[str, Any]) -> _T:
    """Return `default` with the values given in the last part of `name`."""
    ranges = default.RANGES  # type: ignore[attr-defined]
    given = _known(name, top.get(name.rsplit(".", 1)[1], {}), ranges)
    values = {k: number(f"{name}.{k}", v, *ranges[k]) for k, v in given.items()}
    return replace(default, **values)  # type: ignore[type-var]


def _tissue(data: Any) -> Tissue:
    given = _known("patient.tissue", data, [f.name for f in fields(Tissue)])
    mean = Tissue()
    layers = {k: _block(f"patient.tissue.{k}", getattr(mean, k), given) for k in given}
    return replace(mean, **layers)


def _stiffness(data: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    from spinemat_sim.population import TEMPLATE

    given = _known("patient.stiffness", data, ("scale", "levels"))
    scale = number("patient.stiffness.scale", given.get("scale", 1.0), 0.3, 3.0)
    mean = scale * np.array(mean_stiffness(TEMPLATE))
    left, right = 0.5 * mean, 0.5 * mean
    for level, value in _known(
        "patient.stiffness.levels", given.get("levels", {}), LEVELS
    ).items():
        name, i = f"patient.stiffness.{level}", LEVELS.index(level)
        if isinstance(value, Mapping):
            sides = _known(name, value, ("left", "right"))
            for side in ("left", "right"):
                if side not in sides:
                    raise InvalidInput(f"{name}.{side}", None, "it must be given")
            left[i] = number(f"{name}.left", sides["left"], 0.0, _STIFFNESS_RANGE[1], "N/m")
            right[i] = number(f"{name}.right", sides["right"], 0.0, _STIFFNESS_RANGE[1], "N/m")
        else:
            left[i] = right[i] = 0.5 * number(name, value, *_STIFFNESS_RANGE, "N/m")
    return tuple(left.tolist()), tuple(right.tolist())


def _softened(data: Any) -> tuple[float, ...]:
    given = _known("patient.softened", data, LEVELS)
    return tuple(number(f"patient.softened.{v}", given.get(v, 0.0), 0.0, 0.3) for v in LEVELS)


def _known(name: str, value: Any, allowed: Sequence[str] | Mapping[str, Any]) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidInput(name, value, f"a mapping with some of {', '.join(allowed)}")
    for key in value:
        if key not in allowed:
            raise InvalidInput(f"{name}.{key}", value[key], f"only {', '.join(allowed)}")
    return value


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InvalidInput(name, value, "some text")
    return value


# --- presets --------------------------------------------------------------------------------

DEFAULT_PATIENT = "average_adult"


@lru_cache(maxsize=1)
def presets() -> dict[str, Patient]:
    """All presets by name, in alphabetical order."""
    folder = resources.files("spinemat_sim").joinpath("data/patients")
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".yaml")), key=lambda f: f.name)
    texts = {f.name.removesuffix(".yaml"): f.read_text("utf-8") for f in files}
    return {name: parse_patient(yaml.safe_load(text)) for name, text in texts.items()}
