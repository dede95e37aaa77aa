"""What the mat and the person look like: shapes for pictures, without any role in the physics.

Breadths, depths, lengths and heights of the person are those of the survey row; what it does not
hold (limbs, head) follows by plain proportions of stature, engineering choices. The back follows
the contour of the model.
"""

from __future__ import annotations

import mujoco
import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from spinemat_sim.body import mat_spec
from spinemat_sim.contour import buttock_x, occiput_x
from spinemat_sim.patient import LEVELS
from spinemat_sim.person import Person
from spinemat_sim.plant import Plant

Array = NDArray[np.float64]

SKIN = (0.90, 0.70, 0.58, 0.34)
ARM = (0.87, 0.66, 0.54, 0.25)
BONE = (0.97, 0.94, 0.84, 1.0)
PADDING = (0.27, 0.40, 0.50, 1.0)
CHASSIS = (0.17, 0.19, 0.23, 1.0)
REST = (0.33, 0.36, 0.40, 1.0)
REGION = {
    "neck": (0.27, 0.62, 0.93, 1.0),
    "thoracic": (0.25, 0.75, 0.47, 1.0),
    "lumbar": (0.97, 0.63, 0.20, 1.0),
}
FLOOR = -0.62  # m
RING = 28  # points around a lofted body part


def build_figure(plant: Plant, urdf: str) -> mujoco.MjSpec:
    """Mat, fingers where they are now, and the person lying as they lie now."""
    spec = mat_spec(plant.layout, urdf)
    _scene(spec, plant)
    _paint_mat(spec, plant)
    _person(spec, plant)
    return spec


def _scene(spec: mujoco.MjSpec, plant: Plant) -> None:
    spec.visual.global_.offwidth, spec.visual.global_.offheight = 3840, 2160
    spec.visual.quality.offsamples, spec.visual.quality.shadowsize = 8, 4096
    spec.visual.headlight.ambient = [0.42, 0.42, 0.42]
    spec.visual.headlight.diffuse = [0.32, 0.32, 0.32]
    spec.visual.headlight.specular = [0.05, 0.05, 0.05]
    world = spec.worldbody
    lights = (((0.3, -2.0, 3.0), 0.36, True), ((-1.5, -2.0, 1.5), 0.18, False))
    for pos, strength, shadow in lights:
        light = world.add_light(pos=list(pos), dir=[-0.35 * pos[0], -0.35 * pos[1], -pos[2]])
        light.type = mujoco.mjtLightType.mjLIGHT_DIRECTIONAL
        light.diffuse, light.castshadow = [strength] * 3, shadow
    for pos, turn in (((0, 0, FLOOR), (1, 0, 0, 0)), ((0, 3.0, 0), (0.7071068, 0.7071068, 0, 0))):
        plane = world.add_geom(type=mujoco.mjtGeom.mjGEOM_PLANE, size=[12, 12, 0.1])
        plane.pos, plane.quat, plane.rgba = list(pos), list(turn), [0.80, 0.83, 0.86, 1.0]


def _paint_mat(spec: mujoco.MjSpec, plant: Plant) -> None:
    """Colours; the near side of padding and chassis is see-through, so that fingers show."""
    layout = plant.layout
    for i, name in enumerate(layout.names):
        for geom in spec.body(name).geoms:
            tip = geom.type == mujoco.mjtGeom.mjGEOM_SPHERE
            geom.rgba = REGION[layout.regions[i]] if tip else (0.72, 0.74, 0.78, 1.0)
    surface = layout.surface
    for link, rgba in (("frame", CHASSIS), ("surface", PADDING)):
        for geom in spec.body(link).geoms:
            near = geom.pos[1] < -0.01
            geom.rgba = (*rgba[:3], 0.16 if near else 1.0)
    mid = 0.5 * FLOOR
    for x in (surface.x_min + 0.05, surface.x_max - 0.05):
        for y in (-0.45, 0.45):
            _box(spec, (x, y * surface.width, mid - 0.11), (0.03, 0.03, -mid - 0.11), CHASSIS)
    # What the legs lie on is not part of the mat.
    person = plant.person
    end = min(person.s1_x - 0.62 * person.patient.stature, surface.x_min - 0.1)
    middle, half = 0.5 * (end + surface.x_min) - 0.01, 0.5 * (surface.x_min - end) - 0.02
    z = 0.5 * surface.thickness
    _box(spec, (middle, 0.0, -z), (half, 0.5 * surface.width, z), REST)
    for y in (-0.45, 0.45):
        _box(spec, (end + 0.08, y * surface.width, mid - 0.03), (0.02, 0.02, -mid - 0.03), CHASSIS)


def _box(
    spec: mujoco.MjSpec,
    pos: tuple[float, float, float],
    size: tuple[float, float, float],
    rgba: tuple[float, float, float, float],
) -> None:
    spec.worldbody.add_geom(
        type=mujoco.mjtGeom.mjGEOM_BOX, pos=list(pos), size=list(size), rgba=list(rgba)
    )


