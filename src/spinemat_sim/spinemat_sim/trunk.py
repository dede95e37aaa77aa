"""The lying person as springs: degrees of freedom, tissue, padding and their calibration.

Four trunk regions (head, thorax, abdomen, pelvis) move in z and pitch; 24 vertebrae move on them
in z and roll. Everything that joins them is linear or one-sided linear in these coordinates, so
the whole person is a list of rows (a spring's length as a linear form of the coordinates), a list
of stiffnesses and a list of dead bands. `body.py` turns the rows into fixed tendons of MuJoCo; the
static solver here calibrates the level springs on the same rows.

The coordinates are zero at rest, by construction: each padding station starts compressed by its
share of the region's weight.

Numbers named "choice" are engineering choices of this project, not literature.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spinemat_sim.contour import buttock_x, occiput_x, skin_midline
from spinemat_sim.patient import CERVICAL, LEVELS, THORACIC
from spinemat_sim.person import Person

Array = NDArray[np.float64]

GRAVITY = 9.81  # m/s^2
REGIONS = ("head", "thorax", "abdomen", "pelvis")
MASS_FRACTION = (0.081, 0.216, 0.139, 0.142)  # of body mass, head with neck
N_REGIONS, N_LEVELS = len(REGIONS), len(LEVELS)
N_DOF = 2 * N_REGIONS + 2 * N_LEVELS  # z, pitch per region; z per vertebra; roll per vertebra
_Z, _ROLL = 2 * N_REGIONS, 2 * N_REGIONS + N_LEVELS

PADDING = 100e3  # N/m per region (choice, from a trial)
STATIONS = 8  # per region (choice)
# Where the weight rests. Plain shapes and round numbers (choices), taken with supine pressure maps
# in view (`pressure.py`); the loads themselves are the mass fractions.
RIBS = 0.7  # half length of the thorax' support over T1-T12: shoulders to lowest ribs
PELVIS_HALF, HEAD_HALF = 0.12, 0.045  # m
HOLLOW = 0.02  # m of skin over the mat that divide the loins' load by e
LINK_SHEAR, LINK_BEND = 60e3, 400.0  # N/m, N m/rad between regions (choice, from a trial)
SHEAR_RATIO = 0.2  # shear spring between neighbours over their mean PA stiffness (choice)
ROLL_LEVER, ROLL_RATIO = 0.026, 2.0  # m; roll stiffness over PA stiffness times lever^2 (choice)
SACRUM_RATIO, SACRUM_SHARE = 1.3, 0.8  # sacrum: stiffness over L5's, at most this of its tissue's
COMPACT = 0.5  # of a layer's thickness: compressed by more, it is compacted (choice)
COMPACTED = 10.0  # stiffness of a compacted layer over its own (choice)
TOE = 0.4  # stiffness in the toe over the linear one (choice)
TOE_NECK, TOE_TRUNK = 7.0, 20.0  # N per pair at the end of the toe
MEAN_SHARE, LOSS_POWER = 0.5, 2.3  # of the level springs in a press; see `Trunk.loss` (choices)
FIT_NECK, FIT_TRUNK = (7.0, 18.0), (20.0, 38.0)  # N per pair, interval of the stiffness
SPREAD = 0.5  # of the local level spacing: width of the kernel, about 15 mm (choice)
BREATH_ON_PADDING = 0.3  # of the skin's excursion where the skin carries weight (choice)
BREATH_LOAD = 0.02  # of the thorax' weight that the loins give it in inspiration (choice)


class TissueSpring(NamedTuple):
    """Tissue under one finger tip: three slopes, none in tension.

    Attributes:
        soft: stiffness in the toe, N/m.
        hard: stiffness beyond it, N/m.
        corner: indentation where the toe ends, m.
        compact: indentation where the layer is compacted and `COMPACTED` times as stiff, m.
    """

    soft: float
    hard: float
    corner: float
    compact: float


@dataclass(frozen=True)
class Stations:
    """Padding under the person, all regions, shape (32,) each."""

    x: Array  # m
    region: NDArray[np.int64]
    stiffness: Array  # N/m
    rest_load: Array  # N


@dataclass(frozen=True)
class Springs:
    """Two-sided springs: `rows` (k, N_DOF) and `stiffness` (k,)."""

    rows: Array
    stiffness: Array


@dataclass(frozen=True)
class Trunk:
    """One person as springs; see the module's text.

    Attributes:
        region_x: pitch axis and centre of mass of each region, shape (4,), m.
        region_mass: shape (4,), kg.
        node_x, node_region, node_level: what the tissue rests on: vertebrae and points of the
            sacrum and the occiput; `node_level` is -1 where the node is part of the region.
        stations: padding.
        joints: springs between vertebrae and between regions.
        level_stiffness: z spring of each vertebra against its region as a press of some seconds
            feels it (creep over minutes not yet begun), shape (24,), N/m.
        loss: of each vertebra's fast creep over that of `kernel.BRANCHES`, shape (24,): more where
            a level's own spring is a smaller part of what a press feels, since joints, padding and
            tissue have no loss of their own here, so that levels lose alike (choice).
        skin_x, skin_z: the skin's midline at rest, m.
    """

    person: Person
    region_x: Array
    region_mass: Array
    node_x: Array
    node_region: NDArray[np.int64]
    node_level: NDArray[np.int64]
    stations: Stations
    joints: Springs
    level_stiffness: Array
    loss: Array
    skin_x: Array
    skin_z: Array

    @property
    def roll_stiffness(self) -> Array:
        """Roll spring of each vertebra, shape (24,), N m/rad."""
        return ROLL_RATIO * np.array(self.person.patient.stiffness) * ROLL_LEVER**2

    def region_row(self, region: int, x: float) -> Array:
        """Height of a point fixed to a region at x, as a row of shape (N_DOF,)."""
        row = np.zeros(N_DOF)
        row[2 * region] = 1.0
        row[2 * region + 1] = -(x - self.region_x[region])
        return row

    def skin_row(self, x: float, y: float) -> Array:
        """Movement of the skin at (x, y) in the mat frame, as a row of shape (N_DOF,).

        A Gaussian kernel spreads a tip over the vertebrae near it.
        """
        row = np.zeros(N_DOF)
        for w, at, region, level in zip(
            self._kernel(x), self.node_x, self.node_region, self.node_level, strict=True
        ):
            if w == 0.0:
                continue
            row += w * self.region_row(int(region), float(at))
            if level >= 0:
                row[_Z + level] += w
                row[_ROLL + level] += w * (y - self.person.y_at(float(at)))
        return row

    def _kernel(self, x: float) -> Array:
        """Share of a tip's force at x on each node, shape of `node_x`."""
        spacing = np.interp(x, self.node_x, np.gradient(self.node_x))
        width = SPREAD * self.person.patient.build.spread * spacing
        weight = np.exp(-0.5 * ((self.node_x - x) / width) ** 2)
        weight[weight < 1e-4 * weight.max()] = 0.0
        return weight / weight.sum()

    def station_row(self, i: int) -> Array:
        """Height of padding station i, as a row of shape (N_DOF,)."""
        return self.region_row(int(self.stations.region[i]), float(self.stations.x[i]))

    def skin_height(self, x: Array) -> Array:
        """Unloaded skin on the midline at rest and end-expiration, shape of x, m."""
        return np.interp(x, self.skin_x, self.skin_z)

    def tissue(self, x: float, y: float) -> TissueSpring:
        """Spring of the tissue under one tip; its corner is where the pair leaves the toe.

        The corner lies where both tips of a pair leave the toe together, at the pair's toe force,
        when they travel equally. Sides of a pair that travel equally have the patient's left and
        right stiffness: unequal tissue also rolls the vertebrae, which hides a part of the
        difference and softens the pair, so the tissue differs by more.

        Args:
            x: m along the mat.
            y: m across the mat, left is negative.
        """
        p = self.person
        patient = p.patient
        at = np.concatenate([[p.s1_x - 0.02, p.s1_x], p.x])

        def along(values: list[float], sacral: float) -> float:
            return float(np.interp(x, at, [sacral, sacral, *values]))

        layers, sacral = [patient.layer(v) for v in LEVELS], patient.tissue.sacral
        hard = 2.0 * along([v.stiffness for v in layers], sacral.stiffness)
        compact = COMPACT * along([v.thickness for v in layers], sacral.thickness)
        sacrum = min(SACRUM_RATIO * patient.stiffness[0], SACRUM_SHARE * 2.0 * sacral.stiffness)
        pair = along(list(patient.stiffness), sacrum)
        skew = along(list(patient.asymmetry), 0.0)
        # Below the corner the pair as a whole is TOE times as stiff; only the tissue softens.
        soft = pair / (pair / hard + 1.0 / TOE - 1.0)
        # Unequal sides roll the vertebrae until the indentations differ by twice `turn`.
        weight = self._kernel(x)
        on = (self.node_level >= 0) & (weight > 0.0)
        side = y - float(p.y_at(x))
        roll = self.roll_stiffness[self.node_level[on]]
        bend = side**2 * float(np.sum(weight[on] ** 2 / roll))
        share = hard * bend / (1.0 + hard * bend)  # of a difference in tissue that rolling hides
        more = skew
        for _ in range(20):
            more = float(np.clip(skew / (1.0 - share) * (1.0 - share * more**2), -0.9, 0.9))
        half = 0.5 * np.array([1.0 + more, 1.0 - more])  # left, right
        hard /= 1.0 - share * more**2
        left, right = half * soft
        # F_L = left (d + t), F_R = right (d - t), t = -bend (F_L - F_R), F_L + F_R = toe force
        ratio = -bend * (left - right) / (1.0 + bend * (left + right))  # t / d
        mean = fit_toe(p, x) / (left * (1.0 + ratio) + right * (1.0 - ratio))
        mine = 0 if side < 0.0 else 1
        corner = mean * (1.0 + ratio if mine == 0 else 1.0 - ratio)
        return TissueSpring(half[mine] * soft, half[mine] * hard, corner, max(compact, corner))

    def breath_shape(self, x: Array) -> Array:
        """Share of the breathing excursion at x, shape of x, 0 to 1: thorax and abdomen."""
        p = self.person
        low, high = p.s1_x, p.x_of("T1")
        t = np.clip((np.asarray(x) - low) / (high - low), 0.0, 1.0)
        return np.clip(2.0 * np.sin(np.pi * t), 0.0, 1.0)


