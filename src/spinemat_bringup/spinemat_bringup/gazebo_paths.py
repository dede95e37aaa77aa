"""Where Gazebo's own Python modules are; the system that our world loads needs them.

ROS Jazzy packs Gazebo as vendor packages (``opt/gz_sim_vendor`` and others), whose setup files
name programs and libraries but not the Python modules. This module runs in the Python of `ros2`,
too.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

MODULES = ("gz.sim8", "gz.math7", "gz.transport13", "gz.msgs10.model_pb2", "sdformat14")
VENDOR = "0.0.13"  # version of ROS's package of Gazebo that first has them


def gazebo_python(prefixes: str | None = None) -> list[str]:
    """Return the folders to add to PYTHONPATH before `gz sim` runs our world.

    Args:
        prefixes: as in AMENT_PREFIX_PATH; default: that of the environment. Where Gazebo comes
            from packages of its own, the result is empty and Python finds them.
    """
    roots = os.environ.get("AMENT_PREFIX_PATH", "") if prefixes is None else prefixes
    return [
        str(folder)
        for root in roots.split(os.pathsep)
        if root
        for folder in sorted(Path(root).glob("opt/gz_*_vendor/lib/python"))
        + sorted(Path(root).glob("opt/sdformat_vendor/lib/python"))
    ]


def python_path(ours: Sequence[str]) -> str:
    """Return the PYTHONPATH of Gazebo's server: Gazebo's modules, the workspace's, and ours."""
    return os.pathsep.join(filter(None, [*gazebo_python(), os.environ.get("PYTHONPATH"), *ours]))


def missing_modules(ours: Sequence[str]) -> str:
    """Say why Gazebo's server could not load the system that our world has, which is in Python.

    The server itself would only print it, and run on.

    Args:
        ours: where what SpineMat requires is.

    Returns:
        One line for people; empty when everything is there.
    """
    line = [sys.executable, "-c", f"import {', '.join(MODULES)}"]
    environment = os.environ | {"PYTHONPATH": python_path(ours)}
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return ""
    why = (done.stderr.strip().splitlines() or ["no word why"])[-1]
    return (
        f"Gazebo's Python modules are missing ({why}): sudo apt-get install"
        f" ros-jazzy-gz-sim-vendor, {VENDOR} or later, and the other gz vendor packages"
    )
