"""What the fields of the mat's messages mean in a table: units, words for numbers, parts.

Units are those that the message definitions state; a test compares them. A field that is not
named here has none (a count, a share, a flag, a text).
"""

from __future__ import annotations

from dataclasses import dataclass

UNITS: dict[str, dict[str, str]] = {
    "DriveState": {
        "period": "s",
        "position": "m",
        "velocity": "m_per_s",
        "force": "n",
        "current": "a",
        "temperature": "degc",
    },
    "DriveCommand": {"velocity": "m_per_s", "force_ceiling": "n"},
    "FingerState": {"position": "m", "force": "n", "set_point": "n_or_m"},
    "PlantTruth": {
        "force": "n",
        "position": "m",
        "indentation": "m",
        "peak_force": "n",
        "padding": "n",
    },
    "Breathing": {
        "rate": "hz",
        "phase": "rad",
        "amplitude": "m",
        "next_end_expiration": "s",
    },
    "BreathingCue": {"rate": "hz", "next": "s"},
    "Contour": {
        "x": "m",
        "z": "m",
        "z_std": "m",
        "row_x": "m",
        "left": "m",
        "right": "m",
        "kyphosis": "rad",
        "kyphosis_std": "rad",
        "lordosis": "rad",
        "lordosis_std": "rad",
        "lateral_asymmetry": "m",
        "lateral_asymmetry_std": "m",
        "level_x": "m",
        "level_x_std": "m",
        "level_pitch": "rad",
    },
    "StiffnessMap": {
        "finger_stiffness": "n_per_m",
        "finger_toe_stiffness": "n_per_m",
        "across": "m",
        "across_error": "m",
        "rotation": "rad",
        "rotation_error": "rad",
    },
    "LevelStiffness": {
        "x": "m",
        "value": "n_per_m",
        "standard_error": "n_per_m",
        "minimal_detectable_change": "n_per_m",
    },
    "LevelDose": {"peak": "n", "work": "j"},
    "RunningStiffness": {"value": "n_per_m", "standard_error": "n_per_m"},
    "Pressure": {"x": "m", "padding": "n", "fingers": "n"},
    "SafetyState": {"force_limit": "n"},
    "SessionState": {"time_left": "s", "force": "n"},
    "SessionPlan": {"total": "s", "pressing": "s"},
    "JointState": {"position": "m", "velocity": "m_per_s", "effort": "n"},
    "Imu": {},
}

WORDS: dict[tuple[str, str], tuple[str, ...]] = {
    ("DriveState", "stage"): ("RELEASED", "RUNNING", "RELEASING", "RETRACTING"),
    ("PlantTruth", "stage"): ("RELEASED", "RUNNING", "RELEASING", "RETRACTING"),
    ("DrivePermit", "category"): (
        "RELEASE_AND_RETRACT",
        "RETRACT_SLOWLY",
        "RELEASE_AND_POWER_OFF",
    ),
    ("FingerState", "mode"): ("OFF", "RETRACT", "POSITION", "FORCE", "EXCLUDED"),
    ("SafetyState", "state"): ("STARTING", "READY", "MOVING", "STOPPED"),
    ("SessionState", "phase"): (
        "IDLE",
        "INTAKE",
        "ON_MAT",
        "SCAN",
        "PLAN",
        "TREAT",
        "PAUSED",
        "RESCAN",
        "REPORT",
        "ABORTED",
    ),
    ("Presence", "presence"): ("UNKNOWN", "ABSENT", "PRESENT"),
    ("Event", "severity"): ("INFO", "WARNING", "STOP"),
    ("LevelStiffness", "side"): ("BOTH", "LEFT", "RIGHT"),
}


@dataclass(frozen=True)
class Part:
    """Sequences of one message that belong together: one row per entry in a table of their own.

    Attributes:
        name: of the part, and the end of the table's name.
        index: column that says which entry: ``finger`` has the fingers' names.
        fields: the sequences; a sequence of messages is a part by itself.
    """

    name: str
    index: str
    fields: tuple[str, ...]


FINGERS = "finger"
PARTS: dict[str, tuple[Part, ...]] = {
    "DriveState": (
        Part(
            "fingers",
            FINGERS,
            ("position", "velocity", "force", "current", "temperature", "status"),
        ),
    ),
    "DriveCommand": (Part("fingers", FINGERS, ("velocity", "force_ceiling")),),
    "FingerState": (
        Part("fingers", FINGERS, ("position", "force", "set_point", "mode", "contact", "clamped")),
    ),
    "PlantTruth": (Part("fingers", FINGERS, ("force", "position", "indentation", "peak_force")),),
    "Guarding": (Part("fingers", FINGERS, ("stiffening",)),),
    "RunningStiffness": (
        Part("fingers", FINGERS, ("value", "standard_error", "change", "change_error")),
    ),
    "SafetyState": (Part("fingers", FINGERS, ("force_limit",)),),
    "JointState": (Part("joints", "joint", ("name", "position", "velocity", "effort")),),
    "Pressure": (Part("places", "place", ("x", "padding", "fingers")),),
    "Contour": (
        Part("points", "point", ("x", "z", "z_std")),
        Part("rows", "row", ("row_x", "left", "right", "valid")),
        Part("levels", "entry", ("levels", "level_x", "level_x_std", "level_pitch")),
    ),
    "StiffnessMap": (
        Part("levels", "entry", ("levels",)),
        Part("fingers", FINGERS, ("finger_stiffness", "finger_toe_stiffness")),
        Part("tension", "entry", ("tension_points", "tension_ratio", "tension_probability")),
        Part("sides", "entry", ("uneven_levels", "side_difference", "side_probability")),
    ),
    "SessionPlan": (Part("levels", "entry", ("levels",)),),
    "DiagnosticArray": (Part("status", "entry", ("status",)),),
}


def column(kind: str, field: str) -> str:
    """Return the name of a field's column, with its unit: ``force`` of DriveState is `force_n`."""
    unit = UNITS.get(kind, {}).get(field, "")
    return f"{field}_{unit}" if unit else field.replace(".", "_")