def in_neck(person: Person, x: float) -> bool:
    """Whether x lies closer to C7 than to T1, or further up."""
    return x > 0.5 * (person.x_of("T1") + person.x_of("C7"))


def fit_toe(person: Person, x: float) -> float:
    """Force of a pair at the end of the toe, N."""
    return person.patient.build.toe * (TOE_NECK if in_neck(person, x) else TOE_TRUNK)


def fit_interval(person: Person, x: float) -> tuple[float, float]:
    """Forces of a pair between which its stiffness is defined, N."""
    return FIT_NECK if in_neck(person, x) else FIT_TRUNK


def build_trunk(person: Person) -> Trunk:
    """Springs of one person, with the level springs calibrated to the person's stiffness."""
    mass = person.patient.mass * np.array(MASS_FRACTION)
    padding = PADDING * person.patient.build.padding
    sink = float(mass.sum() * GRAVITY / (N_REGIONS * padding))
    skin_x, skin_z = skin_midline(person, sink)
    stations = _stations(person, mass * GRAVITY, skin_x, skin_z)
    at, load = (v.reshape(N_REGIONS, STATIONS) for v in (stations.x, stations.rest_load))
    region_x = np.sum(at * load, axis=1) / load.sum(axis=1)

    c1 = person.x_of("C1")
    below = person.s1_x - 0.025 * np.arange(4)[::-1]
    above = c1 + 0.025 * np.arange(1, 4)
    pelvis, head = np.full(4, 3), np.zeros(3, dtype=int)
    level_region = np.array([0 if v in CERVICAL else 1 if v in THORACIC else 2 for v in LEVELS])
    trunk = Trunk(
        person=person,
        region_x=region_x,
        region_mass=mass,
        node_x=np.concatenate([below, person.x, above]),
        node_region=np.concatenate([pelvis, level_region, head]),
        node_level=np.concatenate([np.full(4, -1), np.arange(N_LEVELS), np.full(3, -1)]),
        stations=stations,
        joints=Springs(np.zeros((0, N_DOF)), np.zeros(0)),
        level_stiffness=1.5 * np.array(person.patient.stiffness),
        loss=np.ones(N_LEVELS),
        skin_x=skin_x,
        skin_z=skin_z,
    )
    return calibrate(replace(trunk, joints=_joints(trunk, level_region)))


