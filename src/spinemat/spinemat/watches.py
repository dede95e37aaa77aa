"""What is felt all the time, state after state: load, breathing, guarding, presence, stiffness.

The watches of `breathing`, `reactions` and `running` over one stream of finger states, and when
what they say is told. When it is told depends on the drive's cycle alone, so that a recording
that begins anywhere gives the same again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from spinemat.breathing import BreathingEstimate, BreathWatch
from spinemat.layout import MatLayout
from spinemat.modes import Mode
from spinemat.reactions import HELD, Reaction, ReactionWatch
from spinemat.running import Running, RunningStiffness
from spinemat.scan import SpineScan

Array = NDArray[np.float64]

STATE_CYCLES = 5  # drive cycles between states of the fingers
SLOW = 5 * STATE_CYCLES  # cycles between what is told at 10 Hz …
RUNNING = 50 * STATE_CYCLES  # … and at 1 Hz


@dataclass(frozen=True)
class FingerSample:
    """One state of the fingers; arrays of shape (n,), SI units, as in FingerState.msg."""

    cycle: int
    now: int  # ns of drive time
    position: Array
    force: Array
    set_point: Array
    mode: NDArray[np.int64]
    contact: NDArray[np.bool_]


@dataclass(frozen=True)
class Felt:
    """What one state led to.

    Attributes:
        reaction: guarding, movement and presence now.
        tell_guarding, tell_presence: it is time to tell them.
        tense, moves: guarding, or movement, has just begun.
        slow: it is time to tell what is told at 10 Hz: `load` and `breath`.
        load: of each row, shape (rows,), N.
        breath: None while there is no estimate; rate and phase NaN while it is not valid.
        next_end_expiration: ns of drive time; 0 while there is no estimate.
        running: stiffness in the rhythm, when it is time to tell it and there is any.
    """

    reaction: Reaction
    tell_guarding: bool
    tell_presence: bool
    tense: bool
    moves: bool
    slow: bool
    load: Array
    breath: BreathingEstimate | None
    next_end_expiration: int
    running: Running | None


class Watches:
    """All watches over one stream of finger states.

    Args:
        layout: the mat.
    """

    def __init__(self, layout: MatLayout) -> None:
        self._layout = layout
        self.forget()

    def forget(self) -> None:
        """Begin anew: another person lies on the mat."""
        layout = self._layout
        self._breath = BreathWatch(layout)
        self._reactions = ReactionWatch(layout, STATE_CYCLES * layout.cycle)
        self._running = RunningStiffness(layout, STATE_CYCLES * layout.cycle)
        self._said: Reaction = self._reactions.now
        self._last = 0

    def learn(self, scan: SpineScan) -> None:
        """Take over what a finished scan found under each finger, and where the trunk lies."""
        self._reactions.learn(*scan.finger_stiffness(), scan.toe_end())
        self._breath.learn(scan.place.levels["S1"], scan.place.levels["T1"])

    def add(self, s: FingerSample) -> Felt:
        """Take a state whose arrays have been checked."""
        now = 1e-9 * s.now
        if s.now < self._last:  # drive time began anew
            self.forget()
        self._last = s.now
        driven = s.mode == Mode.FORCE
        touching = s.contact & driven
        slow = s.cycle % SLOW == 0
        if slow:
            self._breath.add(now, s.position, s.force, touching)
        self._running.add(s.position, s.force, touching)
        held = driven & (s.set_point >= HELD)
        said = self._reactions.add(now, s.position, s.force, held, touching)
        before, self._said = self._said, said
        breath = self._breath.at(now) if slow else None
        if breath is not None and not breath.valid:
            breath = replace(breath, rate=np.nan, phase=np.nan)
        running = self._running.now() if s.cycle % RUNNING == 0 else None
        if running is not None and not np.isfinite(running.value).any():
            running = None
        return Felt(
            reaction=said,
            tell_guarding=slow or said.guarding != before.guarding,
            tell_presence=slow or (said.moving, said.presence) != (before.moving, before.presence),
            tense=said.guarding and not before.guarding,
            moves=said.moving and not before.moving,
            slow=slow,
            load=np.maximum(s.force.reshape(-1, 2).sum(axis=1), 0.0),
            breath=breath,
            next_end_expiration=_end_expiration(s.now, breath),
            running=running,
        )


def _end_expiration(now: int, e: BreathingEstimate | None) -> int:
    if e is None or not e.valid:
        return 0
    left = (2.0 * np.pi - e.phase) / (2.0 * np.pi * e.rate)
    return now + round(1e9 * left)
