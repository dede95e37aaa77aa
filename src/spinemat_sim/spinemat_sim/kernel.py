"""What happens around one physics step, compiled: drives, tissue, creep, guarding, sensors.

MuJoCo moves the chain of bodies; the forces here are applied to it before each of its steps. They
are loops over fingers and levels, each too short for NumPy: compiled by Numba they cost a few
microseconds. State is held in arrays whose rows are named by the constants below; `plant.py`
fills them and gives them names for people.

- **Drive**: between the slow drive cycle and the physics step a drive's velocity loop is much
  faster than tissue, so it is modelled by its closed form: the motor applies the force that takes
  the tip's velocity to the set-point with a lag, as far as its bounds allow, knowing the load on
  the tip (a drive's integral term would learn it). Coulomb friction acts after the motor. Both
  are exact for one implicit step of MuJoCo, so neither needs a constraint, and a saturated or
  unpowered finger moves by its mass and the forces on it alone.
- **Tissue**: three slopes, no tension, on the difference of tip and skin.
- **Creep**: Maxwell branches beside each level spring, solved exactly over a physics step.
- **Guarding**: levels near a finger that presses hard or fast stiffen after a latency, together
  with the tissue under the tips that lie on them.
- **Softening**: levels that took up work become softer by a share, if the patient is told to.
- **Sensors**: encoder with play and steps, load cell with offset, drift, noise, steps and a
  dependence on temperature, motor winding that warms up.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import llvmlite.binding
import mujoco
import numba
import numpy as np

# Rows of the array of fingers, shape (FINGER_ROWS, n).
(
    GOAL, LOW, HIGH,  # order: velocity, m/s, and bounds of motor force, N
    SKIN, BREATH,  # height of the skin at rest, and by how much a full breath moves it, m
    SOFT, STIFFENING, CORNER, COMPACTING, COMPACT,  # tissue: N/m and m
    FRICTION, PLAY,  # N; m, half of the backlash
    OFFSET, DRIFT, SLOPE,  # of the load cell: N, N per cycle, N/K
    GUARD_FORCE,  # N that provokes guarding
    FORCE, POSITION, INDENTATION, PEAK,  # truth: N, m, m, N in the last cycle
    MOTOR, LAST_FORCE, GUARD, RATE, WORK,  # N, N, activation under the tip, filtered N/s, J
    READ, SPEED, FELT, CURRENT, TEMPERATURE,  # what the sensors say: m, m/s, N, A, degC
    ENCODER,  # m, encoder behind the play
    FINGER_ROWS,
) = range(32)  # fmt: skip
TRUE = slice(FORCE, PEAK + 1)
MEASURED = slice(READ, TEMPERATURE + 1)

# Rows of the array of levels, shape (LEVEL_ROWS, 24).
STIFFNESS, LOSS, LEVEL_GUARD, SOFTENED, LEVEL_WORK, DASHPOT, LEVEL_ROWS = 0, 1, 2, 3, 4, 5, 8

# Numbers that all fingers share.
(
    CYCLE, SPRING, PRELOAD, INERTIA, SHARE, DAMPING, BOTTOM, TOP, MAX_SPEED, MAX_FORCE,
    GUARD_RATE, GUARD_GAIN, GUARD_RISE, GUARD_FADE, SOFTENING, SOFTENING_WORK,
    ENCODER_STEP, FORCE_STEP, FORCE_CONSTANT, AMBIENT, HEAT_RISE, HEAT_SHARE, SPEED_SHARE,
    RATE_SHARE, CREEP,  # one number per branch from here
) = range(25)  # fmt: skip
NUMBERS = CREEP + 3

OVER_TEMPERATURE, END_STOP_BIT = 1, 8  # bits of DriveState.status
HOT = 100.0  # degC of the winding, where OVER_TEMPERATURE starts (choice)
END_STOP = 1e5  # N/m (choice)
STOP_LAG = 0.02  # s, the drive slows down before the ends of the stroke (choice)
BRANCHES = ((0.15, 45.0), (1.3, 0.32), (1.85, 0.035))
"""Creep: stiffness over the level spring's and time constant (s) of each branch.

