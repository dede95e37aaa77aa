"""The person and the mat as one MuJoCo model.

The mat comes from its URDF. The person is `trunk.Trunk`: region bodies with z slide and pitch,
vertebrae with z slide and roll, and springs as fixed tendons. There are no contacts and no joint
limits, hence no constraint solver: a spring that may only press is a tendon whose dead band ends
on one side. Weight acts as a constant force on the regions (gravity is off), so the coordinates of
the person are exactly zero at rest. Drives (`drives.py`) and the tissue's creep (`Creep`) act as
applied forces.

Numbers without a source are engineering choices.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from spinemat.errors import InvalidInput
from spinemat.layout import MatLayout
from spinemat_sim.drives import END_STOP
from spinemat_sim.person import CERVICAL, LEVELS, THORACIC
from spinemat_sim.trunk import (
    GRAVITY,
    N_LEVELS,
    REGIONS,
    ROLL_LEVER,
    Trunk,
    joint_matrix,
)

Array = NDArray[np.float64]

TIME_STEP = 0.002  # s
MAXWELL_RATIO, MAXWELL_TIME = 3.0, 0.12  # branch over level spring; s (loss factor about 0.2)
REGION_DAMPING = 0.2  # of critical
VERTEBRA_MASS = 0.3  # share of the region's mass, over all its vertebrae
LEVEL_DAMPING, ROLL_DAMPING = 0.05, 0.2  # of critical
FASTEST = 500.0  # rad/s, fastest movement; lighter parts are made heavier (2 ms steps)
FREE = -1e3  # m, a dead band without lower end

AXES = {"z": [0.0, 0.0, 1.0], "pitch": [0.0, 1.0, 0.0], "roll": [1.0, 0.0, 0.0]}
DOF_NAMES = tuple(
    [f"{r}_{d}" for r in REGIONS for d in ("z", "pitch")]
    + [f"{v}_z" for v in LEVELS]
    + [f"{v}_roll" for v in LEVELS]
)


@dataclass(frozen=True)
class Body:
    """A compiled model and where its parts are.

    Attributes:
        model: MuJoCo model; dead bands in it are changed while it runs.
        finger_q: index of each finger in qpos and qvel, shape (n,).
        body_q: index of each coordinate of `trunk.Trunk` in qpos and qvel, shape (N_DOF,).
        level_q: index of the 24 vertebrae's z among them.
        tip_rows: tip travel minus skin travel as a linear form of qpos, shape (n, nq).
        station_rows: the negative height of each padding station, shape (32, nq).
        skin: dead band of each tip: height of the skin at rest, shape (n,), m.
        soft, stiffening, corner: tissue under each tip: stiffness in the toe, N/m, what it gains
            beyond, N/m, and the indentation where, m; shape (n,) each.
        tip_tendons, corner_tendons, station_tendons: tendon indices.
        rest_force: constant generalised force (weight, return springs), shape (nv,).
    """

    model: mujoco.MjModel
    finger_q: NDArray[np.int64]
    body_q: NDArray[np.int64]
    level_q: NDArray[np.int64]
    tip_rows: Array
    station_rows: Array
    skin: Array
    soft: Array
    stiffening: Array
    corner: Array
    tip_tendons: NDArray[np.int64]
    corner_tendons: NDArray[np.int64]
    station_tendons: NDArray[np.int64]
    rest_force: Array

    def tissue_force(self, indentation: Array) -> Array:
        """Force of the tissue at an indentation >= 0, shape (n,), N."""
        beyond = np.maximum(indentation - self.corner, 0.0)
        return self.soft * indentation + self.stiffening * beyond


class Creep:
    """Maxwell branches beside the level springs, each solved exactly over a physics step.

    Args:
        stiffness: of the level springs, shape (24,), N/m.
        step: physics step, s.
    """

    def __init__(self, stiffness: Array, step: float) -> None:
        self._stiffness = -MAXWELL_RATIO * stiffness
        self._share = 1.0 - np.exp(-step / MAXWELL_TIME)
        self._dashpot = np.zeros(len(stiffness))

    def force(self, z: Array) -> Array:
        """Force of the branches on the vertebrae at the end of a step, shape (24,), N."""
        stretch = z - self._dashpot
        self._dashpot += self._share * stretch
        return self._stiffness * stretch


def set_linear(element: Any, field: str, coefficient: float) -> None:
    """Set a stiffness or damping; MuJoCo 4 holds three coefficients, MuJoCo 3 one number."""
    scalar = np.ndim(getattr(element, field)) == 0
    setattr(element, field, float(coefficient) if scalar else [float(coefficient), 0.0, 0.0])


def mat_spec(layout: MatLayout, urdf: str) -> mujoco.MjSpec:
    """The mat's URDF as an editable model with the layout's fingers.

    Raises:
        InvalidInput: not a URDF, or its joints are not those of the layout.
    """
    try:
        spec = mujoco.MjSpec.from_string(urdf)
    except ValueError as error:
        raise InvalidInput("urdf", urdf[:40], f"a URDF that MuJoCo reads ({error})") from error
    joints = tuple(j.name for j in spec.joints)
    if joints != layout.joint_names:
        wanted = f"{layout.joint_names[:4]} … of the layout"
        raise InvalidInput("urdf joints", joints[:4], wanted)
    return spec


def build_body(trunk: Trunk, layout: MatLayout, urdf: str) -> Body:
    """Compile the model of one person on one mat.

    Raises:
        InvalidInput: see `mat_spec`.
    """
    spec = mat_spec(layout, urdf)
    for geom in list(spec.geoms):
        spec.delete(geom)  # shapes only cost time here; `figure.py` draws
    spec.option.timestep = TIME_STEP
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.gravity = [0.0, 0.0, 0.0]
    add_person(spec, trunk)
    finger = layout.finger
    for joint in spec.joints[: layout.n]:
        joint.limited = joint.actfrclimited = mujoco.mjtLimited.mjLIMITED_FALSE
        joint.frictionloss = 0.0  # `drives.py` does it without constraints
        set_linear(joint, "stiffness", finger.return_stiffness)
        joint.springref = finger.stroke[0]

    _person_springs(spec, trunk)
    s = trunk.stations
    for i in range(len(s.x)):
        band = (FREE, -s.rest_load[i] / s.stiffness[i])
        _tendon(spec, f"padding_{i}", -trunk.station_row(i), s.stiffness[i], band)
    for name in layout.joint_names:
        _tendon(spec, f"{name}_stop", np.zeros(0), END_STOP, finger.stroke, name)
    soft, hard, corner = _tissue(trunk, layout)
    skin = trunk.skin_height(layout.x)
    for i, (name, x, y) in enumerate(zip(layout.joint_names, layout.x, layout.y, strict=True)):
        row = -trunk.skin_row(float(x), float(y))
        _tendon(spec, f"{name}_soft", row, soft[i], (FREE, skin[i]), name)
        band = (FREE, skin[i] + corner[i])
        _tendon(spec, f"{name}_hard", row, hard[i] - soft[i], band, name)

    model = spec.compile()
    finger_q = np.array([model.joint(j).qposadr[0] for j in layout.joint_names])
    body_q = np.array([model.joint(j).qposadr[0] for j in DOF_NAMES])
    tip_rows = np.zeros((layout.n, model.nq))
    tip_rows[np.arange(layout.n), finger_q] = 1.0
    for i in range(layout.n):
        tip_rows[i, body_q] = -trunk.skin_row(float(layout.x[i]), float(layout.y[i]))
    station_rows = np.zeros((len(s.x), model.nq))
    station_rows[:, body_q] = [-trunk.station_row(i) for i in range(len(s.x))]
    rest_force = np.zeros(model.nv)
    rest_force[body_q[: 2 * len(REGIONS) : 2]] = -trunk.region_mass * GRAVITY
    rest_force[finger_q] = -finger.return_preload

    def tendons(names: list[str]) -> NDArray[np.int64]:
        return np.array([model.tendon(t).id for t in names])

    return Body(
        model=model,
        finger_q=finger_q,
        body_q=body_q,
        level_q=body_q[2 * len(REGIONS) : 2 * len(REGIONS) + N_LEVELS],
        tip_rows=tip_rows,
        station_rows=station_rows,
        skin=skin,
        soft=soft,
        stiffening=hard - soft,
        corner=corner,
        tip_tendons=tendons([f"{j}_soft" for j in layout.joint_names]),
        corner_tendons=tendons([f"{j}_hard" for j in layout.joint_names]),
        station_tendons=tendons([f"padding_{i}" for i in range(len(s.x))]),
        rest_force=rest_force,
    )


def _tissue(trunk: Trunk, layout: MatLayout) -> tuple[Array, Array, Array]:
    at = zip(layout.x, layout.y, strict=True)
    found = [trunk.tissue(float(x), float(y)) for x, y in at]
    soft, hard, corner = np.array(found).T
    return soft, hard, corner


def _tendon(
    spec: mujoco.MjSpec,
    name: str,
    row: Array,
    stiffness: float,
    band: tuple[float, float],
    finger: str | None = None,
) -> None:
    """A spring on the linear form `row` of the person's coordinates, plus one finger's travel."""
    tendon = spec.add_tendon(name=name)
    if finger is not None:
        tendon.wrap_joint(finger, 1.0)
    for value, dof in zip(row, DOF_NAMES[: len(row)], strict=True):
        if value != 0.0:
            tendon.wrap_joint(dof, float(value))
    set_linear(tendon, "stiffness", stiffness)
    tendon.springlength = [float(band[0]), float(band[1])]


def _person_springs(spec: mujoco.MjSpec, trunk: Trunk) -> None:
    for i in range(len(trunk.joints.stiffness)):
        stiffness = trunk.joints.stiffness[i]
        _tendon(spec, f"joint_{i}", trunk.joints.rows[i], stiffness, (0.0, 0.0))


def add_person(spec: mujoco.MjSpec, trunk: Trunk) -> None:
    """Add the person's bodies and joints to a mat, in the order of `DOF_NAMES` within regions."""
    person = trunk.person
    members: dict[str, list[int]] = {r: [] for r in REGIONS}
    for i, level in enumerate(LEVELS):
        region = "head" if level in CERVICAL else "thorax" if level in THORACIC else "abdomen"
        members[region].append(i)
    s = trunk.stations
    least = dict(zip(DOF_NAMES, _felt_stiffness(trunk, members) / FASTEST**2, strict=True))
    for r, region in enumerate(REGIONS):
        mass = float(trunk.region_mass[r])
        own = mass * (1.0 - (VERTEBRA_MASS if members[region] else 0.0))
        mine = s.region == r
        inertia = max(mass * np.ptp(s.x[mine]) ** 2 / 12.0, least[f"{region}_pitch"])
        body = _body(spec.worldbody, region, trunk.region_x[r], person.y, own, inertia)
        _joint(body, f"{region}_z", own, least, REGION_DAMPING)
        _joint(body, f"{region}_pitch", inertia, least, REGION_DAMPING)
        for i in members[region]:
            _vertebra(body, trunk, i, r, mass / len(members[region]), least)


