"""The one description of the graph: which nodes, which parameters, in which order.

The command line starts it as plain processes; launch files read the same description.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ament_index_python.packages import get_package_share_directory

NAMESPACE = "/mat"
PROFILES = ("all", "clinical", "minimal")  # of the recorder
NO_RECORD = "none"  # in place of a profile: no recorder
SIMULATORS = ("mujoco", "none")  # Gazebo's server is a process of its own: see launching
DEMANDS = ("optional", "required")  # as session_orchestrator has them; ROS alone imports this file
DRIVE_STAGES = {"mujoco": "mat_simulator", "gazebo": "gazebo_adapter"}


@dataclass(frozen=True)
class NodeSpec:
    """One node of the graph; nodes are started in the order of the description."""

    name: str
    package: str
    executable: str
    lifecycle: bool = False  # a managed node: it is configured and activated after the start
    parameters: Mapping[str, Any] = field(default_factory=dict)
    remappings: Mapping[str, str] = field(default_factory=dict)


RECORDER = NodeSpec("recorder", "spinemat_recording", "recorder")
MARKERS = NodeSpec("mat_markers", "spinemat_bringup", "mat_markers")


@dataclass(frozen=True)
class GraphOptions:
    """What a user may choose."""

    mat_config: Path
    sim: str = "mujoco"  # or gazebo, none
    real_time: bool = False
    patient: str = ""  # preset, YAML file or row of the survey; empty: the average adult
    seed: int = 0
    broken: tuple[str, ...] = ()  # fingers of the simulated mat, such as "r06_left jammed"
    answer_wait: float = 1.0  # s in lock-step; longer than the node's default: busy machines
    sessions_dir: Path | None = None
    state_dir: Path | None = None
    record: bool = True  # start the node that records sessions
    profile: str = "all"  # what it records: all, clinical, minimal
    database: str = ""  # URL; empty: spinemat.db in sessions_dir; none: no database
    programmes: Path | None = None  # folder; None: those that ship
    confirm: str = "optional"  # or required: every plan waits for a clinician
    screening: str = "optional"  # or required: no session without a person's answers


def share(*parts: str) -> Path:
    """Return the path of an installed file of this package."""
    return Path(get_package_share_directory("spinemat_bringup"), *parts)


def state_folder(namespace: str) -> Path:
    """Where a mat that is up keeps its latch, calibration and safety log."""
    root = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state")
    return root / "spinemat" / namespace.strip("/")


def describe(options: GraphOptions) -> list[NodeSpec]:
    """Return the nodes of the graph.

    Actuation is activated last: in lock-step its first answer is what starts simulated time.
    """
    mat = {"mat_config": str(options.mat_config)}
    file = f"calibration_{options.mat_config.stem}.yaml"
    calibration = options.state_dir and options.state_dir / file
    nodes = [
        NodeSpec(
            "safety_supervisor",
            "spinemat_safety",
            "safety_supervisor",
            parameters=mat
            | {
                "required_nodes": ["finger_actuation", "spine_contour", "session_orchestrator"],
                "state_dir": str(options.state_dir or ""),
            },
        ),
        *([RECORDER] if options.record else []),
        NodeSpec(
            "session_orchestrator",
            "spinemat_session",
            "session_orchestrator",
            parameters=mat
            | {
                "programmes": str(options.programmes or share("config", "programmes")),
                "sessions_dir": str(options.sessions_dir or ""),
                "database": options.database,
                "confirm": options.confirm,
                "screening": options.screening,
            },
        ),
        NodeSpec("spine_contour", "spinemat_sensing", "spine_contour", True, mat),
        NodeSpec(
            "finger_actuation",
            "spinemat_actuation",
            "finger_actuation",
            True,
            mat | {"calibration_file": str(calibration or "")},
        ),
    ]
    drive_stage = DRIVE_STAGES.get(options.sim)
    if drive_stage is not None:
        plant = mat | {
            "urdf": str(share("urdf", "mat.urdf.xacro")),
            "patient": options.patient,
            "seed": options.seed,
            "finger_faults": list(options.broken) or [""],
            "real_time": options.real_time,
            "answer_wait": options.answer_wait,
        }
        nodes.insert(0, NodeSpec(drive_stage, "spinemat_sim", drive_stage, parameters=plant))
    return [_recorder(nodes, options) if spec is RECORDER else spec for spec in nodes]


def _recorder(nodes: list[NodeSpec], options: GraphOptions) -> NodeSpec:
    """Return the recorder; every bag holds what the graph was started with.

    Where the database is stays out of it: its URL names computers and people, or a password.
    """
    given = {
        spec.name: {k: v for k, v in spec.parameters.items() if k != "database"} for spec in nodes
    }
    about = {"parameters": json.dumps(given)}
    if options.sim != "none":  # of the simulated person
        about |= {"patient": options.patient, "seed": str(options.seed)}
    parameters = {
        "mat_config": str(options.mat_config),
        "profile": options.profile,
        "about": json.dumps(about),
    }
    return replace(RECORDER, parameters=parameters)
