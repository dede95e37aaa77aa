"""The assembled person and mat as plain numbers, for engines other than MuJoCo.

`read_chain` takes everything from the compiled model of `body.py`: bodies, joints, masses, springs
and couplings. What is written for Gazebo and what DART computes with is therefore the plant
itself, not a second description of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from spinemat_sim.body import DOF_NAMES, Body

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Joint:
    """A joint with one degree of freedom; N, m, rad and s in its numbers.

    Attributes:
        name: as in the MuJoCo model.
        sliding: true: a slide, false: a hinge.
        axis: shape (3,).
        stiffness, reference, damping: of its own spring and damper.
    """

    name: str
    sliding: bool
    axis: tuple[float, float, float]
    stiffness: float
    reference: float
    damping: float


@dataclass(frozen=True)
class Part:
    """A rigid body of the person; it moves by its joints, one after the other.

    Attributes:
        name, parent: of the body and of that which carries it, empty for the world.
        place: in the parent's frame, m.
        mass: kg.
        inertia: about every axis of its centre of mass, which lies in its origin, kg m^2.
    """

    name: str
    parent: str
    place: tuple[float, float, float]
    mass: float
    inertia: float
    joints: tuple[Joint, ...]


@dataclass(frozen=True)
class Chain:
    """The whole model; arrays over all coordinates follow MuJoCo's order.

    Attributes:
        parts: of the person, parents before their children.
        fingers: joints of the mat.
        names: of all coordinates, (nv,).
        mass_matrix: at rest, (nv, nv).
        stiffness, reference, damping: of the joints' own springs and dampers, (nv,).
        rows: couplings: length of a spring between coordinates as a linear form, (k, nv).
        coupling, coupling_damping: their stiffness and damping, (k,).
    """

    parts: tuple[Part, ...]
    fingers: tuple[Joint, ...]
    names: tuple[str, ...]
    mass_matrix: Array
    stiffness: Array
    reference: Array
    damping: Array
    rows: Array
    coupling: Array
    coupling_damping: Array


def _linear(values: Array, count: int) -> Array:
    """The linear coefficient: MuJoCo 4 holds three per element, MuJoCo 3 one."""
    return np.array(values, dtype=float).reshape(count, -1)[:, 0]


def read_chain(body: Body) -> Chain:
    """Read the compiled model of one person on one mat."""
    model = body.model
    stiffness = _linear(model.jnt_stiffness, model.njnt)
    damping = _linear(model.dof_damping, model.nv)

    def joint(i: int) -> Joint:
        x, y, z = (float(v) for v in model.jnt_axis[i])
        return Joint(
            name=model.joint(i).name,
            sliding=bool(model.jnt_type[i] == mujoco.mjtJoint.mjJNT_SLIDE),
            axis=(x, y, z),
            stiffness=float(stiffness[i]),
            reference=float(model.qpos_spring[i]),
            damping=float(damping[i]),
        )

    person = {model.joint(name).bodyid[0] for name in DOF_NAMES}
    parts = []
    for b in sorted(person):
        first, count = int(model.body_jntadr[b]), int(model.body_jntnum[b])
        parent = int(model.body_parentid[b])
        x, y, z = (float(v) for v in model.body_pos[b])
        parts.append(
            Part(
                name=model.body(b).name,
                parent=model.body(parent).name if parent in person else "",
                place=(x, y, z),
                mass=float(model.body_mass[b]),
                inertia=float(model.body_inertia[b][0]),
                joints=tuple(joint(i) for i in range(first, first + count)),
            )
        )
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    matrix = np.zeros((model.nv, model.nv))
    mujoco.mj_fullM(model, data, matrix)
    rows = np.zeros((model.ntendon, model.nv))
    for t in range(model.ntendon):
        first, count = int(model.tendon_adr[t]), int(model.tendon_num[t])
        wraps = slice(first, first + count)
        rows[t, model.wrap_objid[wraps]] = model.wrap_prm[wraps]
    return Chain(
        parts=tuple(parts),
        fingers=tuple(joint(int(i)) for i in body.finger_q),
        names=tuple(model.joint(i).name for i in range(model.njnt)),
        mass_matrix=matrix,
        stiffness=stiffness,
        reference=np.array(model.qpos_spring, dtype=float),
        damping=damping,
        rows=rows,
        coupling=_linear(model.tendon_stiffness, model.ntendon),
        coupling_damping=_linear(model.tendon_damping, model.ntendon),
    )
