"""The mat as hardware: where the fingers are and what they may do.

`config/mat.yaml` describes it; 13 rows of two fingers are the default and nowhere a constant.
Finger arrays everywhere follow this order: row by row from the foot end, left before right.
The person lies face up, so the person's left is -y (REP 103, frame `mat`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from spinemat.errors import InvalidInput, choice, keys, number

REGIONS = ("neck", "thoracic", "lumbar")
SIDES = ("left", "right")
MIN_OFFSET = 0.015  # m, never on a spinous process (engineering choice)
MIN_TIP_AREA = 0.0007  # m^2 (engineering choice)
MAX_FINGERS = 256  # bound of the message arrays
# Ceilings of the contact limits, N; engineering choices far below ISO/TS 15066 (210 N at the back)
PRESS_CEILING = {"neck": 10.0, "thoracic": 20.0, "lumbar": 30.0}
TRIP_CEILING = {"neck": 15.0, "thoracic": 30.0, "lumbar": 40.0}


@dataclass(frozen=True)
class Row:
    """A pair of fingers at (x, -offset) and (x, +offset), in m."""

    name: str
    x: float
    offset: float
    region: str


@dataclass(frozen=True)
class Surface:
    """Padded area that carries the person, in m, in the frame `mat`."""

    x_min: float
    x_max: float
    width: float
    thickness: float


@dataclass(frozen=True)
class Finger:
    """Properties common to all fingers; SI units as in `config/mat.yaml`."""

    stroke: tuple[float, float]
    tip_area: float
    mass: float
    max_speed: float
    max_force: float
    force_constant: float
    return_preload: float
    return_stiffness: float
    friction: float
    backlash: float


@dataclass(frozen=True)
class MatLayout:
    """Rows, drives and limits of one mat. Build it with `load_layout` or `parse_layout`."""

    name: str
    cycle: float
    surface: Surface
    rows: tuple[Row, ...]
    finger: Finger
    press_limits: dict[str, float]
    trip_limits: dict[str, float]

    @cached_property
    def n(self) -> int:
        """Number of fingers."""
        return 2 * len(self.rows)

    @cached_property
    def x(self) -> NDArray[np.float64]:
        """Position of each finger along the mat, shape (n,), m."""
        return np.repeat([row.x for row in self.rows], 2)

    @cached_property
    def y(self) -> NDArray[np.float64]:
        """Position of each finger across the mat, shape (n,), m; left is negative."""
        return np.array([s * row.offset for row in self.rows for s in (-1.0, 1.0)])

    @cached_property
    def row_x(self) -> NDArray[np.float64]:
        """Position of each row along the mat, shape (rows,), m."""
        return np.array([row.x for row in self.rows])

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the fingers, such as ``r01_left``."""
        return tuple(f"{row.name}_{side}" for row in self.rows for side in SIDES)

    @cached_property
    def joint_names(self) -> tuple[str, ...]:
        """Names of the fingers' joints in the URDF, such as ``r01_left_joint``."""
        return tuple(f"{name}_joint" for name in self.names)

    @cached_property
    def regions(self) -> tuple[str, ...]:
        """Region under each finger for a person of average stature."""
        return tuple(row.region for row in self.rows for _ in SIDES)

    @cached_property
    def members(self) -> NDArray[np.float64]:
        """Which fingers lie under each of `REGIONS`, 1 or 0, shape (regions, n)."""
        return np.array([[r == name for r in self.regions] for name in REGIONS], float)

    @cached_property
    def press_limit(self) -> NDArray[np.float64]:
        """Largest force set-point of each finger, shape (n,), N."""
        return np.array([self.press_limits[r] for r in self.regions])

    @cached_property
    def trip_limit(self) -> NDArray[np.float64]:
        """Measured force that stops the mat, per finger, shape (n,), N."""
        return np.array([self.trip_limits[r] for r in self.regions])

    @cached_property
    def checksum(self) -> str:
        """What tells this description from any other: SHA-256 of its content, hexadecimal."""
        return hashlib.sha256(repr(self).encode()).hexdigest()

    def index(self, name: str) -> int:
        """Index of the finger called `name`.

        Raises:
            InvalidInput: there is no such finger.
        """
        if name not in self.names:
            raise InvalidInput("finger", name, f"{self.names[0]} … {self.names[-1]}")
        return self.names.index(name)


def load_layout(path: str | Path) -> MatLayout:
    """Read a layout from a YAML file.

    Raises:
        InvalidInput: the file cannot be read or any value is not acceptable.
    """
    try:
        content = Path(path).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a path that no system can have
        why = getattr(error, "strerror", None) or error
        raise InvalidInput("mat file", str(path), f"a readable file ({why})") from error
    try:
        data = yaml.safe_load(content.decode("utf-8"))
    except Exception as error:  # PyYAML lets KeyError, ValueError, RecursionError and more through
        raise InvalidInput("mat file", str(path), "valid YAML in UTF-8") from error
    return parse_layout(data)