def _stations(person: Person, weight: Array, skin_x: Array, skin_z: Array) -> Stations:
    """Where each region lies on; widths and shapes are choices, see `RIBS`.

    Head: around the occiput. Thorax: shoulder blades and ribs around the kyphosis' apex, evenly.
    Loins: from the buttocks to T12, less where the skin is high over the mat. Pelvis: around the
    buttocks.
    """
    x_b, t6, t12 = buttock_x(person), person.x_of("T6"), person.x_of("T12")
    padding = PADDING * person.patient.build.padding
    ribs = RIBS * (person.x_of("T1") - t12)
    spans = (
        (occiput_x(person) - HEAD_HALF, occiput_x(person) + HEAD_HALF),
        (t6 - ribs, t6 + ribs),
        (x_b, t12),
        (x_b - PELVIS_HALF, x_b + PELVIS_HALF),
    )
    u = (np.arange(STATIONS) + 0.5) / STATIONS * 2.0 - 1.0
    xs, loads, stiffness = [], [], []
    for (low, high), shape, load in zip(spans, REGIONS, weight, strict=True):
        x = 0.5 * (low + high) + 0.5 * (high - low) * u
        share = 1.0 - u**4 if shape == "thorax" else 1.0 - u**2
        if shape == "abdomen":
            share = np.exp(-np.interp(x, skin_x, skin_z) / HOLLOW)
        share = share / share.sum()
        xs.append(x)
        loads.append(load * share)
        stiffness.append(padding * 0.5 * (share + 1.0 / STATIONS))
    return Stations(
        x=np.concatenate(xs),
        region=np.repeat(np.arange(N_REGIONS), STATIONS),
        stiffness=np.concatenate(stiffness),
        rest_load=np.concatenate(loads),
    )


