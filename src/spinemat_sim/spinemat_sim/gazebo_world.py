"""The world for Gazebo: the mat from its URDF, the person from the assembled plant.

Masses, joints and their own springs and dampers are written as they are in the plant's model;
couplings, padding, tissue, creep and guarding are forces that the system `gazebo_system.py`, which
the world loads, applies before each step. So there is no contact between the person and the
fingers for the engine to solve, as there is none in the plant. Each finger is a model of its own,
which the engine steps faster than one model with all of them.

Force sensing: a force-torque sensor in the fixed joint between a finger and its tip feels what
presses the tip. The tip has a small part of the finger's mass for that.

SDF 1.6 is used since DART's own parser, Gazebo and the SDF tools all read it. Numbers without a
source are engineering choices.
"""

from __future__ import annotations

import argparse
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from spinemat.errors import InvalidInput
from spinemat.layout import MatLayout, load_layout
from spinemat_sim.gazebo_chain import Chain, Joint, Part, read_chain
from spinemat_sim.person import lie_down
from spinemat_sim.plant import Plant
from spinemat_sim.population import find_patient
from spinemat_sim.sensors import Imperfections
from spinemat_sim.trunk import REGIONS
from spinemat_sim.urdf import expand_urdf, xacro_beside

TIP_MASS = 0.01  # kg of a finger's mass, in its tip
CARRIER = 0.5  # of a part's mass: what moves by its first joint only
CARRIER_INERTIA = 0.01  # the same of its inertia
STOP_FORCE = 100.0  # N of the end stop that a finger's joint may carry beside its motor
SENSOR_RATE = 250.0  # Hz
BONE, FLESH = "0.95 0.92 0.82 1", "0.90 0.70 0.58 0.3"


def tip_name(finger: str) -> str:
    """Name of the link at the end of a finger."""
    return f"{finger}_tip"


def topic(namespace: str, name: str) -> str:
    """Gazebo's name of a topic between the world and the adapter."""
    return "/".join(part for part in (*namespace.strip("/").split("/"), "gazebo", name) if part)


def write_world(
    path: str | Path,
    mat_config: str | Path,
    patient: str = "",
    seed: int = 0,
    namespace: str = "/mat",
    xacro: str | Path = "",
    ideal: bool = False,
) -> None:
    """Write the world of one person on one mat.

    Args:
        path: of the file to write.
        mat_config: path of the layout (``mat.yaml``).
        patient: preset, path of a YAML file or row of the survey; empty: the average adult.
        seed: of person and drives.
        namespace: of the mat's topics.
        xacro: path of ``mat.urdf.xacro``; empty: see `xacro_beside`.
        ideal: drives without friction.

    Raises:
        InvalidInput: a file, the patient, the seed or the namespace is not acceptable.
    """
    config = Path(mat_config).resolve()
    source = Path(xacro or xacro_beside(config)).resolve()
    if not all(part.isidentifier() for part in namespace.strip("/").split("/") if part):
        raise InvalidInput("namespace", namespace, "names of letters, digits and _, divided by /")
    layout, urdf = load_layout(config), expand_urdf(source, config)
    person = lie_down(find_patient(patient, seed))
    plant = Plant(layout, person, urdf, seed, Imperfections.none() if ideal else None)
    file = patient.endswith((".yaml", ".yml"))
    system = {
        "mat_config": str(config),
        "xacro": str(source),
        "patient": str(Path(patient).resolve()) if file else patient,
        "seed": str(seed),
        "namespace": namespace,
        "ideal": str(ideal).lower(),
    }
    text = world_text(plant, urdf, namespace, system)
    Path(path).write_text(text, encoding="utf-8")


def world_text(plant: Plant, urdf: str, namespace: str, system: dict[str, str]) -> str:
    """The world as SDF.

    Args:
        plant: mat and person.
        urdf: the mat's description, as the plant was made with.
        namespace: of the mat's topics.
        system: what the world tells `gazebo_system.py`, names and values.
    """
    sdf = ET.Element("sdf", {"version": "1.6", "xmlns:gz": "http://gazebosim.org/schema"})
    name = "_".join(["spinemat", *filter(None, namespace.strip("/").split("/"))])
    world = ET.SubElement(sdf, "world", name=name)
    policies = ET.SubElement(world, "gz:policies")
    _text(policies, "parallel_postupdates", "false")  # a thread per sensor costs more than it does
    _text(world, "gravity", "0 0 0")  # the person's weight is among the computed forces
    physics = ET.SubElement(world, "physics", name="plant", type="dart")
    _text(physics, "max_step_size", plant.model.opt.timestep)
    _text(physics, "real_time_factor", 1.0)
    for short, long in (
        ("physics", "Physics"),
        ("user-commands", "UserCommands"),
        ("scene-broadcaster", "SceneBroadcaster"),
        ("forcetorque", "ForceTorque"),
    ):
        _plugin(world, f"gz-sim-{short}-system", f"gz::sim::systems::{long}")
    loader = "gz::sim::systems::PythonSystemLoader"
    plugin = _plugin(world, "gz-sim-python-system-loader-system", loader)
    _text(plugin, "module_name", "spinemat_sim.gazebo_system")
    for key, value in system.items():
        _text(plugin, key, value)
    light = ET.SubElement(world, "light", name="sun", type="directional")
    _text(light, "direction", "-0.4 0.3 -0.9")
    chain = read_chain(plant.body)
    _mat(world, urdf, plant.layout, chain, topic(namespace, "tip_force"))
    _person(world, plant, chain)
    ET.indent(sdf)
    return ET.tostring(sdf, encoding="unicode", xml_declaration=True) + "\n"


