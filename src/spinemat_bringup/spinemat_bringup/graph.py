"""The one description of the graph: which nodes, which parameters, in which order.

The command line starts it as plain processes; launch files read the same description.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ament_index_python.packages import get_package_share_directory

NAMESPACE = "/mat"
SIMULATORS = ("mujoco", "none")


@dataclass(frozen=True)
class NodeSpec:
    """One node of the graph; nodes are started in the order of the description."""

    name: str
    package: str
    executable: str
    lifecycle: bool = False  # a managed node: it is configured and activated after the start
    parameters: Mapping[str, Any] = field(default_factory=dict)
    remappings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class GraphOptions:
    """What a user may choose."""

    mat_config: Path
    sim: str = "mujoco"
    real_time: bool = False
    patient: str = ""  # preset, YAML file or row of the survey; empty: the average adult
    seed: int = 0
    broken: tuple[str, ...] = ()  # fingers of the simulated mat, such as "r06_left jammed"
    answer_wait: float = 1.0  # s in lock-step; longer than the node's default: busy machines
    sessions_dir: Path | None = None
    state_dir: Path | None = None


def share(*parts: str) -> Path:
    """Return the path of an installed file of this package."""
    return Path(get_package_share_directory("spinemat_bringup"), *parts)


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
        NodeSpec("recorder", "spinemat_recording", "recorder"),
        NodeSpec(
            "session_orchestrator",
            "spinemat_session",
            "session_orchestrator",
            parameters=mat
            | {
                "programmes": str(share("config", "programmes")),
                "sessions_dir": str(options.sessions_dir or ""),
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
    if options.sim == "mujoco":
        plant = mat | {
            "urdf": str(share("urdf", "mat.urdf.xacro")),
            "patient": options.patient,
            "seed": options.seed,
            "finger_faults": list(options.broken) or [""],
            "real_time": options.real_time,
            "answer_wait": options.answer_wait,
        }
        nodes.insert(0, NodeSpec("mat_simulator", "spinemat_sim", "mat_simulator", False, plant))
    return nodes
