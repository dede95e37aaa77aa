"""What the levels really get while fingers press, from what the fingers feel."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spinemat.mobilisation import OnMat

Array = NDArray[np.float64]

LONGEST_GAP = 0.2  # s between two samples, beyond which no work is counted (engineering choice)


class LevelDoses(NamedTuple):
    """Dose of the levels, L5 first, shape (24,) each.

    Attributes:
        work: put in while moving inward, J.
        peak: greatest force of a finger that presses on the level, N.
        time: of pressing on it, s.
        cycles: presses that reached it.
    """

    work: Array
    peak: Array
    time: Array
    cycles: Array


@dataclass
class Delivered:
    """Adds up what fingers give to the levels; feed it every sample while a press runs.

    Work is the trapezoid rule over inward movement, shared among levels as `OnMat.shares`. Of the
    rows beside a level the one with most counts, in each press anew: two presses may reach it by
    different rows.
    """

    on_mat: OnMat
    _work: Array = field(init=False)
    _peak: Array = field(init=False)
    _time: Array = field(init=False)  # of the press that goes on …
    _cycles: Array = field(init=False)
    _before: Array = field(init=False)  # … and of those before it: time and cycles by level
    _last: tuple[float, Array, Array] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        """Nothing has been given."""
        n = self.on_mat.layout.n
        self._work, self._peak, self._time, self._cycles = np.zeros((4, n))
        self._before = np.zeros((2, self.on_mat.x.size))

    def add(
        self, t: float, position: Array, force: Array, moving: NDArray[np.bool_], rate: float
    ) -> None:
        """Take one sample.

        Args:
            t: drive time, s.
            position: of the tips, shape (n,), m.
            force: of the tips, shape (n,), N.
            moving: fingers that press with a rhythm now, shape (n,).
            rate: of the rhythm, Hz.
        """
        if self._last is not None and 0.0 < t - self._last[0] <= LONGEST_GAP:
            passed, before, felt = t - self._last[0], self._last[1], self._last[2]
            gain = 0.5 * (force + felt) * (position - before)
            self._work += np.where(moving, np.maximum(gain, 0.0), 0.0)
            self._time += np.where(moving, passed, 0.0)
            self._cycles += np.where(moving, rate * passed, 0.0)
        self._peak = np.maximum(self._peak, np.where(moving, force, 0.0))
        self._last = t, position, force

    def pause(self) -> None:
        """Nothing presses until the next sample, which belongs to another press."""
        self._last = None
        self._before += [self._most(self._time), self._most(self._cycles)]
        self._time[:] = self._cycles[:] = 0.0

    def levels(self) -> LevelDoses:
        """Return what each level has got so far."""
        work = self._work.reshape(-1, 2).sum(axis=1) @ self.on_mat.shares
        time, cycles = np.add(self._before, [self._most(self._time), self._most(self._cycles)])
        return LevelDoses(work, self._most(self._peak), time, cycles)

    def _most(self, values: Array) -> Array:
        """What the levels get from the finger beside them that has most, shape (24,)."""
        row = values.reshape(-1, 2).max(axis=1)
        return np.asarray(np.where(self.on_mat.beside, row[:, None], 0.0).max(axis=0))
