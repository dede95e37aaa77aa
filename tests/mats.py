"""The mat of the repository, and a person on it without ROS."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from spinemat.layout import load_layout
from spinemat_sim.closed_loop import ClosedLoop
from spinemat_sim.person import lie_down
from spinemat_sim.plant import Plant
from spinemat_sim.population import find_patient
from spinemat_sim.sensors import Imperfections
from spinemat_sim.trunk import Trunk, build_trunk
from spinemat_sim.urdf import expand_urdf

ROOT = Path(__file__).resolve().parents[1]
MAT = ROOT / "config/mat.yaml"
XACRO = ROOT / "urdf/mat.urdf.xacro"


@cache
def trunk(patient: str, seed: int) -> Trunk:
    return build_trunk(lie_down(find_patient(patient, seed)))


def closed_loop(patient: str = "", seed: int = 0, ideal: bool = False) -> ClosedLoop:
    sensors = Imperfections.none() if ideal else Imperfections()
    layout, urdf, body = load_layout(MAT), expand_urdf(XACRO, MAT), trunk(patient, seed)
    return ClosedLoop(Plant(layout, body.person, urdf, seed, sensors, body))
