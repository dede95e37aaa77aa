"""Identify the reduced-order twin of a person from the plant.

The plant's body is pushed a little along each of its coordinates, at rest and with all fingers
down, and its restoring and damping forces are read: that gives the stiffness and the damping of
chain, joints and padding. Level springs with their creep branches stand beside it. From these
follows how the skin under every finger gives way in time to a force that begins on any finger;
three retardation times that fit best are sought, and then the matrices that belong to them.
Tissue slopes and contact heights are the plant's.
"""

from __future__ import annotations

import mujoco
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from spinemat.twin import REGIONS, Twin
from spinemat_sim.body import SLOW
from spinemat_sim.kernel import BRANCHES
from spinemat_sim.plant import Plant
from spinemat_sim.trunk import COMPACTED, GRAVITY

Array = NDArray[np.float64]

NUDGE = 1e-6  # m or rad, and per s
SAMPLES = np.geomspace(0.01, 200.0, 60)  # s
FIRST_GUESS = (0.05, 0.6, 50.0)  # s


def identify(plant: Plant) -> Twin:
    """The twin (of one person) of a plant at rest.

    Args:
        plant: as made; it is not changed.
    """
    body, trunk, n = plant.body, plant.trunk, plant.layout.n
    stiffness, damping = _passive(plant)
    tips = np.zeros((n, len(body.body_q)))
    place = {int(q): i for i, q in enumerate(body.body_q)}
    for i in range(n):
        for k in range(body.start[i] + 1, body.start[i + 1]):
            tips[i, place[int(body.column[k])]] = -body.value[k]
    levels = np.array([place[int(q)] for q in body.level_q])
    springs = np.array(
        [SLOW * trunk.level_stiffness]
        + [ratio * trunk.loss * trunk.level_stiffness for ratio, _ in BRANCHES[1:]]
    )
    response, unloading = _step_response(
        stiffness, damping, levels, springs, tips, _padding(plant, tips.shape[1])
    )
    times = _best_times(response)
    basis = _basis(times)
    quick, *creep = _parts(basis, response)
    soft, hard, corner, compact = body.tissue
    first = soft * corner
    return Twin(
        quick=quick[None],
        creep=np.array(creep)[None],
        times=np.repeat(times[:, None], n, axis=1)[None],
        slopes=np.array([soft, hard, COMPACTED * hard])[None],
        corners=np.array([first, first + hard * (compact - corner)])[None],
        weight=(trunk.region_mass * GRAVITY)[None],
        unloading=_parts(basis, unloading)[None],
        contact=body.skin[None],
    )


def _passive(plant: Plant) -> tuple[Array, Array]:
    """Stiffness and damping of the body without creep branches and tissue, by differences."""
    model, at = plant.model, plant.body.body_q
    data = mujoco.MjData(model)
    found = []
    for values in (data.qpos, data.qvel):
        columns = []
        for q in at:
            forces = []
            for side in (1.0, -1.0):
                data.qpos[:], data.qvel[:] = 0.0, 0.0
                values[q] = side * NUDGE
                mujoco.mj_fwdPosition(model, data)
                mujoco.mj_fwdVelocity(model, data)
                forces.append(data.qfrc_passive[at].copy())
            columns.append((forces[1] - forces[0]) / (2.0 * NUDGE))
        found.append(np.array(columns).T)
    return found[0], found[1]


def _step_response(
    stiffness: Array,
    damping: Array,
    levels: NDArray[np.int64],
    springs: Array,
    tips: Array,
    padding: Array,
) -> tuple[Array, Array]:
    """What follows when 1 N begins on each tip, inertia left out, at the times `SAMPLES`.

    Args:
        stiffness, damping: of the body, shape (dof, dof).
        levels: where the levels stand in it.
        springs: of the creep branches, shape (branches, levels), N/m.
        tips: height of the skin under each tip, shape (n, dof).
        padding: load that each region loses as the body rises, shape (4, dof), N/m.

    Returns:
        How the skin moves, shape (t, n, n), m/N, and what the regions lose, shape (t, 4, n).
    """
    dof, k = len(stiffness), len(levels)
    stiff = stiffness.copy()
    stiff[levels, levels] += springs.sum(axis=0)
    size = dof + springs.size
    rate = np.zeros((size, size))
    rate[:dof, :dof] = -stiff
    for b, (_, time) in enumerate(BRANCHES):
        mine = dof + b * k + np.arange(k)
        rate[levels, mine] = springs[b]
        rate[mine, levels], rate[mine, mine] = 1.0 / time, -1.0 / time
    rate[:dof] = np.linalg.solve(damping, rate[:dof])
    push = np.zeros((size, len(tips)))
    push[:dof] = np.linalg.solve(damping, tips.T)
    values, vectors = np.linalg.eig(rate)
    parts = np.linalg.solve(vectors, push.astype(complex))

    def at(time: float) -> Array:
        grown = (np.expm1(values * time) / values)[:, None] * parts
        return np.asarray((vectors[:dof] @ grown).real)

    moved = [at(t) for t in SAMPLES]
    return np.array([tips @ q for q in moved]), np.array([padding @ q for q in moved])


def _parts(basis: Array, response: Array) -> Array:
    """Quick and retarded parts of a response, shape (1 + k, ...) of (t, ...)."""
    found = np.linalg.lstsq(basis, response.reshape(len(basis), -1), rcond=None)[0]
    return np.asarray(found, dtype=np.float64).reshape(-1, *response.shape[1:])


def _basis(times: Array) -> Array:
    """A quick part and one retarded part per time, shape (len(SAMPLES), 1 + k)."""
    return np.column_stack([np.ones_like(SAMPLES), *(1.0 - np.exp(-SAMPLES / t) for t in times)])


def _best_times(response: Array) -> Array:
    """Retardation times with which the own movement of all fingers is fitted best, s."""
    own = np.diagonal(response, axis1=1, axis2=2)
    own = own / own[-1]

    def misfit(logs: Array) -> Array:
        basis = _basis(np.exp(logs))
        return np.asarray((own - basis @ np.linalg.lstsq(basis, own, rcond=None)[0]).ravel())

    found = least_squares(misfit, np.log(FIRST_GUESS))
    return np.sort(np.exp(found.x))


def _padding(plant: Plant, dof: int) -> Array:
    """What each region's padding loses as the body rises, shape (4, dof), N/m."""
    s = plant.trunk.stations
    off = np.zeros((len(REGIONS), dof))
    for i, region in enumerate(s.region):
        off[region] += s.stiffness[i] * plant.trunk.station_row(i)
    return off
