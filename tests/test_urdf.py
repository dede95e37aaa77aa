"""The mat's description: right for any layout, accepted by the parsers that read URDF."""

from __future__ import annotations

import shutil
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import mujoco
import numpy as np
import pytest
import yaml

from spinemat.errors import InvalidInput
from spinemat.layout import MatLayout, load_layout
from spinemat_sim.urdf import expand_urdf

ROOT = Path(__file__).resolve().parents[1]
MAT = ROOT / "config/mat.yaml"
XACRO = ROOT / "urdf/mat.urdf.xacro"


def layout_file(folder: Path, rows: int) -> Path:
    """A layout with a number of rows, otherwise as the default."""
    data = yaml.safe_load(MAT.read_text())
    pitch = 0.046 if rows < 20 else 0.031
    data["surface"]["x_max"] = max(0.85, rows * pitch + 0.1)
    regions = ["lumbar", "thoracic", "neck"]
    data["rows"] = [
        {"name": f"row{i}", "x": round(i * pitch, 4), "offset": 0.025 + 0.0001 * i,
         "region": regions[3 * i // rows]}
        for i in range(rows)
    ]  # fmt: skip
    data["finger"] |= {"tip_area": 0.0007, "stroke": [-0.02, 0.06], "mass": 0.4}
    path = folder / f"mat{rows}.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


@pytest.fixture(params=[13, 3, 52])
def mat(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return MAT if request.param == 13 else layout_file(tmp_path, request.param)


def check_joints(urdf: str, layout: MatLayout, prefix: str = "") -> None:
    root = ET.fromstring(urdf)
    joints = [j for j in root.iter("joint") if j.get("type") == "prismatic"]
    assert tuple(j.get("name") for j in joints) == tuple(prefix + n for n in layout.joint_names)
    finger = layout.finger
    for joint, x, y in zip(joints, layout.x, layout.y, strict=True):
        place = np.array(joint.find("origin").get("xyz").split(), dtype=float)
        np.testing.assert_allclose(place, [x, y, 0.0], atol=1e-12)
        assert joint.find("axis").get("xyz").split() == ["0", "0", "1"]
        limit = {k: float(v) for k, v in joint.find("limit").attrib.items()}
        assert limit == {
            "lower": finger.stroke[0], "upper": finger.stroke[1],
            "effort": finger.max_force, "velocity": finger.max_speed,
        }  # fmt: skip
        assert float(joint.find("dynamics").get("friction")) == finger.friction
        link = root.find(f"link[@name='{joint.find('child').get('link')}']")
        assert float(link.find("inertial/mass").get("value")) == finger.mass
        tip = link.find("collision")
        radius = float(tip.find("geometry/sphere").get("radius"))
        assert np.pi * radius**2 == pytest.approx(finger.tip_area)
        top = float(tip.find("origin").get("xyz").split()[2]) + radius
        assert top == pytest.approx(0.0, abs=1e-12)


def test_urdf_follows_the_layout(mat: Path) -> None:
    urdf = expand_urdf(XACRO, mat)
    check_joints(urdf, load_layout(mat))
    names = {link.get("name") for link in ET.fromstring(urdf).iter("link")}
    assert {"mat", "frame", "surface"} <= names


def test_prefix_is_before_every_name() -> None:
    urdf = expand_urdf(XACRO, MAT, prefix="a_")
    check_joints(urdf, load_layout(MAT), "a_")
    root = ET.fromstring(urdf)
    for element in [*root.findall("link"), *root.findall("joint")]:
        assert element.get("name").startswith("a_")


def test_surface_leaves_the_fingers_free(mat: Path) -> None:
    layout = load_layout(mat)
    surface = ET.fromstring(expand_urdf(XACRO, mat)).find("link[@name='surface']")
    radius = np.sqrt(layout.finger.tip_area / np.pi)
    covered = 0.0
    for shape in surface.iter("collision"):
        centre = np.array(shape.find("origin").get("xyz").split(), dtype=float)
        size = np.array(shape.find("geometry/box").get("size").split(), dtype=float)
        low, high = centre - size / 2, centre + size / 2
        covered += size[0] * size[1]
        beside = np.maximum.reduce(
            [low[0] - layout.x, layout.x - high[0], low[1] - layout.y, layout.y - high[1]]
        )
        assert np.all(beside >= radius)
        assert high[2] == pytest.approx(0.0, abs=1e-12)
    s = layout.surface
    assert 0.5 < covered / ((s.x_max - s.x_min) * s.width) < 1.0


def test_mujoco_reads_it(mat: Path) -> None:
    model = mujoco.MjSpec.from_string(expand_urdf(XACRO, mat)).compile()
    layout = load_layout(mat)
    assert tuple(model.joint(i).name for i in range(model.njnt)) == layout.joint_names
    np.testing.assert_allclose(model.jnt_range, np.tile(layout.finger.stroke, (layout.n, 1)))


@pytest.mark.skipif(
    shutil.which("check_urdf") is None, reason="check_urdf is missing (apt: liburdfdom-tools)"
)
def test_check_urdf_accepts_it(mat: Path, tmp_path: Path) -> None:
    path = tmp_path / "mat.urdf"
    path.write_text(expand_urdf(XACRO, mat))
    found = subprocess.run(["check_urdf", str(path)], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert "root Link: mat" in found.stdout


def test_default_config_is_found_beside_the_xacro_file(tmp_path: Path) -> None:
    for folder in ("urdf", "config"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    import xacro

    urdf = xacro.process_file(str(tmp_path / "urdf/mat.urdf.xacro")).toxml()
    check_joints(urdf, load_layout(MAT))


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="mat file"):
        expand_urdf(XACRO, tmp_path / "none.yaml")
    broken = tmp_path / "mat.yaml"
    broken.write_text("name: broken\n")
    with pytest.raises(InvalidInput, match="mat description"):
        expand_urdf(XACRO, broken)