def _felt_stiffness(trunk: Trunk, members: dict[str, list[int]]) -> Array:
    """Stiffness against moving one part alone while all others stay in space, shape (N_DOF,)."""
    s, p, first = trunk.stations, trunk.person, 2 * len(REGIONS)
    matrix = joint_matrix(trunk)
    matrix[range(first, first + N_LEVELS), range(first, first + N_LEVELS)] += (
        MAXWELL_RATIO * trunk.level_stiffness
    )
    for i in range(len(s.x)):
        row = trunk.station_row(i)
        matrix += s.stiffness[i] * np.outer(row, row)
    for x in p.x:
        for y in (-ROLL_LEVER, ROLL_LEVER):
            row = trunk.skin_row(x, p.y + y)
            matrix += trunk.tissue(x, y)[1] * np.outer(row, row)
    # A vertebra that stays in space moves against the region that moves.
    alone = np.eye(len(matrix))
    for r, region in enumerate(REGIONS):
        for i in members[region]:
            alone[first + i] -= trunk.region_row(r, p.x[i])
    return np.diag(alone.T @ matrix @ alone)


def _vertebra(
    parent: mujoco.MjsBody,
    trunk: Trunk,
    i: int,
    region: int,
    share: float,
    least: dict[str, float],
) -> None:
    level = LEVELS[i]
    mass = max(VERTEBRA_MASS * share, least[f"{level}_z"])
    inertia = max(mass * 0.06**2, least[f"{level}_roll"])
    body = _body(parent, level, trunk.person.x[i] - trunk.region_x[region], 0.0, mass, inertia)
    joint = _joint(body, f"{level}_z", mass, least, LEVEL_DAMPING)
    set_linear(joint, "stiffness", trunk.level_stiffness[i])
    roll = _joint(body, f"{level}_roll", inertia, least, ROLL_DAMPING)
    set_linear(roll, "stiffness", trunk.roll_stiffness[i])


def _body(
    parent: mujoco.MjsBody, name: str, x: float, y: float, mass: float, inertia: float
) -> mujoco.MjsBody:
    body = parent.add_body(name=name, pos=[float(x), float(y), 0.0])
    body.explicitinertial = True
    body.mass, body.ipos = float(mass), [0.0, 0.0, 0.0]
    body.inertia = [float(inertia)] * 3
    return body


def _joint(
    body: mujoco.MjsBody, name: str, inertia: float, least: dict[str, float], damping: float
) -> mujoco.MjsJoint:
    """A joint named after its movement (z, pitch, roll), damped by a share of critical."""
    axis = name.rsplit("_", 1)[1]
    kind = mujoco.mjtJoint.mjJNT_SLIDE if axis == "z" else mujoco.mjtJoint.mjJNT_HINGE
    joint = body.add_joint(name=name, type=kind)
    joint.axis = AXES[axis]
    set_linear(joint, "damping", 2.0 * damping * FASTEST * np.sqrt(least[name] * inertia))
    return joint