The slow one gives the published 69 % of two minutes' creep in the first 30 s; the fast ones are
chosen for a loss factor near 0.2 between 0.5 and 1.5 Hz. The first is a part of the level spring,
the others stand beside it, times the level's `Trunk.loss`.
"""
_RATIO = tuple(ratio for ratio, _ in BRANCHES)

# MuJoCo's own function, called from compiled code: one call from Python runs a whole cycle.
(_LIBRARY,) = Path(mujoco.__file__).parent.glob("libmujoco.so*")
llvmlite.binding.load_library_permanently(str(_LIBRARY))
_mj_step = numba.types.ExternalFunction(
    "mj_step", numba.types.void(numba.types.intp, numba.types.intp)
)
# Sums may be reordered and contracted; NaN and infinity keep their meaning.
_compiled: Any = numba.njit(
    cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract", "arcp", "nsz"}
)
_TINY = 1e-12  # filters end here: numbers too small for the processor's fast path cost time


@_compiled
def _steps(value, step):
    return np.rint(value / step) * step if step > 0.0 else value


@_compiled
def _settled(value):
    return value if abs(value) > _TINY else 0.0


@_compiled
def tissue(f, p, index, constant, q, breath):
    """Set indentation, force and peak of every finger from the coordinates `q`."""
    n = f.shape[1]
    column = index[n + 1 :]
    for i in range(n):
        depth = -f[SKIN, i] - breath * f[BREATH, i]
        for k in range(index[i], index[i + 1]):
            depth += constant[k] * q[column[k]]
        force = 0.0
        if depth > 0.0:
            force = f[SOFT, i] * depth
            if depth > f[CORNER, i]:
                force += f[STIFFENING, i] * (depth - f[CORNER, i])
            if depth > f[COMPACT, i]:
                force += f[COMPACTING, i] * (depth - f[COMPACT, i])
            force *= 1.0 + p[GUARD_GAIN] * f[GUARD, i]
        else:
            depth = 0.0
        f[INDENTATION, i] = depth
        f[FORCE, i] = force
        if force > f[PEAK, i]:
            f[PEAK, i] = force


@_compiled
def forces(f, v, p, index, constant, q, speed, applied, breath):
    """Set the applied forces of the next physics step."""
    n, levels = f.shape[1], v.shape[1]
    entries = index[n]
    column, level = index[n + 1 :], index[n + 1 + entries :]
    for k in range(len(applied)):
        applied[k] = constant[entries + k] + breath * constant[entries + len(applied) + k]
    for j in range(levels):
        z = q[level[j]]
        relative = (p[GUARD_GAIN] * v[LEVEL_GUARD, j] - v[SOFTENED, j]) * z
        for b in range(len(_RATIO)):
            stretch = z - v[DASHPOT + b, j]
            v[DASHPOT + b, j] += p[CREEP + b] * stretch
            relative += _RATIO[b] * stretch * (v[LOSS, j] if b > 0 else 1.0)
        applied[level[j]] -= v[STIFFNESS, j] * relative
    base = p[PRELOAD] - p[SPRING] * p[BOTTOM]
    reach = p[INERTIA] * p[SHARE]
    for i in range(n):
        force = f[FORCE, i]
        if force > 0.0:
            for k in range(index[i] + 1, index[i + 1]):
                applied[column[k]] -= constant[k] * force
        finger = column[index[i]]
        x, u = q[finger], speed[finger]
        down, up = (p[BOTTOM] - x) / STOP_LAG, (p[TOP] - x) / STOP_LAG
        goal = min(max(f[GOAL, i], min(down, 0.0)), max(up, 0.0))
        motor = reach * goal + p[SPRING] * x + (p[DAMPING] - reach) * u + force + base
        stop = END_STOP * (x - min(max(x, p[BOTTOM]), p[TOP]))
        motor += stop
        friction = f[FRICTION, i]
        if friction > 0.0:
            motor += math.copysign(friction, p[SHARE] * goal + (1.0 - p[SHARE]) * u)
        motor = min(max(motor, f[LOW, i]), f[HIGH, i])
        drive = motor - p[PRELOAD] - stop - force
        if friction > 0.0:
            free = motor - stop - force - p[SPRING] * x - base + (p[INERTIA] - p[DAMPING]) * u
            drive -= min(max(free, -friction), friction)
        f[MOTOR, i] = motor
        applied[finger] = drive


@_compiled
def begin(f, p, padding, band, breath, velocity, low, high):
    """Take orders and breath of a cycle; false, with nothing done, if they are no good."""
    n = f.shape[1]
    for i in range(n):
        if not (
            math.isfinite(velocity[i])
            and math.isfinite(low[i])
            and math.isfinite(high[i])
            and low[i] <= high[i]
        ):
            return False
    for i in range(n):
        f[GOAL, i] = min(max(velocity[i], -p[MAX_SPEED]), p[MAX_SPEED])
        f[LOW, i] = min(max(low[i], -p[MAX_FORCE]), p[MAX_FORCE])
        f[HIGH, i] = min(max(high[i], -p[MAX_FORCE]), p[MAX_FORCE])
        f[PEAK, i] = 0.0
    for j in range(len(band)):
        band[j] = padding[0, j] + breath * padding[1, j]
    return True


@_compiled
def finish(f, v, p, index, reach, provoked, cycles, q):
    """End a cycle: truth, guarding and softening."""
    n, levels = f.shape[1], v.shape[1]
    column = index[n + 1 :]
    slot = cycles % provoked.shape[0]
    tense = 0.0  # last cycle
    for j in range(levels):
        tense += v[LEVEL_GUARD, j]
        v[LEVEL_GUARD, j] = _settled(p[GUARD_FADE] * v[LEVEL_GUARD, j])
    for i in range(n):
        x, force = q[column[index[i]]], f[FORCE, i]
        change = (force - f[LAST_FORCE, i]) / p[CYCLE]
        f[RATE, i] = _settled(f[RATE, i] + p[RATE_SHARE] * (change - f[RATE, i]))
        if provoked[slot, i] > 0.0:  # one latency ago
            tense = 1.0
            for j in range(levels):
                more = p[GUARD_RISE] * reach[1, i, j] * (1.0 - v[LEVEL_GUARD, j])
                v[LEVEL_GUARD, j] += more
        hard = force > f[GUARD_FORCE, i] or f[RATE, i] > p[GUARD_RATE]
        provoked[slot, i] = 1.0 if hard else 0.0
        work = 0.5 * (force + f[LAST_FORCE, i]) * (x - f[POSITION, i])
        if work > 0.0:
            f[WORK, i] += work
            for j in range(levels):
                v[LEVEL_WORK, j] += reach[0, i, j] * work
        f[LAST_FORCE, i], f[POSITION, i] = force, x
    for i in range(n if tense > 0.0 else 0):
        guard = 0.0
        for j in range(levels):
            guard += reach[0, i, j] * v[LEVEL_GUARD, j]
        f[GUARD, i] = guard
    if p[SOFTENING] > 0.0:
        for j in range(levels):
            v[SOFTENED, j] = p[SOFTENING] * (1.0 - math.exp(-v[LEVEL_WORK, j] / p[SOFTENING_WORK]))


@_compiled
def sense(f, p, status, heard, cycles):
    """Set what the sensors read from true position and force and the motor's force."""
    for i in range(f.shape[1]):
        x = f[POSITION, i]
        f[ENCODER, i] = min(max(f[ENCODER, i], x - f[PLAY, i]), x + f[PLAY, i])
        read = _steps(f[ENCODER, i], p[ENCODER_STEP])
        change = (read - f[READ, i]) / p[CYCLE]
        f[SPEED, i] = _settled(f[SPEED, i] + p[SPEED_SHARE] * (change - f[SPEED, i]))
        f[READ, i] = read
        heat = p[HEAT_RISE] * (f[MOTOR, i] / p[MAX_FORCE]) ** 2
        f[TEMPERATURE, i] += p[HEAT_SHARE] * (p[AMBIENT] + heat - f[TEMPERATURE, i])
        felt = f[FORCE, i] + f[OFFSET, i] + cycles * f[DRIFT, i] + heard[i]
        felt += f[SLOPE, i] * (f[TEMPERATURE, i] - p[AMBIENT])
        f[FELT, i] = _steps(felt, p[FORCE_STEP])
        f[CURRENT, i] = f[MOTOR, i] / p[FORCE_CONSTANT]
        status[i] = 0
        if f[TEMPERATURE, i] > HOT:
            status[i] |= OVER_TEMPERATURE
        if x >= p[TOP]:
            status[i] |= END_STOP_BIT


