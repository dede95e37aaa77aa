"""Programmes, and the presses that a programme becomes for one person on one mat."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from spinemat.anatomy import Intake, regional_sums, regions_at
from spinemat.contour import expected_place
from spinemat.errors import InvalidInput, choice, keys, number
from spinemat.layout import REGIONS, MatLayout
from spinemat.press_goal import RATE, PressGoal, Waveform, wave

Array = NDArray[np.float64]

PATTERNS = ("wave_up", "wave_down", "together", "alternating", "left", "right")
PRELOAD = 2.0  # N per finger (engineering choice)
APPROACH = 0.03  # m/s: contact is known from the scan
SUM_SHARE = 0.98  # of what a region may carry: sums are checked at other moments (choice)
CAREFUL = 0.35  # share of the dose that is taken away where the stiffness is not known (choice)


@dataclass(frozen=True)
class Phase:
    """One phase of a programme; see `config/programmes.yaml`."""

    region: str
    pattern: str
    intensity: float
    rate: float
    duration: float


@dataclass(frozen=True)
class Programme:
    """A named list of phases."""

    name: str
    title: str
    phases: tuple[Phase, ...]


def load_programmes(path: str | Path) -> dict[str, Programme]:
    """Read all programmes of a file.

    Raises:
        InvalidInput: the file cannot be read or a field is not acceptable.
    """
    try:
        data: Any = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput(
            "programmes file", str(path), f"a readable file ({error.strerror})"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidInput("programmes file", str(path), "valid YAML in UTF-8") from error
    if not isinstance(data, dict) or not data:
        raise InvalidInput("programmes file", str(path), "a mapping of names to programmes")
    return {str(name): _programme(str(name), item) for name, item in data.items()}


def _programme(name: str, data: Any) -> Programme:
    entry = keys(name, data, ("title", "phases"))
    if not isinstance(entry["phases"], list):
        raise InvalidInput(f"{name}.phases", entry["phases"], "a list of phases")
    phases = []
    for i, item in enumerate(entry["phases"]):
        field = f"{name}.phases[{i}]"
        p = keys(field, item, ("region", "pattern", "intensity", "rate", "duration"))
        phases.append(
            Phase(
                choice(f"{field}.region", p["region"], REGIONS),
                choice(f"{field}.pattern", p["pattern"], PATTERNS),
                number(f"{field}.intensity", p["intensity"], 0.0, 0.95),
                number(f"{field}.rate", p["rate"], 0.2, RATE[1], "Hz"),
                number(f"{field}.duration", p["duration"], 1.0, 120.0, "s"),
            )
        )
    return Programme(name, str(entry["title"]), tuple(phases))


def plan_phase(
    phase: Phase, layout: MatLayout, intake: Intake, height: Array, known: NDArray[np.bool_]
) -> PressGoal | None:
    """Turn a phase into a press, or None when no row of its region can be pressed.

    Only rows that found contact on both sides are pressed. Near a border the more delicate
    region's limit holds. Where the stiffness is not known the amplitude is lower. The largest sum
    of force in a cycle stays within 0.6 of the body weight that the region carries.

    Args:
        phase: what the programme wants.
        layout: the mat.
        intake: of the person.
        height: skin height under each finger, shape (n,), m, NaN without contact.
        known: stiffness under each finger is known, shape (n,).
    """
    believed = regions_at(layout.x, expected_place(intake).levels)
    touched = np.logical_and(*np.isfinite(height.reshape(-1, 2)).T)
    rows = [r for r in range(len(layout.rows)) if touched[r] and believed[2 * r] == phase.region]
    if not rows:
        return None
    sides = {"left": (0,), "right": (1,)}.get(phase.pattern, (0, 1))
    fingers = np.array([2 * r + side for r in rows for side in sides], dtype=np.int64)
    limit = np.minimum(layout.press_limit[fingers], layout.press_limits[phase.region])
    amplitude = np.maximum(phase.intensity * limit - PRELOAD, 0.0)
    amplitude *= np.where(known[fingers], 1.0, 1.0 - CAREFUL)
    place = np.repeat(np.arange(len(rows)), len(sides))
    turns = {
        "wave_up": place / len(rows),
        "wave_down": -place / len(rows),
        "together": 0.0 * place,
        "alternating": 0.5 * (np.arange(fingers.size) % 2),
    }.get(phase.pattern, 0.0 * place)
    preload = np.full(fingers.size, PRELOAD)
    allowed = SUM_SHARE * regional_sums(intake.mass)[phase.region]
    clock = np.linspace(0.0, 1.0, 50, endpoint=False)
    shape = wave(Waveform.RAISED_COSINE, 1.0 + clock[:, None] - np.mod(turns, 1.0)[None, :])
    moving = float((shape @ amplitude).max())
    room = allowed - float(preload.sum())
    if room <= 0.0:
        return None
    if moving > room:
        amplitude *= room / moving
    return PressGoal(
        waveform=Waveform.RAISED_COSINE,
        fingers=fingers,
        preload=preload,
        amplitude=amplitude,
        phase=2.0 * np.pi * np.mod(turns, 1.0),
        rate=phase.rate,
        duration=phase.duration,
        approach_speed=APPROACH,
        expected=height[fingers],
        hold_after=False,
        start_cycle=0,
        mass=intake.mass,
    )
