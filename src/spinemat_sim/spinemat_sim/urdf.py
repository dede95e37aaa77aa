"""The mat's description: xacro and mat.yaml to URDF text, without ROS."""

from __future__ import annotations

from pathlib import Path

import xacro

from spinemat.errors import InvalidInput


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
        raise InvalidInput("mat description", str(xacro_path), f"one that expands: {error}") from error
