"""The mat's description: xacro and mat.yaml to URDF text, without ROS."""

from __future__ import annotations

from pathlib import Path

import xacro

from spinemat.errors import InvalidInput
from spinemat.layout import MatLayout


def expand_urdf(xacro_path: str | Path, config_path: str | Path, prefix: str = "") -> str:
    """Expand the mat's xacro file for one layout.

    Args:
        xacro_path: path of ``mat.urdf.xacro``.
        config_path: path of the layout (``mat.yaml``).
        prefix: put before every link and joint name.

    Returns:
        URDF as text.

    Raises:
        InvalidInput: a file is missing or the description cannot be expanded.
    """
    for field, path in (("xacro file", xacro_path), ("mat file", config_path)):
        if not Path(path).is_file():
            raise InvalidInput(field, str(path), "a readable file")
    mappings = {"config": str(Path(config_path).resolve()), "prefix": prefix}
    try:
        return str(xacro.process_file(str(xacro_path), mappings=mappings).toxml())
    except (xacro.XacroException, KeyError, TypeError, ValueError) as error:
        wanted = f"one that expands: {error}"
        raise InvalidInput("mat description", str(xacro_path), wanted) from error


def xacro_beside(config_path: str | Path) -> Path:
    """Where ``mat.urdf.xacro`` is for a layout of the repository or the installed package."""
    return Path(config_path).resolve().parent.parent / "urdf" / "mat.urdf.xacro"


def plain_urdf(layout: MatLayout) -> str:
    """URDF of a mat's fingers only, without shapes, for models that are never looked at."""
    f = layout.finger
    parts = ['<robot name="plain"><link name="mat"/>']
    columns = (layout.names, layout.joint_names, layout.x, layout.y)
    for name, joint, x, y in zip(*columns, strict=True):
        parts.append(
            f'<link name="{name}"><inertial><mass value="{f.mass}"/><inertia ixx="1e-3" iyy="1e-3"'
            f' izz="1e-3" ixy="0" ixz="0" iyz="0"/></inertial></link>'
            f'<joint name="{joint}" type="prismatic"><parent link="mat"/><child link="{name}"/>'
            f'<origin xyz="{x} {y} 0"/><axis xyz="0 0 1"/><limit lower="{f.stroke[0]}"'
            f' upper="{f.stroke[1]}" effort="{f.max_force}" velocity="{f.max_speed}"/>'
            f'<dynamics damping="15"/></joint>'
        )
    return "".join([*parts, "</robot>"])