def _joints(trunk: Trunk, level_region: NDArray[np.int64]) -> Springs:
    rows, stiffness = [], []
    x = np.array([trunk.person.s1_x, *trunk.person.x])
    region = np.array([3, *level_region])
    known = trunk.person.patient.stiffness
    k = [known[0], *known]
    ratio = SHEAR_RATIO * trunk.person.patient.build.shear
    for i in range(N_LEVELS):  # S1-L5, L5-L4 … C2-C1
        between = 0.5 * (x[i] + x[i + 1])
        row = trunk.region_row(int(region[i + 1]), between)
        row -= trunk.region_row(int(region[i]), between)
        if region[i] != region[i + 1]:
            bend = np.zeros(N_DOF)
            bend[2 * region[i + 1] + 1], bend[2 * region[i] + 1] = 1.0, -1.0
            rows += [row.copy(), bend]
            stiffness += [LINK_SHEAR, LINK_BEND]
        row[_Z + i] += 1.0
        if i > 0:
            row[_Z + i - 1] -= 1.0
        rows.append(row)
        stiffness.append(ratio * 0.5 * (k[i] + k[i + 1]))
    return Springs(np.array(rows), np.array(stiffness))


def solve_rest(trunk: Trunk) -> Callable[[Array], tuple[Array, NDArray[np.bool_]]]:
    """Static equilibrium under a constant generalised force, tissue left out.

    Returns:
        A function of the force, shape (N_DOF,), giving the coordinates, shape (N_DOF,), and which
        padding stations carry load, shape (32,).
    """
    s = trunk.stations
    rows = np.array([trunk.station_row(i) for i in range(len(s.x))])
    base = joint_matrix(trunk)

    def solve(force: Array) -> tuple[Array, NDArray[np.bool_]]:
        active = np.ones(len(s.x), dtype=bool)
        for _ in range(40):
            a, k = rows[active], s.stiffness[active]
            # A station that is off carries nothing, so its share of the weight pulls down.
            right = force - rows[~active].T @ s.rest_load[~active]
            q = np.linalg.solve(base + (a.T * k) @ a, right)
            now = s.rest_load - s.stiffness * (rows @ q) > 0.0
            if np.array_equal(now, active) or not now.any():
                break
            active = now
        return q, active

    return solve


