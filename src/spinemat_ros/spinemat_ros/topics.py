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
from visualization_msgs.msg import MarkerArray

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
    """Type, quality of service and rate; `recorded` topics go into every session's bag.

    Rates are of drive time, with the cycle of 4 ms that is the default.
    """

    type: Any
    qos: QoSProfile
    rate: str = ""
    recorded: bool = True


TOPICS: dict[str, Topic] = {
    "drive/state": Topic(msg.DriveState, DRIVE, "250 Hz"),
    "drive/command": Topic(msg.DriveCommand, DRIVE, "250 Hz"),
    "drive/permit": Topic(msg.DrivePermit, DRIVE, "125 Hz"),
    "drive/hand_input": Topic(msg.HandControl, COMMAND_INPUT, "50 Hz"),
    "hand_control": Topic(msg.HandControl, COMMAND_INPUT, "50 Hz"),
    "fingers/state": Topic(msg.FingerState, STREAM, "50 Hz"),
    "joint_states": Topic(JointState, STREAM, "50 Hz"),
    "/diagnostics": Topic(DiagnosticArray, STREAM, "1 Hz"),
    "contour": Topic(msg.Contour, LATCHED, "each scan"),
    "stiffness": Topic(msg.StiffnessMap, LATCHED, "each scan"),
    "scan/inputs": Topic(msg.Event, STREAM, "each press of a scan"),
    "breathing": Topic(msg.Breathing, STREAM, "10 Hz"),
    "guarding": Topic(msg.Guarding, STREAM, "10 Hz, and on change"),
    "presence": Topic(msg.Presence, STREAM, "10 Hz, and on change"),
    "stiffness/running": Topic(msg.RunningStiffness, STREAM, "1 Hz in a rhythm"),
    "body_pose": Topic(PoseWithCovarianceStamped, LATCHED, "each scan"),
    "posture/imu": Topic(Imu, qos_profile_sensor_data, "as the sensors"),  # QoS of their drivers
    "posture": Topic(msg.Contour, STREAM, "10 Hz with a strip"),
    "pressure": Topic(msg.Pressure, STREAM, "10 Hz"),
    "comfort": Topic(msg.ComfortReport, COMMAND_INPUT, "when reported"),
    "plan": Topic(msg.SessionPlan, LATCHED, "each plan and edit"),
    "breathing/cue": Topic(msg.BreathingCue, STREAM, "10 Hz while it leads"),
    "heartbeat": Topic(msg.Heartbeat, STREAM, "25 Hz per node"),
    "stop": Topic(Empty, COMMAND_INPUT, "when somebody stops"),
    "safety/state": Topic(msg.SafetyState, LATCHED, "10 Hz, and on change"),
    "session/state": Topic(msg.SessionState, PHASES, "10 Hz, and on change"),
    "events": Topic(msg.Event, EVENTS, "as they happen"),
    "clock": Topic(Clock, STREAM, "50 Hz", recorded=False),
    "markers": Topic(MarkerArray, STREAM, "10 Hz", recorded=False),
    "gazebo/state": Topic(JointState, COMMAND_INPUT, "250 Hz", recorded=False),
    "gazebo/truth": Topic(JointState, COMMAND_INPUT, "250 Hz", recorded=False),
    "gazebo/orders": Topic(JointState, COMMAND_INPUT, "250 Hz", recorded=False),
    "truth/state": Topic(msg.PlantTruth, DRIVE, "250 Hz"),
    "truth/contour": Topic(msg.Contour, LATCHED, "once"),
    "truth/stiffness": Topic(msg.StiffnessMap, LATCHED, "once"),
    "truth/pressure": Topic(msg.Pressure, LATCHED, "1 Hz"),
}
