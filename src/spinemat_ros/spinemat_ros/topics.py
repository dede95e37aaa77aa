"""Every topic of the mat: relative name, type and quality of service, in one table.

Names are relative, so that a namespace (``/mat`` by default) holds one whole mat.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    QoSProfile,
    ReliabilityPolicy,
    qos_profile_sensor_data,
)
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Imu, JointState
from std_msgs.msg import Empty

from spinemat_interfaces import msg


def _profile(depth: int, *, latched: bool = False) -> QoSProfile:
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


DRIVE = _profile(50)  # writers of drive/*, the supervisor and the recorder
EVERY = _profile(1000)  # whoever must not miss a state when the machine is busy
NEWEST = _profile(1)  # the controller: only the newest drive state counts
STREAM = _profile(50)  # periodic data
LATCHED = _profile(1, latched=True)  # results: late joiners get the last one
PHASES = _profile(10, latched=True)  # a session's phases may follow each other within a cycle
EVENTS = _profile(100, latched=True)  # events: late joiners get them all
COMMAND_INPUT = _profile(10)  # default QoS, so that any tool can publish


@dataclass(frozen=True)
class Topic:
    """Type and quality of service of one topic; `recorded` ones go into every session's bag."""

    type: Any
    qos: QoSProfile
    recorded: bool = True


TOPICS: dict[str, Topic] = {
    "drive/state": Topic(msg.DriveState, DRIVE),
    "drive/command": Topic(msg.DriveCommand, DRIVE),
    "drive/permit": Topic(msg.DrivePermit, DRIVE),
    "drive/hand_input": Topic(msg.HandControl, COMMAND_INPUT),
    "hand_control": Topic(msg.HandControl, COMMAND_INPUT),
    "fingers/state": Topic(msg.FingerState, STREAM),
    "joint_states": Topic(JointState, STREAM),
    "/diagnostics": Topic(DiagnosticArray, STREAM),
    "contour": Topic(msg.Contour, LATCHED),
    "stiffness": Topic(msg.StiffnessMap, LATCHED),
    "breathing": Topic(msg.Breathing, STREAM),
    "guarding": Topic(msg.Guarding, STREAM),
    "presence": Topic(msg.Presence, STREAM),
    "stiffness/running": Topic(msg.RunningStiffness, STREAM),
    "body_pose": Topic(PoseWithCovarianceStamped, LATCHED),
    "posture/imu": Topic(Imu, qos_profile_sensor_data),  # as drivers of sensors publish
    "posture": Topic(msg.Contour, STREAM),
    "pressure": Topic(msg.Pressure, STREAM),
    "comfort": Topic(msg.ComfortReport, COMMAND_INPUT),
    "plan": Topic(msg.SessionPlan, LATCHED),
    "breathing/cue": Topic(msg.BreathingCue, STREAM),
    "heartbeat": Topic(msg.Heartbeat, STREAM),
    "stop": Topic(Empty, COMMAND_INPUT),
    "safety/state": Topic(msg.SafetyState, LATCHED),
    "session/state": Topic(msg.SessionState, PHASES),
    "events": Topic(msg.Event, EVENTS),
    "clock": Topic(Clock, STREAM, recorded=False),
    "truth/state": Topic(msg.PlantTruth, DRIVE),
    "truth/contour": Topic(msg.Contour, LATCHED),
    "truth/stiffness": Topic(msg.StiffnessMap, LATCHED),
    "truth/pressure": Topic(msg.Pressure, LATCHED),
}