def _text(parent: ET.Element, tag: str, value: object) -> ET.Element:
    element = ET.SubElement(parent, tag)
    element.text = repr(float(value)) if isinstance(value, float) else str(value)
    return element


def _plugin(world: ET.Element, filename: str, name: str) -> ET.Element:
    return ET.SubElement(world, "plugin", filename=filename, name=name)


def _pose(parent: ET.Element, place: Iterable[float]) -> None:
    _text(parent, "pose", " ".join(repr(float(v)) for v in (*place, 0.0, 0.0, 0.0)))


def _link(
    model: ET.Element,
    name: str,
    place: Iterable[float],
    mass: float,
    inertia: tuple[float, float, float],
    centre: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> ET.Element:
    link = ET.SubElement(model, "link", name=name)
    _pose(link, place)
    inertial = ET.SubElement(link, "inertial")
    _pose(inertial, centre)
    _text(inertial, "mass", float(mass))
    matrix = ET.SubElement(inertial, "inertia")
    for axis, value in zip("xyz", inertia, strict=True):
        _text(matrix, f"i{axis}{axis}", float(value))
    for pair in ("ixy", "ixz", "iyz"):
        _text(matrix, pair, 0.0)
    return link


def _joint(
    model: ET.Element, joint: Joint, parent: str, child: str, effort: float | None = None
) -> None:
    element = ET.SubElement(
        model, "joint", name=joint.name, type="prismatic" if joint.sliding else "revolute"
    )
    _text(element, "parent", parent)
    _text(element, "child", child)
    axis = ET.SubElement(element, "axis")
    _text(axis, "xyz", " ".join(repr(v) for v in joint.axis))
    if effort is not None:
        _text(ET.SubElement(axis, "limit"), "effort", effort)
    dynamics = ET.SubElement(axis, "dynamics")
    _text(dynamics, "damping", joint.damping)
    _text(dynamics, "spring_reference", joint.reference)
    _text(dynamics, "spring_stiffness", joint.stiffness)


def _shape(link: ET.Element, kind: str, name: str, place: Iterable[float]) -> ET.Element:
    shape = ET.SubElement(link, kind, name=name)
    _pose(shape, place)
    return ET.SubElement(shape, "geometry")


def _paint(link: ET.Element, rgba: str) -> None:
    material = ET.SubElement(link[-1], "material")
    _text(material, "ambient", rgba)
    _text(material, "diffuse", rgba)


def _place(element: ET.Element | None) -> tuple[float, float, float]:
    words = "0 0 0" if element is None else element.get("xyz", "0 0 0")
    x, y, z = (float(word) for word in words.split())
    return x, y, z


def _found(element: ET.Element, path: str) -> ET.Element:
    found = element.find(path)
    if found is None:
        raise InvalidInput("mat description", element.get("name"), f"one with {path}")
    return found


# --- the mat ------------------------------------------------------------------------------------


def _inertial(link: ET.Element) -> tuple[float, tuple[float, float, float], tuple[float, ...]]:
    """Mass, inertia about the axes and centre of a link of the URDF."""
    inertia = _found(link, "inertial/inertia")
    mass = float(_found(link, "inertial/mass").get("value", "nan"))
    x, y, z = (float(inertia.get(f"i{a}{a}", "nan")) for a in "xyz")
    return mass, (x, y, z), _place(link.find("inertial/origin"))


def _shapes(link: ET.Element, target: ET.Element, colours: dict[str, str], only: str = "") -> None:
    """Copy visual and collision shapes of a URDF link; `only` those of one kind, if given."""
    for kind in ("visual", "collision"):
        for i, shape in enumerate(link.iter(kind)):
            (form,) = _found(shape, "geometry")
            if only and form.tag != only:
                continue
            geometry = _shape(target, kind, f"{kind}_{i}", _place(shape.find("origin")))
            copy = ET.SubElement(geometry, form.tag)
            for key, value in form.attrib.items():
                _text(copy, key, value)
            material = shape.find("material")
            if material is not None:
                _paint(target, colours[material.get("name", "")])


def _mat(world: ET.Element, urdf: str, layout: MatLayout, chain: Chain, sensors: str) -> None:
    root = ET.fromstring(urdf)
    links = {link.get("name", ""): link for link in root.iter("link")}
    colours = {
        m.get("name", ""): _found(m, "color").get("rgba", "") for m in root.findall("material")
    }
    mat = ET.SubElement(world, "model", name="mat")
    _text(mat, "static", "true")
    for name in ("frame", "surface"):
        mass, inertia, (x, y, z) = _inertial(links[name])
        link = _link(mat, name, (0.0, 0.0, 0.0), mass, inertia, (x, y, z))
        _shapes(links[name], link, colours)
    f = layout.finger
    effort = f.max_force + f.return_preload + f.friction + STOP_FORCE
    for joint, name, x, y in zip(chain.fingers, layout.names, layout.x, layout.y, strict=True):
        model = ET.SubElement(world, "model", name=name)
        _pose(model, (float(x), float(y), 0.0))
        mass, (ixx, iyy, izz), (_, _, low) = _inertial(links[name])
        rest = (mass - TIP_MASS) / mass
        rod = (rest * ixx, rest * iyy, rest * izz)
        shaft = _link(model, name, (0.0, 0.0, 0.0), mass - TIP_MASS, rod, (0.0, 0.0, low))
        _shapes(links[name], shaft, colours, "cylinder")
        radius = float(np.sqrt(f.tip_area / np.pi))
        ball = (0.4 * TIP_MASS * radius**2,) * 3
        tip = _link(model, tip_name(name), (0.0, 0.0, 0.0), TIP_MASS, ball, (0.0, 0.0, -radius))
        _shapes(links[name], tip, colours, "sphere")
        _joint(model, joint, "world", name, effort)
        _sensor(model, name, sensors)


def _sensor(model: ET.Element, finger: str, name: str) -> None:
    fixed = ET.SubElement(model, "joint", name=f"{tip_name(finger)}_joint", type="fixed")
    _text(fixed, "parent", finger)
    _text(fixed, "child", tip_name(finger))
    sensor = ET.SubElement(fixed, "sensor", name="force", type="force_torque")
    _text(sensor, "always_on", "true")
    _text(sensor, "update_rate", SENSOR_RATE)
    _text(sensor, "topic", name)
    kind = ET.SubElement(sensor, "force_torque")
    _text(kind, "frame", "child")
    _text(kind, "measure_direction", "parent_to_child")  # positive: something presses the tip


# --- the person ---------------------------------------------------------------------------------


def _person(world: ET.Element, plant: Plant, chain: Chain) -> None:
    model = ET.SubElement(world, "model", name="person")
    places: dict[str, float] = {"": 0.0}
    for part in chain.parts:
        x = places[part.name] = places[part.parent] + part.place[0]
        place = (x, part.place[1], part.place[2])
        first, second = part.joints
        carrier = f"{part.name}_carrier"
        share = CARRIER_INERTIA
        _link(model, carrier, place, CARRIER * part.mass, (share * part.inertia,) * 3)
        # The carrier turns with the part about all axes but that of the part's own hinge.
        ixx, iyy, izz = ((1.0 - share * (not turns)) * part.inertia for turns in second.axis)
        link = _link(model, part.name, place, (1.0 - CARRIER) * part.mass, (ixx, iyy, izz))
        _joint(model, first, part.parent or "world", carrier)
        _joint(model, second, carrier, part.name)
        _draw(link, part, plant, x)


def _draw(link: ET.Element, part: Part, plant: Plant, x: float) -> None:
    """Show vertebrae as blocks over the skin and regions as what carries their weight."""
    if part.parent:
        y, z = float(plant.person.y_at(x)), float(plant.contour(np.array(x))) + 0.045
        size, rgba = "0.022 0.045 0.040", BONE
        offset = (0.0, y, z)
    else:
        s = plant.trunk.stations
        mine = s.x[s.region == REGIONS.index(part.name)]
        low, high = float(mine.min()), float(mine.max())
        z = float(plant.contour(mine).mean()) + 0.1
        size, rgba = f"{high - low!r} 0.3 0.16", FLESH
        offset = (0.5 * (low + high) - x, float(plant.person.y_at(x)), z)
    geometry = _shape(link, "visual", "visual", offset)
    _text(ET.SubElement(geometry, "box"), "size", size)
    _paint(link, rgba)


def main(args: Sequence[str] | None = None) -> None:
    """Write a world; wrong input ends with status 2 and one line on standard error."""
    parser = argparse.ArgumentParser(prog="gazebo_world", description="Write a world.")
    parser.add_argument("path", help="of the file to write")
    parser.add_argument("--mat-config", required=True, help="path of mat.yaml")
    parser.add_argument("--xacro", default="", help="path of mat.urdf.xacro")
    parser.add_argument("--patient", default="", help="preset, YAML file or row of the survey")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--namespace", default="/mat")
    parser.add_argument("--ideal", action="store_true", help="drives without friction")
    given = parser.parse_args(args)
    try:
        write_world(**vars(given))
    except (InvalidInput, OSError) as error:
        print(f"gazebo_world: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
