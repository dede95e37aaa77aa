"""What the launch files ask before anything starts: may the mat be started as the user wants it?

They run in the Python of `ros2`, which need not have what these checks need. The question is a
JSON object in the only argument; a refusal is one line on standard error and status 1.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spinemat.anatomy import check_intake
from spinemat.errors import InvalidInput, number
from spinemat.layout import load_layout
from spinemat_bringup.graph import share
from spinemat_sim.population import find_patient


def prepare(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Check the mat's description, and the person where the mat is simulated.

    Args:
        asked: mat_config, sim, patient and seed as in `graph.GraphOptions`; namespace; folder
            for Gazebo's world.

    Returns:
        world: path of Gazebo's world; python_path: folders in which Python finds what is needed.

    Raises:
        InvalidInput: one of them is not acceptable.
    """
    load_layout(Path(asked["mat_config"]))
    world = ""
    if asked["sim"] != "none":
        number("seed", asked["seed"], 0, 2**31 - 1)
        person = find_patient(asked["patient"], asked["seed"])
        check_intake(person.sex, person.age, person.stature, person.mass)
    if asked["sim"] == "gazebo":
        from spinemat_sim.gazebo_world import write_world

        path = Path(asked["folder"], "world.sdf")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_world(
            path,
            asked["mat_config"],
            asked["patient"],
            asked["seed"],
            asked["namespace"],
            share("urdf", "mat.urdf.xacro"),
        )
        world = str(path)
    return {"world": world, "python_path": [p for p in sys.path if p.endswith("-packages")]}


def main() -> None:
    """Run the program."""
    try:
        print(json.dumps(prepare(json.loads(sys.argv[1]))))
    except InvalidInput as error:
        print(error, file=sys.stderr)
        sys.exit(1)
