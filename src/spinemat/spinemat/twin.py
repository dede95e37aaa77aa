"""A reduced-order twin of people on a mat: fast enough for forecasts, courses and tuning.

The twin answers "what would these forces do": forces of the finger tips in, travel of the tips,
work and the load left on the padding out. It is linear but for the tissue:

    travel = C0 F + sum_b Cb yb + d(F),    theta_b dyb/dt = F - yb

with C0 the compliance of the body to a quick force, Cb what each creep branch b adds with its
retardation times theta_b, and d(F) the inverse of the tissue's three slopes (toe, linear,
compacted). A person's numbers are
identified from a plant (`spinemat_sim.identify`). Many people are one more axis of the arrays.

It holds while the person lies on the padding, at end-expiration, with muscles at rest, below
1.5 Hz. It knows nothing of guarding, breathing or inertia, and
once a region is close to lifting off (`lifting`) its figures no longer hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from spinemat.errors import InvalidInput, number

Array = NDArray[np.float64]

REGIONS = ("head", "thorax", "abdomen", "pelvis")
LIFTING = 0.4  # of a region's weight left on the padding: fingers may carry 0.6 (choice)
LONGEST_STEP = 0.010  # s


@dataclass(frozen=True)
class Twin:
    """Numbers of p people on a mat with n fingers; SI units.

    Attributes:
        quick: compliance of the body to a quick force, shape (p, n, n), m/N.
        creep: what each of k creep branches adds to it, shape (p, k, n, n), m/N.
        times: retardation times of the branches at each finger, shape (p, k, n), s.
        slopes: of the tissue under each tip: toe, linear, compacted, shape (p, 3, n), N/m.
        corners: forces between them, shape (p, 2, n), N.
        padding: load at rest of s places of padding under each region, shape (p, 4, s), N.
        unloading: what a force of each finger takes off each of them, at once and by branch,
            shape (p, 1 + k, 4, s, n).
        sharing: load that each place loses to 1 N that lifts at another, shape (p, 4 s, 4 s).
        contact: height of the skin over the mat at rest, shape (p, n), m.

    Raises:
        InvalidInput: shapes do not fit each other or a value is not finite.
    """

    quick: Array
    creep: Array
    times: Array
    slopes: Array
    corners: Array
    padding: Array
    unloading: Array
    sharing: Array
    contact: Array

    def __post_init__(self) -> None:
        if self.creep.ndim != 4:
            raise InvalidInput("twin.creep", self.creep.shape, "shape (p, k, n, n)")
        p, k, n, _ = self.creep.shape
        s = self.padding.shape[-1] if self.padding.ndim == 3 else 0
        shapes = {
            "quick": (p, n, n), "creep": (p, k, n, n), "times": (p, k, n), "slopes": (p, 3, n),
            "corners": (p, 2, n), "padding": (p, 4, s),
            "unloading": (p, 1 + k, 4, s, n), "sharing": (p, 4 * s, 4 * s), "contact": (p, n),
        }  # fmt: skip
        for name, shape in shapes.items():
            value = getattr(self, name)
            if value.shape != shape or not np.isfinite(value).all():
                raise InvalidInput(f"twin.{name}", value.shape, f"finite, shape {shape}")

    @property
    def people(self) -> int:
        """Number of people."""
        return len(self.quick)

    @property
    def weight(self) -> Array:
        """Load of each region at rest, shape (p, 4), N."""
        return np.asarray(self.padding.sum(axis=2))

    @staticmethod
    def together(twins: Sequence[Twin]) -> Twin:
        """Put people on mats with the same number of fingers into one twin.

        Raises:
            InvalidInput: there are none, or their mats differ.
        """
        if not twins or len({t.creep.shape[1:] for t in twins}) > 1:
            raise InvalidInput("twins", len(twins), "one or more, with as many fingers each")
        return Twin(
            *(np.concatenate([getattr(t, field.name) for t in twins]) for field in fields(Twin))
        )


class TwinRun:
    """A twin in time, from rest without load.

    Args:
        twin: who.
        step: s, up to 0.010.

    Raises:
        InvalidInput: the step is out of range.
    """

    def __init__(self, twin: Twin, step: float) -> None:
        number("step", step, 1e-4, LONGEST_STEP, "s")
        p, k, n, _ = twin.creep.shape
        self.twin, self._shape = twin, (p, n)
        # Exact for a force that changes evenly within a step.
        steps = step / twin.times.transpose(1, 0, 2)
        mean = -np.expm1(-steps) / steps
        self._stays, self._old, self._new = np.exp(-steps), mean - np.exp(-steps), 1.0 - mean
        self._corners = twin.corners.transpose(1, 0, 2).copy()
        # Force, creep, and force above each corner of the tissue; travel is one product with all.
        state = np.zeros((1 + k + 2, p, n))
        self._last, self._creeping, self._above = state[0], state[1 : 1 + k], state[1 + k :]
        give = np.diff(1.0 / twin.slopes, axis=1, prepend=0.0)
        whole = np.zeros((p, 1 + k + 2, n, n))
        whole[:, 0], whole[:, 1 : 1 + k] = twin.quick, twin.creep
        own = np.arange(n)
        for part, row in ((0, 0), (1, 1 + k), (2, 2 + k)):
            whole[:, row, own, own] += give[:, part]
        # In single precision: enough for millionths of a millimetre, and half the memory to read.
        self._matrix = whole.transpose(0, 2, 1, 3).reshape(p, n, -1).astype(np.float32)
        places = twin.padding[0].size
        lost = twin.unloading.reshape(p, 1 + k, places, n).transpose(0, 2, 1, 3)
        self._lost = lost.reshape(p, places, -1).astype(np.float32)
        self._sharing = twin.sharing.astype(np.float32)
        self._rest = twin.padding.reshape(p, places, 1).astype(np.float32)
        # Everything below is written in place: at this size, making arrays is what costs time.
        self._by_person = state.transpose(1, 0, 2)
        self._copy = np.zeros(self._by_person.shape, dtype=np.float32)
        self._flat = self._copy.reshape(p, -1, 1)
        self._least = LIFTING * twin.weight
        self._bearing = self._flat[:, : (1 + k) * n]
        self._out = np.zeros((p, n, 1), dtype=np.float32)
        self._travel = self._out[:, :, 0]
        self._change = np.zeros((k, p, n))
        self._before, self._gain, self._twice = np.zeros((3, p, n))

    @property
    def travel(self) -> Array:
        """Travel of the tips since they touched, shape (p, n), m."""
        return self._travel.astype(np.float64)

    @property
    def work(self) -> Array:
        """Work that each tip has put into the body while moving in, shape (p, n), J."""
        return 0.5 * self._twice

    @property
    def load(self) -> Array:
        """Load left on the padding under each region, shape (p, 4), N."""
        left = self._rest - self._lost @ self._bearing
        if left.min() < 0.0:  # padding does not pull: others bear less instead
            np.maximum(left - self._sharing @ np.maximum(-left, 0.0), 0.0, out=left)
        return np.asarray(left.reshape(self.twin.padding.shape).sum(axis=2, dtype=np.float64))

    @property
    def lifting(self) -> NDArray[np.bool_]:
        """Whether a region is about to lift off, shape (p, 4): the figures no longer hold."""
        return np.asarray(self.load < self._least)

    def advance(self, force: Array) -> None:
        """Go one step on.

        Args:
            force: of the tips at the end of the step, shape (p, n), N, not negative.

        Raises:
            InvalidInput: wrong shape. Values are not checked: this is the fast path.
        """
        if force.shape != self._shape:
            raise InvalidInput("force", force.shape, f"shape {self._shape}")
        np.add(force, self._last, out=self._gain)
        np.multiply(self._creeping, self._stays, out=self._creeping)
        np.multiply(self._last, self._old, out=self._change)
        np.add(self._creeping, self._change, out=self._creeping)
        np.multiply(force, self._new, out=self._change)
        np.add(self._creeping, self._change, out=self._creeping)
        self._last[...] = force
        np.subtract(force, self._corners, out=self._above)
        np.maximum(self._above, 0.0, out=self._above)
        self._copy[...] = self._by_person
        self._before[...] = self._travel
        np.matmul(self._matrix, self._flat, out=self._out)
        np.subtract(self._travel, self._before, out=self._before)
        np.multiply(self._gain, self._before, out=self._gain)
        np.maximum(self._gain, 0.0, out=self._gain)
        np.add(self._twice, self._gain, out=self._twice)
