"""What a scan was given, as one JSON text per step: enough to work it out again from a recording.

Together with the states of the fingers, `Begin` and one `Pressed` per press are all inputs of a
`SpineScan`; `Learnt` says from which drive cycle on the watches knew what it had found.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spinemat.deconvolution import LevelMap
from spinemat.errors import InvalidInput
from spinemat.findings import Findings
from spinemat.scan import SpineScan
from spinemat.stiffness import LevelEstimate

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Begin:
    """A scan begins; the person as in `check_intake`, the rest as in `SpineScan`."""

    cycle: int
    sex: str
    age: float
    stature: float
    mass: float
    same_person: bool
    full: bool
    stiffness: bool
    start_cycle: int
    expected: tuple[float | None, ...] | None  # m, None: not known
    share: tuple[float, ...] | None = None  # None: all of a probe's force everywhere


@dataclass(frozen=True)
class Pressed:
    """A press of a scan is over; see `scan.Outcome`."""

    cycle: int
    loaded_cycle: int
    end_cycle: int
    contact: tuple[bool, ...]
    tense: tuple[int, ...] = ()
    moved: str = ""


@dataclass(frozen=True)
class Learnt:
    """The watches know what a scan found, from the state after this cycle on."""

    cycle: int


Entry = Begin | Pressed | Learnt
KINDS: dict[str, type[Begin] | type[Pressed] | type[Learnt]] = {
    "begin": Begin,
    "pressed": Pressed,
    "learnt": Learnt,
}


def kind(entry: Entry) -> str:
    """Return the short name of an entry's kind."""
    return next(name for name, known in KINDS.items() if isinstance(entry, known))


def write(entry: Entry) -> str:
    """Return an entry as JSON; every number is read back to the last digit."""
    return json.dumps(asdict(entry))


def read(name: str, text: str) -> Entry:
    """Read an entry.

    Raises:
        InvalidInput: unknown kind, or not such an entry.
    """
    try:
        values = json.loads(text)
        for field in ("expected", "contact", "share", "tense"):
            if isinstance(values.get(field), list):
                values[field] = tuple(values[field])
        return KINDS[name](**values)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidInput(name, text[:60], "an entry of a scan's log") from error


def known_heights(heights: Array | None) -> tuple[float | None, ...] | None:
    """Return heights, shape (n,), m, as JSON can hold them: None where they are not known."""
    if heights is None:
        return None
    return tuple(float(h) if np.isfinite(h) else None for h in heights)


def as_heights(known: tuple[float | None, ...] | None) -> Array | None:
    """Undo `known_heights`."""
    if known is None:
        return None
    return np.array([np.nan if h is None else h for h in known])


class Evaluation(NamedTuple):
    """All that a scan says of stiffness; see `SpineScan`."""

    levels: Sequence[LevelEstimate]
    linear: Array
    toe: Array
    found: Findings | None
    lies: LevelMap | None


def evaluate(scan: SpineScan) -> Evaluation:
    """Work out a scan; takes some tenths of a second."""
    return Evaluation(scan.levels(), *scan.finger_stiffness(), scan.findings(), scan.map)
