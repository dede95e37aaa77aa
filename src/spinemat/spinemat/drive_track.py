"""What the drive was like in the last second, from its data and the commands alone, without ROS.

The supervisor's rules look at it. Numbers without a source are engineering choices.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spinemat.drive import Stage
from spinemat.layout import MatLayout

Array = NDArray[np.float64]

RISE_TIME = 0.040  # s in which a force may rise only so far
HOLD_FORCE = 10.0  # N that a finger carries only for so long
LOOK_BACK, LOOK_STEP = 1.0, 0.020  # s of history, one entry every
LOOKS = 5  # entries between two looks at the whole history
LOAD_FILTER = 0.100  # s
STUCK_FORCE, STUCK_TRAVEL = 0.05, 0.001  # N, m: a load cell that moves less while the tip moves
FROZEN_FORCE, FROZEN_TRAVEL = 8.0, 30e-6  # N, m: an encoder that moves less while force changes
TOUCHING = 1.5  # N that a tip on a back carries
LEFT_TIME = 0.2  # s in which tips lose a back that is left
COMMANDED, FOLLOW_TIME = 0.003, 0.3  # m within s that a finger has to follow


@dataclass(frozen=True)
class Sample:
    """One drive state as it came in; arrays of shape (n,), SI units."""

    cycle: int
    stamp: int  # ns
    boot_id: str
    position: Array
    velocity: Array
    force: Array
    current: Array
    temperature: Array
    status: NDArray[np.int64]
    stage: int
    stage_reason: str = ""


class Track:
    """What the last second was like, from the drive's data and the commands alone.

    Attributes:
        held: time each finger has carried more than HOLD_FORCE without a break, shape (n,), s.
        pressing: time with any finger pressing since the last rest of a session, s.
        mismatch: motor less return spring less load cell, filtered, shape (n,), N.
        position, force, way: entries every LOOK_STEP, oldest first; `way` is where the commanded
            velocities would have led, m.
        earlier: force RISE_TIME ago, shape (n,), N; None until it is known.
        asked, moved: commanded and measured way in FOLLOW_TIME, shape (n,), m; zeros at first.
        touched: fingers that carried load LEFT_TIME ago, shape (n,).
        touching: how many these are.
        led: whether any finger was commanded further than COMMANDED in FOLLOW_TIME.
        force_range, travel: how much force and position changed in LOOK_BACK, shape (n,), N and
            m; zeros until so much is known. They hold between looks, so that a cause stays there.
        stuck, frozen: fingers whose force stood still while the tip moved, and the other way
            round, shape (n,); None: there are none.
    """

    def __init__(self, layout: MatLayout) -> None:
        self._layout = layout
        n, cycle = layout.n, layout.cycle
        self._every = max(1, round(LOOK_STEP / cycle))
        length = round(LOOK_BACK / (self._every * cycle)) + 1
        self.held, self.mismatch, self._way = np.zeros((3, n))
        self.pressing = 0.0
        self._looks = 0
        self.position: deque[Array] = deque(maxlen=length)
        self.force: deque[Array] = deque(maxlen=length)
        self.way: deque[Array] = deque(maxlen=length)
        self._forget()

    def _forget(self) -> None:
        n = self._layout.n
        self.earlier: Array | None = None
        self.asked, self.moved = np.zeros((2, n))
        self.touched = np.zeros(n, dtype=bool)
        self.touching, self.led = 0, False
        self.force_range, self.travel = np.zeros((2, n))
        self.stuck: NDArray[np.bool_] | None = None
        self.frozen: NDArray[np.bool_] | None = None

    def clear(self) -> None:
        """Forget what belongs to a drive that counts anew."""
        self.held[:] = self.mismatch[:] = self._way[:] = 0.0
        for entries in (self.position, self.force, self.way):
            entries.clear()
        self._forget()

    def add(self, sample: Sample, commanded: Array) -> None:
        """Take one good drive state and the velocities commanded last, shape (n,), m/s."""
        layout, finger = self._layout, self._layout.finger
        self.held = (self.held + layout.cycle) * (sample.force > HOLD_FORCE)
        if np.count_nonzero(sample.force > TOUCHING):
            self.pressing += layout.cycle
        running = sample.stage == Stage.RUNNING
        motor = sample.current * finger.force_constant
        height = sample.position - finger.stroke[0]
        spring = finger.return_preload + finger.return_stiffness * height
        powered = (np.abs(motor) > 0.5) & (height > 0.001) & running
        share = layout.cycle / LOAD_FILTER
        wanted = (motor - spring - sample.force) * powered
        self.mismatch = self.mismatch + share * (wanted - self.mismatch)
        if running:
            self._way = self._way + commanded * layout.cycle
        if sample.cycle % self._every == 0:
            self.position.append(sample.position)
            self.force.append(sample.force)
            self.way.append(self._way)
            self._look()

    def _look(self) -> None:
        """Sum up the entries after a new one."""
        if (i := self.back(RISE_TIME)) is not None:
            self.earlier = self.force[i]
        if (i := self.back(FOLLOW_TIME)) is not None:
            self.asked = self.way[-1] - self.way[i]
            self.moved = self.position[-1] - self.position[i]
            self.led = bool(np.abs(self.asked).max() > COMMANDED)
        if (i := self.back(LEFT_TIME)) is not None:
            self.touched = self.force[i] > TOUCHING
            self.touching = int(np.count_nonzero(self.touched))
        self._looks = (self._looks + 1) % LOOKS
        if self._looks == 0 and len(self.force) == self.force.maxlen:
            self.force_range = np.ptp(np.array(self.force), axis=0)
            self.travel = np.ptp(np.array(self.position), axis=0)
            change, moved = self.force_range, self.travel
            self.stuck = _some((change < STUCK_FORCE) & (moved > STUCK_TRAVEL))
            self.frozen = _some((moved < FROZEN_TRAVEL) & (change > FROZEN_FORCE))

    def back(self, seconds: float) -> int | None:
        """Index of the entry so long ago; None if that is not known."""
        steps = round(seconds / (self._every * self._layout.cycle))
        return -1 - steps if len(self.position) > steps else None


def _some(found: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    return found if np.count_nonzero(found) else None
