"""Which topics a recording holds."""

from __future__ import annotations

from spinemat_ros.topics import TOPICS

ALL = frozenset(name for name, topic in TOPICS.items() if topic.recorded)
MINIMAL = frozenset(
    {"session/state", "safety/state", "events", "plan", "contour", "stiffness", "comfort"}
)
CLINICAL = MINIMAL | {
    "fingers/state",
    "body_pose",
    "breathing",
    "breathing/cue",
    "guarding",
    "hand_control",
    "posture",
    "presence",
    "pressure",
    "scan/inputs",
    "stiffness/running",
    "stop",
    "truth/contour",
    "truth/stiffness",
}
# all: every topic; clinical: what people look at, without the drives' raw data at 250 Hz;
# minimal: what happened and what was found
PROFILES = {"all": ALL, "clinical": CLINICAL & ALL, "minimal": MINIMAL}
