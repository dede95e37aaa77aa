"""The plant: a person on a mat, stepped by drive cycles, with sensors as they really are.

One call of `Plant.step` is one drive cycle (4 ms by default). The drive closes a local velocity
loop within bounds of motor force that the caller sets in every cycle; bounds of zero leave the
finger to its return spring (`drives.py`). The caller delays commands by the
drive's latency of one cycle; the plant does not.

Numbers without a source are engineering choices.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import mujoco
import numpy as np
from numpy.typing import NDArray

from spinemat.errors import InvalidInput
from spinemat.layout import MatLayout
from spinemat_sim.body import TIME_STEP, Body, Creep, build_body
from spinemat_sim.drives import END_STOP, Drives
from spinemat_sim.person import Person
from spinemat_sim.sensors import Imperfections, Measurement, Sensors
from spinemat_sim.trunk import BREATH_ON_PADDING, REGIONS, Trunk, build_trunk

Array = NDArray[np.float64]

INSPIRATION = 0.4  # share of a breath
LOAD_BIN = 0.02  # m


class Truth(NamedTuple):
    """What really happens; shape (n,) where not said otherwise.

    Attributes:
        force: N, tissue force on each tip.
        position: m, tip over the mat's surface.
        indentation: m, tissue compressed by each tip.
        peak_force: N, largest tissue force in the physics steps of the last cycle.
        padding: N, load on the padded surface, a single number.
        breath: 0 at end-expiration, 1 at end-inspiration, a single number.
    """

    force: Array
    position: Array
    indentation: Array
    peak_force: Array
    padding: float
    breath: float


class Plant:
    """One person on one mat.

    Args:
        layout: the mat.
        person: who lies on it.
        urdf: the mat's description as text (`urdf.expand_urdf`) for the same layout.
        seed: of the sensors' noise; the same seed gives bit-identical results.
        imperfections: of sensors and drives.
        trunk: springs of the same person from `build_trunk`, to save calibrating them again.

    Raises:
        InvalidInput: the URDF does not fit the layout, or the seed is not a natural number.
    """

    def __init__(
        self,
        layout: MatLayout,
        person: Person,
        urdf: str,
        seed: int = 0,
        imperfections: Imperfections | None = None,
        trunk: Trunk | None = None,
    ) -> None:
        if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
            raise InvalidInput("plant seed", seed, "a whole number, 0 or larger")
        self.layout, self.person = layout, person
        self.imperfections = Imperfections() if imperfections is None else imperfections
        self.trunk = build_trunk(person) if trunk is None else trunk
        self.body: Body = build_body(self.trunk, layout, urdf)
        self.model = self.body.model
        self.data = mujoco.MjData(self.model)
        self.breathing = True
        self.cycle = 0
        self._substeps = max(1, round(layout.cycle / TIME_STEP))
        self.model.opt.timestep = layout.cycle / self._substeps
        n = layout.n
        damping = float(np.ravel(self.model.dof_damping[self.body.finger_q[0]])[0])
        step = self.model.opt.timestep
        self._drives = Drives(n, layout.finger, damping, step, self.imperfections.friction)
        self._creep = Creep(self.trunk.level_stiffness, self.model.opt.timestep)
        finger = layout.finger
        self._bounds = np.array([[finger.max_speed], [finger.max_force], [finger.max_force]])
        self._breath_setup()
        self._breath = 0.0
        self._qpos, self._qvel = self.data.qpos, self.data.qvel
        self._applied = self.data.qfrc_applied
        self._fingers = slice(self.body.finger_q[0], self.body.finger_q[0] + n)  # the first joints
        self._applied[:] = self.body.rest_force
        self._position = np.full(
            n, layout.finger.stroke[0] - layout.finger.return_preload / END_STOP
        )
        self._qpos[self.body.finger_q] = self._position
        self._skin = self.body.skin.copy()
        self._indentation, self._force, self._peak = np.zeros((3, n))
        self._sensors = Sensors(layout, self.imperfections, seed, self._position)
        self._measurement = self._sensors.read(self._position, self._force, np.zeros(n))

    @property
    def time(self) -> float:
        """Drive time, s."""
        return self.cycle * self.layout.cycle

    def step(self, velocity: Array, motor_low: Array, motor_high: Array) -> None:
        """Run one drive cycle.

        Args:
            velocity: set-point, shape (n,), m/s, positive into the person.
            motor_low: lower bound of the motor force, shape (n,), N.
            motor_high: upper bound, shape (n,), N; both 0 leave a finger unpowered.

        Raises:
            InvalidInput: wrong shape, not finite, or a lower bound above its upper bound.
        """
        orders = np.array((velocity, motor_low, motor_high), dtype=float)
        if orders.shape != (3, self.layout.n) or not math.isfinite(orders.sum()):
            n = self.layout.n
            raise InvalidInput("order", orders.shape, f"3 times {n} finite numbers: m/s, N, N")
        goal, low, high = np.minimum(np.maximum(orders, -self._bounds), self._bounds)
        if np.less(high, low).any():
            raise InvalidInput("motor_low", float(np.max(low - high)), "not above motor_high")
        self.cycle += 1
        self._breathe()

        body, qpos, applied = self.body, self._qpos, self._applied
        fingers, levels, tip_rows, skin = self._fingers, body.level_q, body.tip_rows, self._skin
        position, speed, force = self._position, self._qvel[fingers], self._force
        peak = np.zeros(self.layout.n)
        goal = self._drives.goal(goal, position)
        for _ in range(self._substeps):
            motor, drive = self._drives.force(goal, low, high, position, speed, force)
            applied[fingers] = drive
            applied[levels] = self._creep.force(qpos[levels])
            mujoco.mj_step(self.model, self.data)
            indentation = np.maximum(tip_rows @ qpos - skin, 0.0)
            force = body.tissue_force(indentation)
            peak = np.maximum(peak, force)
            position, speed = qpos[fingers], self._qvel[fingers]
        position = position.copy()
        self._position, self._force, self._peak = position, force, peak
        self._indentation = indentation
        self._measurement = self._sensors.read(position, force, motor)

    def measure(self) -> Measurement:
        """What the drives measured at the end of the last cycle."""
        return self._measurement

    def truth(self) -> Truth:
        """What really happened at the end of the last cycle."""
        return Truth(
            force=self._force.copy(),
            position=self._position.copy(),
            indentation=self._indentation.copy(),
            peak_force=self._peak.copy(),
            padding=float(self._station_loads().sum()),
            breath=self._breath,
        )

    def contour(self, x: Array) -> Array:
        """Unloaded skin on the midline at rest, end-expiration and fingers retracted.

        Args:
            x: m along the mat, any shape.

        Returns:
            z, shape of x, m.
        """
        return self.trunk.skin_height(np.asarray(x, dtype=float))

    @property
    def force(self) -> Array:
        """Tissue force on each tip now, shape (n,), N."""
        return self._force

    @property
    def position(self) -> Array:
        """Height of each tip now, shape (n,), m."""
        return self._position

    def load_along_back(self) -> tuple[Array, Array, Array]:
        """Load carried along the mat, now.

        Returns:
            x: middles of slices of 20 mm over the whole surface, m.
            padding: load of the padding in each slice, N.
            fingers: load of the finger tips in each slice, N.
        """
        surface = self.layout.surface
        edges = np.arange(surface.x_min, surface.x_max + LOAD_BIN, LOAD_BIN)
        s = self.trunk.stations
        width = np.array([np.ptp(s.x[s.region == r]) for r in s.region])
        width = width / (np.sum(s.region == 0) - 1)
        padding = spread_load(edges, s.x, width, self._station_loads())
        radius = np.sqrt(self.layout.finger.tip_area / np.pi)
        tips = np.full(self.layout.n, 2.0 * radius)
        fingers = spread_load(edges, self.layout.x, tips, self._force)
        return 0.5 * (edges[:-1] + edges[1:]), padding, fingers

    def region_loads(self) -> Array:
        """Load of the padding under head, thorax, abdomen and pelvis, shape (4,), N."""
        s = self.trunk.stations
        loads = self._station_loads()
        return np.array([loads[s.region == r].sum() for r in range(len(REGIONS))])

    def _station_loads(self) -> Array:
        length = self.body.station_rows @ self.data.qpos
        band = self.model.tendon_lengthspring[self.body.station_tendons, 1]
        return np.maximum(length - band, 0.0) * self.trunk.stations.stiffness

    def _breath_setup(self) -> None:
        body, s, trunk = self.body, self.trunk.stations, self.trunk
        tips = trunk.breath_shape(self.layout.x)
        padding = BREATH_ON_PADDING * trunk.breath_shape(s.x)
        shape = np.concatenate([tips, tips, padding])
        self._breath_shape = -self.person.breath_excursion * shape
        self._bands = np.concatenate(
            [body.skin, body.skin + body.corner, -s.rest_load / s.stiffness]
        )
        self._band_at = np.concatenate(
            [body.tip_tendons, body.corner_tendons, body.station_tendons]
        )

    def _breathe(self) -> None:
        """Move the skin toward the mat: inspiration is shorter than expiration, with a rest."""
        phase = (self.time * self.person.breath_rate) % 1.0
        rising = phase / INSPIRATION
        falling = 1.0 - (phase - INSPIRATION) / (0.9 - INSPIRATION)
        part = rising if phase < INSPIRATION else max(falling, 0.0)
        self._breath = math.sin(0.5 * math.pi * part) ** 2 if self.breathing else 0.0
        bands = self._bands + self._breath * self._breath_shape
        self.model.tendon_lengthspring[self._band_at, 1] = bands
        self._skin = bands[: self.layout.n]


def spread_load(edges: Array, x: Array, width: Array, load: Array) -> Array:
    """Loads, each even over its width around x, summed between edges; shape (len(edges) - 1,)."""
    below = np.clip((edges[:, None] - x) / width + 0.5, 0.0, 1.0)
    return np.diff(below @ load)