def joint_matrix(trunk: Trunk) -> Array:
    """Stiffness of everything but padding and tissue, shape (N_DOF, N_DOF)."""
    j = trunk.joints
    diagonal = np.zeros(N_DOF)
    diagonal[_Z:_ROLL] = trunk.level_stiffness
    diagonal[_ROLL:] = trunk.roll_stiffness
    return np.diag(diagonal) + (j.rows.T * j.stiffness) @ j.rows


def pair_compliance(trunk: Trunk, level: int) -> tuple[float, Array]:
    """Compliance of a pair on a level over its fit interval, by the static solver, m/N.

    Returns:
        The compliance and its derivatives by the 24 level stiffnesses, m/N per N/m.
    """
    x = trunk.person.x[level]
    low, high = fit_interval(trunk.person, x)
    row = trunk.skin_row(x, float(trunk.person.y_at(x)))
    solve = solve_rest(trunk)
    q_low, _ = solve(low * row)
    q_high, active = solve(high * row)
    slope = float(row @ (q_high - q_low)) / (high - low)
    hard = 2.0 * trunk.person.patient.layer(LEVELS[level]).stiffness
    s = trunk.stations
    a = np.array([trunk.station_row(int(i)) for i in np.flatnonzero(active)])
    unit = np.linalg.solve(joint_matrix(trunk) + (a.T * s.stiffness[active]) @ a, row)
    return slope + 1.0 / hard, -(unit[_Z:_ROLL] ** 2)


def calibrate(trunk: Trunk, tolerance: float = 0.002) -> Trunk:
    """Set the level springs so that each level has the person's PA stiffness.

    Newton's method on the logarithms of the 24 springs; each step is limited. A level that cannot
    be made stiff enough ends at the upper bound of the spring.
    """
    target = 1.0 / np.array(trunk.person.patient.stiffness)
    k = trunk.level_stiffness
    for _ in range(15):
        found = [pair_compliance(trunk, i) for i in range(N_LEVELS)]
        error = np.array([c for c, _ in found]) / target - 1.0
        if np.max(np.abs(error)) < tolerance:
            break
        jacobian = np.array([d for _, d in found]) * k / target[:, None]
        # A little damping keeps neighbours from swinging against each other.
        normal = jacobian.T @ jacobian + 1e-4 * np.eye(N_LEVELS)
        step = np.linalg.solve(normal, jacobian.T @ -error)
        k = np.clip(k * np.exp(np.clip(step, -0.5, 0.5)), 1e3, 150e3)
        trunk = replace(trunk, level_stiffness=k)
    # Share of the level springs in a press on each level.
    share = np.array([-(slope @ k) / whole for whole, slope in found])
    return replace(trunk, loss=np.clip((MEAN_SHARE / share) ** LOSS_POWER, 0.5, 2.0))