def _person(spec: mujoco.MjSpec, plant: Plant) -> None:
    p = plant.person
    _trunk(spec, plant)
    m = p.patient.measures
    hip = p.x_of("L4") - (m.iliac_height - m.hip_height)
    shoulder = p.x_of("T2")
    for side in (-1.0, 1.0):
        _leg(spec, p, hip, side)
        _arm(spec, p, shoulder, side)
    _spine(spec, plant)


def _trunk(spec: mujoco.MjSpec, plant: Plant) -> None:
    """Neck to crotch as one lofted body over the contour of the back."""
    p = plant.person
    b = buttock_x(p)
    head = 0.13 * p.patient.stature
    x_o = occiput_x(p)
    m = p.patient.measures
    rings = [  # x, half breadth, depth, bottom over the contour
        (b - 0.12, 0.45 * m.hip_breadth, 0.72 * m.buttock_depth, 0.01),
        (b - 0.05, 0.49 * m.hip_breadth, 0.86 * m.buttock_depth, 0.0),
        (b + 0.03, 0.50 * m.hip_breadth, 0.94 * m.buttock_depth, 0.0),
        (p.s1_x + 0.01, 0.49 * m.hip_breadth, 0.95 * m.waist_depth, 0.0),
        (p.x_of("L3"), 0.50 * m.waist_breadth, m.waist_depth, 0.0),
        (p.x_of("T12"), 0.49 * m.chest_breadth, 0.94 * m.chest_depth, 0.0),
        (p.x_of("T8"), 0.53 * m.chest_breadth, m.chest_depth, 0.0),
        (p.x_of("T4"), 0.56 * m.chest_breadth, 0.92 * m.chest_depth, 0.0),
        (p.x_of("T2"), 0.50 * m.shoulder_breadth, 0.66 * m.chest_depth, 0.0),
        (p.x_of("T1"), 0.36 * m.shoulder_breadth, 0.52 * m.chest_depth, 0.0),
        (p.x_of("C6"), 0.27 * head, 0.46 * head, 0.0),
        (p.x_of("C3"), 0.25 * head, 0.44 * head, 0.0),
    ]
    face = [  # x, half breadth, top and bottom over the mat
        (x_o - 0.070, 0.26 * head, 0.62 * head, None),
        (x_o - 0.045, 0.30 * head, 0.82 * head, None),
        (x_o - 0.010, 0.34 * head, 0.86 * head, None),
        (x_o + 0.030, 0.36 * head, 0.84 * head, 0.002),
        (x_o + 0.065, 0.33 * head, 0.76 * head, 0.012),
        (x_o + 0.092, 0.26 * head, 0.64 * head, 0.036),
        (x_o + 0.108, 0.17 * head, 0.54 * head, 0.064),
        (x_o + 0.115, 0.08 * head, 0.47 * head, 0.085),
    ]
    for at, wide, top, bottom in face:
        skin = float(plant.contour(np.array(at)))
        over = 0.0 if bottom is None else bottom - skin
        rings.append((at, wide, top - skin - over, over))
    x, *others = np.array(rings).T
    fine = np.linspace(x[0], x[-1], 130)
    half, depth, over = (PchipInterpolator(x, v)(fine) for v in others)
    low = plant.contour(fine) + _lift(plant, fine) + over
    _loft(spec, "trunk", fine, p.y_at(fine), low, low + depth, half, SKIN)


def _lift(plant: Plant, x: Array) -> Array:
    """How far the regions rose from rest, at x, m."""
    at = plant.trunk.region_x
    order = np.argsort(at)
    rise = plant.data.qpos[plant.body.body_q[: 2 * len(at) : 2]]
    return np.interp(x, at[order], rise[order])


def _leg(spec: mujoco.MjSpec, p: Person, hip: float, side: float) -> None:
    h, breadth = p.patient.stature, p.patient.measures.hip_breadth
    knee, ankle = hip - 0.245 * h, hip - 0.485 * h
    top = buttock_x(p) - 0.11
    x = np.array([ankle - 0.02, ankle + 0.02, ankle + 0.15, knee - 0.08, knee, top - 0.12, top])
    y = p.y_at(x) + side * np.array(
        [0.13, 0.13, 0.125, 0.12, 0.115, 0.27 * breadth, 0.25 * breadth]
    )
    thick = 0.25 * breadth
    r = np.append(h * np.array([0.022, 0.022, 0.034, 0.033, 0.034]), [0.93 * thick, thick])
    low = np.array([0.0, 0.0, 0.0, 0.02, 0.025, 0.0, 0.01])
    _limb(spec, f"leg{side:+.0f}", x, y, r, low)
    foot = 0.065 * h
    _ellipsoid(
        spec,
        (ankle - 0.03, float(p.y_at(ankle)) + side * 0.145, foot + 0.005),
        (0.32 * foot, 0.36 * foot, 1.05 * foot),
        SKIN,
    )