def parse_layout(data: Any) -> MatLayout:
    """Check the content of a layout file and build the layout.

    Raises:
        InvalidInput: a field is missing, unknown or out of range.
    """
    top = keys("mat", data, ("name", "cycle", "surface", "rows", "finger", "limits"))
    if not isinstance(top["name"], str) or not top["name"]:
        raise InvalidInput("name", top["name"], "a non-empty text")
    s = keys("surface", top["surface"], ("x_min", "x_max", "width", "thickness"))
    surface = Surface(
        x_min=number("surface.x_min", s["x_min"], -2.0, 0.0, "m"),
        x_max=number("surface.x_max", s["x_max"], 0.1, 2.0, "m"),
        width=number("surface.width", s["width"], 0.2, 1.5, "m"),
        thickness=number("surface.thickness", s["thickness"], 0.01, 0.3, "m"),
    )
    finger = _parse_finger(top["finger"])
    press, trip = _parse_limits(top["limits"])
    return MatLayout(
        name=top["name"],
        cycle=number("cycle", top["cycle"], 0.001, 0.01, "s"),
        surface=surface,
        rows=_parse_rows(top["rows"], surface, finger),
        finger=finger,
        press_limits=press,
        trip_limits=trip,
    )


def _parse_rows(data: Any, surface: Surface, finger: Finger) -> tuple[Row, ...]:
    limit = MAX_FINGERS // 2
    if not isinstance(data, list) or not 1 <= len(data) <= limit:
        raise InvalidInput("rows", data, f"a list of 1 to {limit} rows")
    rows: list[Row] = []
    radius = float(np.sqrt(finger.tip_area / np.pi))
    for i, item in enumerate(data):
        field = f"rows[{i}]"
        entry = keys(field, item, ("name", "x", "offset", "region"))
        name = entry["name"]
        if not isinstance(name, str) or not name.isidentifier():
            raise InvalidInput(f"{field}.name", name, "letters, digits and _, not a digit first")
        if name in {row.name for row in rows}:
            raise InvalidInput(f"{field}.name", name, "a name that no other row has")
        x = number(f"{field}.x", entry["x"], surface.x_min, surface.x_max, "m, on the mat")
        offset = number(
            f"{field}.offset", entry["offset"], MIN_OFFSET, surface.width / 2, "m, on the mat"
        )
        if rows and x - rows[-1].x < 2 * radius:
            raise InvalidInput(
                f"{field}.x",
                x,
                f"at least {rows[-1].x + 2 * radius:.4f} m: rows go toward the"
                " head and tips must not touch",
            )
        rows.append(Row(name, x, offset, choice(f"{field}.region", entry["region"], REGIONS)))
    return tuple(rows)


def _parse_finger(data: Any) -> Finger:
    ranges = {
        "tip_area": (MIN_TIP_AREA, 0.005, "m^2"),
        "mass": (0.05, 2.0, "kg"),
        "max_speed": (0.01, 0.3, "m/s"),
        "max_force": (10.0, 150.0, "N"),
        "force_constant": (0.1, 1000.0, "N/A"),
        "return_preload": (2.0, 20.0, "N"),
        "return_stiffness": (0.0, 200.0, "N/m"),
        "friction": (0.0, 3.0, "N"),
        "backlash": (0.0, 0.001, "m"),
    }
    entry = keys("finger", data, ("stroke", *ranges))
    stroke = entry["stroke"]
    if not isinstance(stroke, list) or len(stroke) != 2:
        raise InvalidInput("finger.stroke", stroke, "two heights in m: retracted, fully out")
    low = number("finger.stroke[0]", stroke[0], -0.1, 0.0, "m")
    high = number("finger.stroke[1]", stroke[1], 0.01, 0.15, "m")
    values = {k: number(f"finger.{k}", entry[k], *r) for k, r in ranges.items()}
    return Finger(stroke=(low, high), **values)


def _parse_limits(data: Any) -> tuple[dict[str, float], dict[str, float]]:
    press: dict[str, float] = {}
    trip: dict[str, float] = {}
    for region, item in keys("limits", data, REGIONS).items():
        entry = keys(f"limits.{region}", item, ("press", "trip"))
        press[region] = number(
            f"limits.{region}.press", entry["press"], 1.0, PRESS_CEILING[region], "N"
        )
        trip[region] = number(
            f"limits.{region}.trip", entry["trip"], press[region], TRIP_CEILING[region], "N"
        )
    return press, trip
