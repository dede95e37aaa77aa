"""The person and the mat as one MuJoCo model.

The mat comes from its URDF. The person is `trunk.Trunk`: region bodies with z slide and pitch,
vertebrae with z slide and roll, and springs as fixed tendons. There are no contacts and no joint
limits, hence no constraint solver: a spring that may only press is a tendon whose dead band ends
on one side. Weight acts as a constant force on the regions (gravity is off), so the coordinates of
the person are exactly zero at rest. Drives, the tissue under the tips, creep and protective muscle
tension act as applied forces (`kernel.py`).

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
from spinemat_sim.kernel import BRANCHES
from spinemat_sim.patient import CERVICAL, LEVELS, THORACIC
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
REGION_DAMPING = 0.2  # of critical
VERTEBRA_MASS = 0.3  # share of the region's mass, over all its vertebrae
JOINT_DAMPING = 0.035  # s, over the stiffness: loss factor 0.11 at 0.5 Hz, 0.33 at 1.5 Hz
LEVEL_DAMPING, ROLL_DAMPING = 0.05, 0.2  # of critical
FASTEST = 500.0  # rad/s, fastest movement; lighter parts are made heavier (2 ms steps)
FREE = -1e3  # m, a dead band without lower end

AXES = {"z": [0.0, 0.0, 1.0], "pitch": [0.0, 1.0, 0.0], "roll": [1.0, 0.0, 0.0]}
DOF_NAMES = tuple(
    [f"{r}_{d}" for r in REGIONS for d in ("z", "pitch")]
    + [f"{v}_z" for v in LEVELS]
    + [f"{v}_roll" for v in LEVELS]
)
LEVEL_Z = slice(2 * len(REGIONS), 2 * len(REGIONS) + N_LEVELS)
SLOW = BRANCHES[0][0]  # part of a level spring that creeps over minutes


@dataclass(frozen=True)
class Body:
    """A compiled model and where its parts are.

    Attributes:
        model: MuJoCo model; dead bands in it are changed while it runs.
        finger_q: index of each finger in qpos and qvel, shape (n,).
        body_q: index of each coordinate of `trunk.Trunk` in qpos and qvel, shape (N_DOF,).
        level_q: index of the 24 vertebrae's z among them.
        start, column, value: tip travel minus skin travel as rows of a sparse matrix over qpos:
            entries start[i] to start[i + 1] are those of finger i, the first is its own travel.
        share: of a tip's force on each level, shape (n, 24).
        skin: height of the skin at rest under each tip, shape (n,), m.
        tissue: under each tip, rows `trunk.TissueSpring`, shape (4, n), N/m and m.
        station_tendons: where the padding's tendons are in the model.
        rest_force: constant generalised force (weight, return springs), shape (nv,).
    """

    model: mujoco.MjModel
    finger_q: NDArray[np.int64]
    body_q: NDArray[np.int64]
    level_q: NDArray[np.int64]
    start: NDArray[np.int64]
    column: NDArray[np.int64]
    value: Array
    share: Array
    skin: Array
    tissue: Array
    station_tendons: slice
    rest_force: Array


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
    model = spec.compile()
    finger_q = np.array([model.joint(j).qposadr[0] for j in layout.joint_names])
    body_q = np.array([model.joint(j).qposadr[0] for j in DOF_NAMES])
    start, column, value, share = [0], [], [], np.zeros((layout.n, N_LEVELS))
    for i, (x, y) in enumerate(zip(layout.x, layout.y, strict=True)):
        row = trunk.skin_row(float(x), float(y))
        used = np.flatnonzero(row)
        column += [finger_q[i], *body_q[used]]
        value += [1.0, *-row[used]]
        start.append(len(column))
        share[i] = row[LEVEL_Z]
    rest_force = np.zeros(model.nv)
    rest_force[body_q[: 2 * len(REGIONS) : 2]] = -trunk.region_mass * GRAVITY
    rest_force[finger_q] = -finger.return_preload
    at = zip(layout.x, layout.y, strict=True)
    first = model.tendon("padding_0").id
    return Body(
        model=model,
        finger_q=finger_q,
        body_q=body_q,
        level_q=body_q[LEVEL_Z],
        start=np.array(start),
        column=np.array(column),
        value=np.array(value),
        share=share,
        skin=trunk.skin_height(layout.x),
        tissue=np.array([trunk.tissue(float(x), float(y)) for x, y in at]).T,
        station_tendons=slice(first, first + len(s.x)),
        rest_force=rest_force,
    )


def _tendon(
    spec: mujoco.MjSpec,
    name: str,
    row: Array,
    stiffness: float,
    band: tuple[float, float],
    damping: float = 0.0,
) -> None:
    """A spring, and a damper, on the linear form `row` of the person's coordinates."""
    tendon = spec.add_tendon(name=name)
    for value, dof in zip(row, DOF_NAMES, strict=True):
        if value != 0.0:
            tendon.wrap_joint(dof, float(value))
    set_linear(tendon, "stiffness", stiffness)
    set_linear(tendon, "damping", damping)
    tendon.springlength = [float(band[0]), float(band[1])]


def _person_springs(spec: mujoco.MjSpec, trunk: Trunk) -> None:
    for i in range(len(trunk.joints.stiffness)):
        stiffness = trunk.joints.stiffness[i]
        damping = JOINT_DAMPING * stiffness
        _tendon(spec, f"joint_{i}", trunk.joints.rows[i], stiffness, (0.0, 0.0), damping)


def add_person(spec: mujoco.MjSpec, trunk: Trunk) -> None:
    """Add the person's bodies and joints to a mat, in the order of `DOF_NAMES` within regions."""
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
        body = _body(spec.worldbody, region, trunk.region_x[r], own, inertia)
        _joint(body, f"{region}_z", own, least, REGION_DAMPING)
        _joint(body, f"{region}_pitch", inertia, least, REGION_DAMPING)
        for i in members[region]:
            _vertebra(body, trunk, i, r, mass / len(members[region]), least)


def _felt_stiffness(trunk: Trunk, members: dict[str, list[int]]) -> Array:
    """Stiffness against moving one part alone while all others stay in space, shape (N_DOF,)."""
    s, p, first = trunk.stations, trunk.person, 2 * len(REGIONS)
    matrix = joint_matrix(trunk)
    levels, fast = range(first, first + N_LEVELS), sum(r for r, _ in BRANCHES[1:])
    matrix[levels, levels] += fast * trunk.loss * trunk.level_stiffness
    for i in range(len(s.x)):
        row = trunk.station_row(i)
        matrix += s.stiffness[i] * np.outer(row, row)
    for x in p.x:
        for y in (-ROLL_LEVER, ROLL_LEVER):
            at = float(p.y_at(x)) + y
            row = trunk.skin_row(x, at)
            matrix += trunk.tissue(x, at).hard * np.outer(row, row)
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
    body = _body(parent, level, trunk.person.x[i] - trunk.region_x[region], mass, inertia)
    joint = _joint(body, f"{level}_z", mass, least, LEVEL_DAMPING)
    set_linear(joint, "stiffness", (1.0 - SLOW) * trunk.level_stiffness[i])
    roll = _joint(body, f"{level}_roll", inertia, least, ROLL_DAMPING)
    set_linear(roll, "stiffness", trunk.roll_stiffness[i])


def _body(
    parent: mujoco.MjsBody, name: str, x: float, mass: float, inertia: float
) -> mujoco.MjsBody:
    body = parent.add_body(name=name, pos=[float(x), 0.0, 0.0])
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
