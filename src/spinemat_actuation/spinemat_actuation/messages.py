"""What the controller knows as messages, and goals from messages."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import JointState

from spinemat.control import FingerController
from spinemat.layout import MatLayout
from spinemat.modes import Mode
from spinemat.press import PressRun
from spinemat.press_goal import PressGoal, check_goal
from spinemat.self_test import Verdict
from spinemat_interfaces.action import Calibrate, Press
from spinemat_interfaces.msg import DriveCommand, DriveState, FingerState
from spinemat_ros.codec import bools, doubles, uint8s

Array = NDArray[np.float64]


def press_goal(layout: MatLayout, request: Press.Goal, excluded: Mapping[int, str]) -> PressGoal:
    """Check what a client asks for.

    Raises:
        InvalidInput: a field is not acceptable.
    """
    return check_goal(
        layout,
        waveform=request.waveform,
        fingers=list(request.fingers),
        preload=list(request.preload),
        amplitude=list(request.amplitude),
        phase=list(request.phase),
        rate=request.rate,
        duration=request.duration,
        approach_speed=request.approach_speed,
        expected=list(request.expected_contact),
        hold_after=request.hold_after,
        start_cycle=request.start_cycle,
        cycles=request.cycles,
        mass=request.mass,
        gated=request.gated,
        excluded=excluded,
    )


class Fingers:
    """The fingers as the controller sees them and as joints; messages are made once and refilled.

    Attributes:
        command, state, joints: filled by `answer` and `tell`.
    """

    def __init__(self, control: FingerController) -> None:
        self._control = control
        self.command, self.state, self.joints = DriveCommand(), FingerState(), JointState()
        self.joints.name = list(control.layout.joint_names)

    def answer(self, msg: DriveState, velocity: Array, ceiling: Array) -> DriveCommand:
        """The command that answers a drive state."""
        c = self.command
        c.header, c.cycle = msg.header, msg.cycle
        c.velocity, c.force_ceiling = doubles(velocity), doubles(ceiling)
        return c

    def tell(self, msg: DriveState) -> None:
        """Fill `state` and `joints`."""
        c, s, j = self._control, self.state, self.joints
        set_point = np.where(c.mode == Mode.RETRACT, c.layout.finger.stroke[0], c.reference)
        s.header, s.cycle = msg.header, msg.cycle
        s.position, s.force = doubles(c.position), doubles(c.force)
        s.set_point = doubles(np.where(c.mode == Mode.POSITION, c.height, set_point))
        s.mode, s.contact, s.clamped = uint8s(c.mode), bools(c.contact), bools(c.clamped)
        j.header, j.position, j.velocity, j.effort = msg.header, s.position, msg.velocity, s.force


def press_feedback(cycle: int, run: PressRun, control: FingerController) -> Press.Feedback:
    """Where a press stands."""
    k = run.goal.fingers
    return Press.Feedback(
        cycle=cycle,
        phase=int(run.phase),
        progress=run.progress(cycle),
        turn=run.turn,
        indentation=doubles(run.indentation),
        force=doubles(control.force[k]),
        position=doubles(control.position[k]),
    )


def press_result(run: PressRun, success: bool, message: str) -> Press.Result:
    """What a press did."""
    return Press.Result(
        success=success,
        message=message,
        accepted_cycle=run.accepted_cycle,
        loaded_cycle=run.loaded_cycle,
        end_cycle=run.end_cycle,
        peak_force=doubles(run.peak),
        indentation=doubles(run.indentation),
        work=doubles(run.work),
        contact=bools(run.contact),
        tracking_error=run.tracking_error,
        clamp_events=run.clamp_events,
    )


def calibrate_result(layout: MatLayout, cycle: int, verdict: Verdict) -> Calibrate.Result:
    """What a self-test found."""
    return Calibrate.Result(
        success=True,
        message=verdict.words(layout),
        end_cycle=cycle,
        name=list(layout.names),
        fault=[verdict.excluded.get(i, "") for i in range(layout.n)],
        zero=doubles(verdict.measured.zero),
        noise=doubles(verdict.noise),
        friction=doubles(verdict.measured.friction),
        spring=doubles(verdict.measured.spring),
        travel=doubles(verdict.travel),
    )