@_compiled
def padding_loads(padding, region, band, load, q):
    """Set the load of every padding station, N, and return their sum; see `cycle`."""
    total = 0.0
    for j in range(len(band)):
        length = padding[2, j] * q[region[j] + 1] - q[region[j]]
        load[j] = max(length - band[j], 0.0) * padding[3, j]
        total += load[j]
    return total


@_compiled
def cycle(
    model,
    data,
    substeps,
    f,
    v,
    p,
    index,
    constant,
    reach,
    provoked,
    status,
    noise,
    padding,
    region,
    band,
    load,
    q,
    speed,
    applied,
    cycles,
    breath,
    velocity,
    low,
    high,
):
    """Run one drive cycle with its physics steps.

    Args:
        model, data: addresses of MuJoCo's structures.
        substeps: physics steps in the cycle.
        f, v, p: state of fingers and levels, and numbers; rows as named above.
        index: unsigned numbers one after the other: where in `constant` the row of each finger
            starts (n + 1), the coordinate of each entry, the coordinate of each vertebra (24).
        constant: tip travel minus skin travel as sparse rows over `q`, the first entry of a row
            is the finger itself; then the constant forces and what a full breath adds, N.
        reach: share of a tip's force on each level, and whether the level tenses when the finger
            provokes guarding (1 or 0), shape (2, n, 24).
        provoked: ring of past stimuli (1 or 0), shape (latency in cycles, n).
        status: result, bits of the drives, shape (n,).
        noise: of the load cells, one row per cycle in turn, shape (k, n), N.
        padding: of each padding station: dead band at rest and its movement in a breath, m, place
            over its region's centre, m, and stiffness, N/m; shape (4, k).
        region: coordinate of the region's z under each station; its pitch is the next one.
        band: dead bands in MuJoCo's model, shape (k,), m.
        load: result, load of the stations, shape (k,), N.
        q, speed, applied: MuJoCo's coordinates, their speeds and the applied forces.
        cycles: number of this cycle.
        breath: 0 to 1.
        velocity, low, high: orders, shape (n,), m/s, N, N.

    Returns:
        The load of the padding, N; -1, with nothing done, if an order is not finite or a low bound
        above its high bound.
    """
    if not begin(f, p, padding, band, breath, velocity, low, high):
        return -1.0
    for _ in range(substeps):
        forces(f, v, p, index, constant, q, speed, applied, breath)
        _mj_step(model, data)
        tissue(f, p, index, constant, q, breath)
    finish(f, v, p, index, reach, provoked, cycles, q)
    sense(f, p, status, noise[cycles % noise.shape[0]], cycles)
    return padding_loads(padding, region, band, load, q)
