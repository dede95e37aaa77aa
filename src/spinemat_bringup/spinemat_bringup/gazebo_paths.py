"""Where Gazebo's own Python modules are; the system that our world loads needs them.

ROS Jazzy packs Gazebo as vendor packages (``opt/gz_sim_vendor`` and others), whose setup files
name programs and libraries but not the Python modules. This module runs in the Python of `ros2`,
too.
"""

from __future__ import annotations

import os
from pathlib import Path


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