def _arm(spec: mujoco.MjSpec, p: Person, shoulder: float, side: float) -> None:
    h, out = p.patient.stature, 0.5 * p.patient.measures.shoulder_breadth
    elbow, wrist = shoulder - 0.172 * h, shoulder - 0.33 * h
    x = np.array([wrist - 0.10, wrist - 0.07, wrist, elbow - 0.06, elbow, elbow + 0.12, shoulder])
    y = p.y_at(x) + side * (out + np.array([0.055, 0.055, 0.055, 0.06, 0.06, 0.04, 0.0]))
    r = h * np.array([0.010, 0.019, 0.016, 0.025, 0.024, 0.030, 0.034])
    low = np.array([0.005, 0.0, 0.0, 0.0, 0.0, 0.005, 0.02])
    _limb(spec, f"arm{side:+.0f}", x, y, r, low, ARM)


def _limb(
    spec: mujoco.MjSpec,
    name: str,
    x: Array,
    y: Array,
    r: Array,
    low: Array,
    rgba: tuple[float, float, float, float] = SKIN,
) -> None:
    fine = np.linspace(x[0], x[-1], 50)
    y, r, low = (PchipInterpolator(x, v)(fine) for v in (y, r, low))
    _loft(spec, name, fine, y, low, low + 2.0 * r, r, rgba)


def _spine(spec: mujoco.MjSpec, plant: Plant) -> None:
    """Vertebrae 30 mm over the skin of the back, with their spinous processes (drawing only)."""
    p = plant.person
    x = np.array(p.x)
    skin = plant.contour(x) + _lift(plant, x) + plant.data.qpos[plant.body.level_q]
    gaps = np.gradient(x)
    for i, level in enumerate(LEVELS):
        y = float(p.y_at(x[i]))
        size = 0.42 * gaps[i]
        wide = {"L": 0.024, "T": 0.018, "C": 0.014}[level[0]]
        top = float(skin[i] + 0.040 + wide)
        spec.worldbody.add_geom(
            type=mujoco.mjtGeom.mjGEOM_CYLINDER,
            fromto=[x[i] - size, y, top, x[i] + size, y, top],
            size=[wide, 0.0, 0.0],
            rgba=list(BONE),
        )
        spec.worldbody.add_geom(
            type=mujoco.mjtGeom.mjGEOM_CAPSULE,
            fromto=[x[i], y, top - wide, x[i] - 0.5 * gaps[i], y, float(skin[i]) + 0.012],
            size=[0.0045, 0.0, 0.0],
            rgba=list(BONE),
        )
        for side in (-1.0, 1.0):
            spec.worldbody.add_geom(
                type=mujoco.mjtGeom.mjGEOM_CAPSULE,
                fromto=[x[i], y, top - wide, x[i], y + side * 1.5 * wide, top - 1.1 * wide],
                size=[0.0045, 0.0, 0.0],
                rgba=list(BONE),
            )


def _ellipsoid(
    spec: mujoco.MjSpec,
    pos: tuple[float, float, float],
    size: tuple[float, float, float],
    rgba: tuple[float, float, float, float],
) -> None:
    spec.worldbody.add_geom(
        type=mujoco.mjtGeom.mjGEOM_ELLIPSOID, pos=list(pos), size=list(size), rgba=list(rgba)
    )


def _loft(
    spec: mujoco.MjSpec,
    name: str,
    x: Array,
    y: Array,
    low: Array,
    high: Array,
    half: Array,
    rgba: tuple[float, float, float, float],
) -> None:
    """A closed body through rounded rings across x: from `low` to `high`, `half` to each side."""
    a = np.linspace(0.0, 2.0 * np.pi, RING, endpoint=False)
    power = 0.85  # a little squarer than an ellipse
    across = np.sign(np.cos(a)) * np.abs(np.cos(a)) ** power
    up = np.sign(np.sin(a)) * np.abs(np.sin(a)) ** power
    middle, deep = 0.5 * (low + high), 0.5 * (high - low)
    points = np.stack(
        [
            np.repeat(x[:, None], RING, axis=1),
            y[:, None] + half[:, None] * across,
            middle[:, None] + deep[:, None] * up,
        ],
        axis=2,
    ).reshape(-1, 3)
    ends = np.array([[x[0] - 0.01, y[0], middle[0]], [x[-1] + 0.01, y[-1], middle[-1]]])
    faces = []
    for i in range(len(x) - 1):
        for j in range(RING):
            k = (j + 1) % RING
            p, q, r, s = i * RING + j, i * RING + k, (i + 1) * RING + j, (i + 1) * RING + k
            faces += [(p, q, r), (q, s, r)]
    first, last = len(points), len(points) + 1
    tail = (len(x) - 1) * RING
    for j in range(RING):
        k = (j + 1) % RING
        faces += [(first, k, j), (last, tail + j, tail + k)]
    mesh = spec.add_mesh(name=name)
    mesh.uservert = np.vstack([points, ends]).ravel().astype(np.float32)
    mesh.userface = np.array(faces, dtype=np.int32).ravel()
    mesh.inertia = mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL
    spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_MESH, meshname=name, rgba=list(rgba))
