"""Identify the reduced-order twin of a person from the plant.

The plant's body is pushed a little along each of its coordinates, at rest and with all fingers
down, and its restoring and damping forces are read: with the masses, that gives the dynamics of
chain, joints and padding. Level springs with their creep branches stand beside it. From these
follows how the skin under every finger gives way to a force that comes and goes on any finger;
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
from spinemat_sim.trunk import COMPACTED

Array = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]

NUDGE = 1e-6  # m or rad, and per s
RATES = np.geomspace(0.001, 3.0, 40)  # Hz, at which the twin is fitted (choice)
SHARING_RATE = 0.5  # Hz (choice)
FIRST_GUESS = (0.05, 0.6, 50.0)  # s


def identify(plant: Plant) -> Twin:
    """The twin (of one person) of a plant at rest.

    Args:
        plant: as made; it is not changed.
    """
    body, trunk, n = plant.body, plant.trunk, plant.layout.n
    tips = np.zeros((n, len(body.body_q)))
    place = {int(q): i for i, q in enumerate(body.body_q)}
    for i in range(n):
        for k in range(body.start[i] + 1, body.start[i + 1]):
            tips[i, place[int(body.column[k])]] = -body.value[k]
    levels = np.array([place[int(q)] for q in body.level_q])
    s = trunk.stations
    places = np.array([trunk.station_row(i) for i in range(len(s.x))])
    travel, load, sharing = _response(plant, tips, levels, places)
    times = _best_times(travel)
    basis = _basis(times)
    quick, *creep = _parts(basis, travel)
    soft, hard, corner, compact = body.tissue
    first = soft * corner
    return Twin(
        quick=quick[None],
        creep=np.array(creep)[None],
        times=np.repeat(times[:, None], n, axis=1)[None],
        slopes=np.array([soft, hard, COMPACTED * hard])[None],
        corners=np.array([first, first + hard * (compact - corner)])[None],
        padding=s.rest_load.reshape(1, len(REGIONS), -1),
        unloading=_parts(basis, load).reshape(1, 1 + len(times), len(REGIONS), -1, n),
        sharing=sharing[None],
        contact=body.skin[None],
    )


def _matrices(plant: Plant) -> tuple[Array, Array, Array]:
    """Stiffness, damping and mass of the body without creep branches and tissue."""
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
    columns = []
    for unit in np.eye(model.nv)[at]:
        column = np.zeros(model.nv)
        mujoco.mj_mulM(model, data, column, unit)
        columns.append(column[at])
    return found[0], found[1], np.array(columns)


def _response(
    plant: Plant, tips: Array, levels: NDArray[np.int64], places: Array
) -> tuple[ComplexArray, ComplexArray, Array]:
    """What follows from 1 N on each tip that comes and goes at the frequencies `RATES`.

    Args:
        plant: at rest.
        tips: height of the skin under each tip, shape (n, dof).
        levels: which coordinates the levels' own are, shape (24,).
        places: height of each place of the padding, shape (places, dof).

    Returns:
        How the skin moves, shape (f, n, n), m/N; what the places lose, shape (f, places, n); and
        what they lose to 1 N on another one at `SHARING_RATE`, shape (places, places).
    """
    stiffness, damping, mass = _matrices(plant)
    padding = plant.trunk.stations.stiffness[:, None] * places
    level, loss = plant.trunk.level_stiffness, plant.trunk.loss
    springs = [SLOW * level, *(ratio * loss * level for ratio, _ in BRANCHES[1:])]

    def moved(rate: float, push: Array) -> ComplexArray:
        s = 2j * np.pi * rate
        whole = stiffness + s * damping + s * s * mass
        for spring, (_, time) in zip(springs, BRANCHES, strict=True):
            whole[levels, levels] += spring * s * time / (1.0 + s * time)
        return np.asarray(np.linalg.solve(whole, push.T.astype(complex)))

    both = [moved(float(rate), tips) for rate in RATES]
    sharing = (padding @ moved(SHARING_RATE, places)).real
    return np.array([tips @ q for q in both]), np.array([padding @ q for q in both]), sharing


def _parts(basis: ComplexArray, response: ComplexArray) -> Array:
    """Quick and retarded parts of a response, shape (1 + k, ...) of (f, ...)."""
    flat = _real(response.reshape(len(basis), -1))
    found = np.linalg.lstsq(_real(basis), flat, rcond=None)[0]
    return np.asarray(found, dtype=np.float64).reshape(-1, *response.shape[1:])


def _basis(times: Array) -> ComplexArray:
    """A quick part and one retarded part per time, shape (len(RATES), 1 + k)."""
    s = 2j * np.pi * RATES
    return np.column_stack([np.ones_like(s), *(1.0 / (1.0 + s * t) for t in times)])


def _best_times(response: ComplexArray) -> Array:
    """Retardation times with which the own movement of all fingers is fitted best, s."""
    own = np.diagonal(response, axis1=1, axis2=2)
    own = own / np.abs(own[0])

    def misfit(logs: Array) -> Array:
        basis = _basis(np.exp(logs))
        return _real(own - basis @ _parts(basis, own)).ravel()

    found = least_squares(misfit, np.log(FIRST_GUESS))
    return np.sort(np.exp(found.x))


def _real(values: ComplexArray) -> Array:
    """Real and imaginary parts one after the other, shape (2 f, ...) of (f, ...)."""
    return np.concatenate([values.real, values.imag])
