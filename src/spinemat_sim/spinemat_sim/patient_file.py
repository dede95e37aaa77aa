"""Virtual patients as YAML: `data/patients/*.yaml` hold presets, `spinemat patient show --yaml`
writes a whole one. Units are those of `patient`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import yaml

from spinemat.anatomy import Intake, s1_on_mat
from spinemat.errors import InvalidInput, choice, number
from spinemat_sim.patient import (
    LEVELS,
    MEAN_CERVICAL,
    MEAN_KYPHOSIS,
    MEAN_LORDOSIS,
    SEXES,
    STIFFNESS_RANGE,
    Breathing,
    Build,
    Guarding,
    Measures,
    Mobilisation,
    Patient,
    Position,
    Tissue,
    mean_stiffness,
)

VERSION = 1  # of the YAML format
_TOP = (
    "version", "name", "sentence", "sex", "age", "stature", "mass", "row", "measures", "curvature",
    "stiffness", "tissue", "breathing", "guarding", "mobilisation", "position", "build",
    "heights", "softened",
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
    Without `position` they lie where they are asked to.

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
    asked = Position(along=s1_on_mat(Intake(sex, float(top["age"]), stature, mass)))
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
        position=_block("patient.position", asked, top),
        build=_block("patient.build", Build(), top),
        heights=_by_level("patient.heights", top, 1.0, 0.7, 1.4),
        softened=_by_level("patient.softened", top, 0.0, 0.0, 0.3),
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
    for key in ("tissue", "breathing", "guarding", "mobilisation", "position", "build"):
        data[key] = p[key]
    if any(h != 1.0 for h in patient.heights):
        data["heights"] = dict(zip(LEVELS, patient.heights, strict=True))
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
            left[i] = number(f"{name}.left", sides["left"], 0.0, STIFFNESS_RANGE[1], "N/m")
            right[i] = number(f"{name}.right", sides["right"], 0.0, STIFFNESS_RANGE[1], "N/m")
        else:
            left[i] = right[i] = 0.5 * number(name, value, *STIFFNESS_RANGE, "N/m")
    return tuple(left.tolist()), tuple(right.tolist())


def _by_level(
    name: str, top: Mapping[str, Any], usual: float, low: float, high: float
) -> tuple[float, ...]:
    given = _known(name, top.get(name.rsplit(".", 1)[1], {}), LEVELS)
    return tuple(number(f"{name}.{v}", given.get(v, usual), low, high) for v in LEVELS)


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


DEFAULT_PATIENT = "average_adult"


@lru_cache(maxsize=1)
def presets() -> dict[str, Patient]:
    """All presets by name, in alphabetical order."""
    folder = resources.files("spinemat_sim").joinpath("data/patients")
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".yaml")), key=lambda f: f.name)
    texts = {f.name.removesuffix(".yaml"): f.read_text("utf-8") for f in files}
    return {name: parse_patient(yaml.safe_load(text)) for name, text in texts.items()}
