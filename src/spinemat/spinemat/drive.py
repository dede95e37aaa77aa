"""The drive stage's own safety: permit, command and hand control, or the fingers are released.

Every drive stage (MuJoCo, Gazebo, real drives) runs this logic beside its motors. It counts in
its own cycles and trusts nobody: without a fresh permit, a fresh command and the person's hand on
the control, it cuts the motors, lets the return springs pull the tips back, and then retracts.
A stop releases; it never freezes under a person. Of several permits the most restrictive wins: a
permission that somebody else gives does not undo a refusal. No command raises a ceiling above the
press limit of its finger.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spinemat.layout import MatLayout

WATCHDOG = 0.100  # s of drive time (real drives owe 0.020 s in hardware; engineering choice)
RELEASE_TIME = 0.150  # s unpowered before the powered retraction (engineering choice)
RETRACT_TIME = 2.0  # s, longest powered retraction after a release, unless slow (choice)
SLOW_RELEASE = 0.300  # s over which a slow retraction lets the force go (engineering choice)
SLOW_SPEED = 0.020  # m/s of a slow retraction (engineering choice)


class Stage(IntEnum):
    """State of the whole stage; values as in DriveState.msg."""

    RELEASED = 0
    RUNNING = 1
    RELEASING = 2
    RETRACTING = 3


class Category(IntEnum):
    """What a withdrawn permit asks for; values as in DrivePermit.msg."""

    RELEASE_AND_RETRACT = 0
    RETRACT_SLOWLY = 1
    RELEASE_AND_POWER_OFF = 2


RESTRICTS = {
    Category.RETRACT_SLOWLY: 0,
    Category.RELEASE_AND_RETRACT: 1,
    Category.RELEASE_AND_POWER_OFF: 2,
}  # the larger wins


@dataclass(frozen=True)
class MotorOrder:
    """What the motors are told for one cycle; arrays of shape (n,)."""

    velocity: NDArray[np.float64]  # m/s, set-point of the local velocity loop
    low: NDArray[np.float64]  # N, lowest motor force
    high: NDArray[np.float64]  # N, highest motor force; low = high = 0 means unpowered


class DriveStage:
    """Turns commands into motor orders as long as everybody agrees; otherwise lets go.

    Call `command`, `permit` and `hand` as they arrive, and `step` once per cycle.
    """

    def __init__(self, layout: MatLayout) -> None:
        self._finger = layout.finger
        self._limit = layout.press_limit
        self._n = layout.n
        self._watchdog = round(WATCHDOG / layout.cycle)
        self._period = layout.cycle
        self._command_cycle = -1
        self._velocity = np.zeros(self._n)
        self._ceiling = np.zeros(self._n)
        self._permit_cycle = -1
        self._denied_cycle = -1 - self._watchdog
        self._category = Category.RELEASE_AND_RETRACT
        self._boot_id = ""
        self._boot_changed = False
        self._held = self._let_go = False
        self._hand_cycle = -1
        self._cycle = 0
        self._since = 0
        self._hold = np.zeros(self._n)
        self.stage = Stage.RELEASED
        self.reason = self._objection = "no permit yet"

    def command(self, cycle: int, velocity: ArrayLike, ceiling: ArrayLike) -> str | None:
        """Take a command; return why it is refused, or None.

        Args:
            cycle: the drive cycle it answers.
            velocity: set-points, shape (n,), m/s, finite.
            ceiling: force ceilings at the tip, shape (n,), N, finite and >= 0.
        """
        v = np.asarray(velocity, dtype=float)
        c = np.asarray(ceiling, dtype=float)
        if v.shape != (self._n,) or c.shape != (self._n,):
            return f"command: {v.shape}, {c.shape} entries; allowed: {self._n} of each"
        if not (np.isfinite(v).all() and np.isfinite(c).all() and (c >= 0.0).all()):
            return "command: a value is not finite or a ceiling is negative"
        if not self._command_cycle < cycle <= self._cycle:
            return f"command: cycle {cycle} is repeated, out of order or in the future"
        self._command_cycle, self._velocity = cycle, v
        self._ceiling = np.minimum(c, self._limit)
        return None

    def permit(self, cycle: int, granted: bool, category: int, boot_id: str) -> str | None:
        """Take a permit; return why it is refused, or None. `cycle` is the one it answers.

        A refusal counts whatever cycle of the last WATCHDOG it answers, and holds for WATCHDOG.
        """
        known = category in list(Category)
        if not granted and self._cycle - self._watchdog <= cycle <= self._cycle:
            # who refuses for a reason that is not known here means the worst
            asked = Category(category) if known else Category.RELEASE_AND_POWER_OFF
            if not self._denied or RESTRICTS[asked] > RESTRICTS[self._category]:
                self._category = asked
            self._denied_cycle = self._cycle
        if not known:
            return f"permit: category {category}; allowed: {[int(c) for c in Category]}"
        if not self._permit_cycle < cycle <= self._cycle:
            return f"permit: cycle {cycle} is repeated, out of order or in the future"
        if self._boot_id and boot_id != self._boot_id and self.stage is not Stage.RELEASED:
            self._boot_changed = True
        self._boot_id = boot_id
        self._permit_cycle = cycle
        return None

    def hand(self, held: bool, age: float = 0.0) -> str | None:
        """Take the state of the control that the person holds; return why it is refused, or None.

        Silence releases, and letting go counts until the next step, whatever is heard before it.

        Args:
            held: whether they hold it.
            age: s of drive time since it was said; what is old or from the future holds nothing.
        """
        if held and not abs(age) <= WATCHDOG:
            return f"hand control: held {age:.2f} s ago; allowed: within {WATCHDOG:g} s"
        self._let_go = self._let_go or not held
        self._held, self._hand_cycle = held, self._cycle
        return None

    @property
    def _denied(self) -> bool:
        return self._cycle - self._denied_cycle <= self._watchdog

    @property
    def answered(self) -> tuple[int, int]:
        """Cycles of the latest command and the latest permit."""
        return self._command_cycle, self._permit_cycle

    def objection(self) -> str:
        """Why the fingers may not be driven now; empty when they may."""
        if self._let_go or not self._held:
            return "hand control released"
        if self._cycle - self._hand_cycle > self._watchdog:
            return "hand control silent"
        if self._boot_changed:
            return "the supervisor restarted"
        if self._permit_cycle < 0 or self._cycle - self._permit_cycle > self._watchdog:
            return "no fresh permit"
        if self._denied:
            return "permit withdrawn"
        if self._command_cycle < 0 or self._cycle - self._command_cycle > self._watchdog:
            return "no fresh command"
        return ""

    def step(self, cycle: int, position: NDArray[np.float64]) -> MotorOrder:
        """Decide for this cycle.

        Args:
            cycle: the drive's own cycle, growing by one.
            position: measured tip heights, shape (n,), m.
        """
        self._cycle = cycle
        objection = self._objection = self.objection()
        self._let_go = False
        if self.stage is Stage.RUNNING and objection:
            self._enter(Stage.RELEASING, objection)
        elif self.stage is Stage.RELEASED:
            if not objection:
                self._enter(Stage.RUNNING, "")
            else:
                self.reason = objection
                self._boot_changed = False
        self._advance(position)
        return self._order(position)

    def _enter(self, stage: Stage, reason: str) -> None:
        self.stage, self.reason, self._since = stage, reason, self._cycle

    def _advance(self, position: NDArray[np.float64]) -> None:
        elapsed = (self._cycle - self._since) * self._period
        if self.stage is Stage.RELEASING:
            slow = self._slow()
            if elapsed >= (SLOW_RELEASE if slow else RELEASE_TIME):
                self._enter(Stage.RETRACTING, self.reason)
        if self.stage is Stage.RETRACTING:
            off = self._denied and self._category is Category.RELEASE_AND_POWER_OFF
            low, high = self._finger.stroke
            down = bool((position <= low + 0.001).all())
            longest = RETRACT_TIME + (high - low) / SLOW_SPEED * self._slow()
            if off or down or elapsed >= longest:
                self._enter(Stage.RELEASED, self.reason)

    def _slow(self) -> bool:
        """Whether nothing but a permit withdrawn for comfort keeps the fingers from running."""
        slowly = self._category is Category.RETRACT_SLOWLY
        return slowly and self.reason == self._objection == "permit withdrawn"

    def _order(self, position: NDArray[np.float64]) -> MotorOrder:
        f = self._finger
        zero = np.zeros(self._n)
        down = np.full(self._n, -f.max_force)
        spring = f.return_preload + f.return_stiffness * (position - f.stroke[0])
        if self.stage is Stage.RUNNING:
            on = self._ceiling > 0.0
            high = np.where(on, np.minimum(self._ceiling + spring + f.friction, f.max_force), 0.0)
            velocity = np.clip(self._velocity, -f.max_speed, f.max_speed)
            self._hold = high
            return MotorOrder(velocity, np.where(on, down, 0.0), high)
        # in a retraction the motor may hold back the spring, never press
        if self._slow() and self.stage in (Stage.RELEASING, Stage.RETRACTING):
            releasing = self.stage is Stage.RELEASING
            left = 1.0 - (self._cycle - self._since) * self._period / SLOW_RELEASE
            high = np.maximum(self._hold * max(left, 0.0) * releasing, spring)
            return MotorOrder(np.full(self._n, -SLOW_SPEED), down, high)
        if self.stage is Stage.RETRACTING:
            return MotorOrder(np.full(self._n, -f.max_speed), down, spring - 2.0 * f.friction)
        return MotorOrder(zero, zero, zero)
