"""The plant: a person on a mat, stepped by drive cycles, with sensors as they really are.

One call of `Plant.step` is one drive cycle (4 ms by default). The drive closes a local velocity
loop within bounds of motor force that the caller sets in every cycle; bounds of zero leave the
finger to its return spring (`drives.py`). The caller delays commands by the
drive's latency of one cycle; the plant does not.

Numbers without a source are engineering choices.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import mujoco
import numpy as np
from numpy.typing import NDArray

from spinemat.errors import InvalidInput, number
from spinemat.layout import MatLayout
from spinemat_sim.body import TIME_STEP, Body, build_body
from spinemat_sim.drives import END_STOP, Drives
from spinemat_sim.person import Person
from spinemat_sim.trunk import BREATH_ON_PADDING, Trunk, build_trunk

Array = NDArray[np.float64]

OVER_TEMPERATURE, END_STOP_BIT = 1, 8  # bits of DriveState.status

VELOCITY_FILTER = 0.5  # share of a new difference in the measured velocity
AMBIENT, HOT = 25.0, 100.0  # degC, and where OVER_TEMPERATURE starts
HEATING, HEATING_TIME = 60.0, 900.0  # K at the largest motor force, s
INSPIRATION = 0.4  # share of a breath
LOAD_BIN = 0.02  # m


@dataclass(frozen=True)
class Imperfections:
    """What sensors and drives do wrong; every value is an engineering choice.

    Attributes:
        force_noise: N, root mean square of the load cell.
        force_drift: N/min, largest drift of a load cell.
        force_step: N, quantisation.
        position_step: m, quantisation of the encoder.
        backlash: whether the layout's backlash separates encoder and tip.
        friction: whether the layout's Coulomb friction acts.
    """

    force_noise: float = 0.1
    force_drift: float = 0.05
    force_step: float = 0.02
    position_step: float = 10e-6
    backlash: bool = True
    friction: bool = True

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, bool):
                number(f"imperfections.{field.name}", value, 0.0, 10.0)

    @staticmethod
    def none() -> Imperfections:
        """Perfect sensors and drives."""
        return Imperfections(0.0, 0.0, 0.0, 0.0, False, False)


@dataclass(frozen=True)
class Measurement:
    """What the drives measure, shape (n,) each.

    Attributes:
        position: m, tip over the mat's surface as the encoder sees it.
        velocity: m/s, from the encoder.
        force: N, load cell.
        current: A.
        temperature: degC, motor winding.
        status: bits as in DriveState. END_STOP tells of the upper end only: the lower end is
            where a finger rests.
    """

    position: Array
    velocity: Array
    force: Array
    current: Array
    temperature: Array
    status: NDArray[np.uint16]


@dataclass(frozen=True)
class Truth:
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
        self._drives = Drives(
            layout.finger, damping, self.model.opt.timestep, self.imperfections.friction
        )
        self._rng = np.random.default_rng([int(seed), 1])
        self._drift = self._rng.uniform(-1.0, 1.0, n) * self.imperfections.force_drift / 60.0
        self._drift *= layout.cycle
        self._tip_breath = person.breath_excursion * self.trunk.breath_shape(layout.x)
        self._station_breath = BREATH_ON_PADDING * person.breath_excursion
        self._station_breath = self._station_breath * self.trunk.breath_shape(self.trunk.stations.x)
        self._corner_skin = self.body.skin + self.body.corner
        s = self.trunk.stations
        self._station_band = -s.rest_load / s.stiffness
        self._motor = np.zeros(n)
        self._temperature = np.full(n, AMBIENT)
        self._breath = 0.0
        self.data.qfrc_applied[:] = self.body.rest_force
        low = layout.finger.stroke[0] - layout.finger.return_preload / END_STOP
        self.data.qpos[self.body.finger_q] = low
        self._position = np.full(n, low)
        self._encoder = self._position.copy()
        self._skin = self.body.skin.copy()
        self._indentation = np.zeros(n)
        self._force = np.zeros(n)
        self._peak = np.zeros(n)
        self._measurement = self._sense(0.0, first=True)

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
        n, finger = self.layout.n, self.layout.finger
        goal = _vector("velocity", velocity, n, "m/s")
        low = np.maximum(_vector("motor_low", motor_low, n, "N"), -finger.max_force)
        high = np.minimum(_vector("motor_high", motor_high, n, "N"), finger.max_force)
        if (low > high).any():
            raise InvalidInput("motor_low", float(np.max(low - high)), "not above motor_high")
        goal = np.minimum(np.maximum(goal, -finger.max_speed), finger.max_speed)
        self.cycle += 1
        self._breathe()

        data, body = self.data, self.body
        position, speed, force = self._position, data.qvel[body.finger_q], self._force
        peak = np.zeros(n)
        goal = self._drives.goal(goal, position)
        for _ in range(self._substeps):
            self._motor, applied = self._drives.force(goal, low, high, position, speed, force)
            data.qfrc_applied[body.finger_q] = applied
            mujoco.mj_step(self.model, data)
            indentation = np.maximum(body.tip_rows @ data.qpos - self._skin, 0.0)
            force = body.tissue_force(indentation)
            peak = np.maximum(peak, force)
            position, speed = data.qpos[body.finger_q], data.qvel[body.finger_q]
        self._position, self._force, self._peak = position, force, peak
        self._indentation = indentation
        self._measurement = self._sense(self.layout.cycle)

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
        return np.bincount(s.region, weights=self._station_loads())

    def _station_loads(self) -> Array:
        length = self.body.station_rows @ self.data.qpos
        band = self.model.tendon_lengthspring[self.body.station_tendons, 1]
        return np.maximum(length - band, 0.0) * self.trunk.stations.stiffness

    def _breathe(self) -> None:
        """Move the skin toward the mat: inspiration is shorter than expiration, with a rest."""
        phase = (self.time * self.person.breath_rate) % 1.0
        rising = phase / INSPIRATION
        falling = 1.0 - (phase - INSPIRATION) / (0.9 - INSPIRATION)
        part = rising if phase < INSPIRATION else max(falling, 0.0)
        self._breath = float(np.sin(0.5 * np.pi * part) ** 2) if self.breathing else 0.0
        bands, body = self.model.tendon_lengthspring, self.body
        shift = self._tip_breath * self._breath
        self._skin = body.skin - shift
        bands[body.tip_tendons, 1] = self._skin
        bands[body.corner_tendons, 1] = self._corner_skin - shift
        bands[body.station_tendons, 1] = self._station_band - self._station_breath * self._breath

    def _sense(self, dt: float, first: bool = False) -> Measurement:
        bad, finger = self.imperfections, self.layout.finger
        n = self.layout.n
        encoder = self._position
        if bad.backlash:
            half = 0.5 * finger.backlash
            encoder = np.minimum(np.maximum(self._encoder, encoder - half), encoder + half)
        self._encoder = encoder
        read = _quantise(encoder, bad.position_step)
        speed = np.zeros(n)
        if not first:
            old = self._measurement
            speed = (read - old.position) / dt
            speed = old.velocity + VELOCITY_FILTER * (speed - old.velocity)
        force = self._force + self._drift * self.cycle
        if bad.force_noise > 0.0:
            force = force + bad.force_noise * self._rng.standard_normal(n)
        current = self._motor / finger.force_constant
        heat = HEATING * (current * finger.force_constant / finger.max_force) ** 2
        rate = dt / HEATING_TIME
        self._temperature = self._temperature + rate * (heat + AMBIENT - self._temperature)
        status = np.where(self._temperature > HOT, OVER_TEMPERATURE, 0)
        status = status | np.where(self._position >= finger.stroke[1], END_STOP_BIT, 0)
        force = _quantise(force, bad.force_step)
        return Measurement(
            read, speed, force, current, self._temperature, status.astype(np.uint16)
        )


def spread_load(edges: Array, x: Array, width: Array, load: Array) -> Array:
    """Loads, each even over its width around x, summed between edges; shape (len(edges) - 1,)."""
    below = np.clip((edges[:, None] - x) / width + 0.5, 0.0, 1.0)
    return np.diff(below @ load)


def _quantise(value: Array, step: float) -> Array:
    return np.round(value / step) * step if step > 0.0 else value


def _vector(field: str, value: Array, n: int, unit: str) -> Array:
    array = np.asarray(value, dtype=float)
    if array.shape != (n,) or not np.isfinite(array).all():
        raise InvalidInput(field, array.shape, f"{n} finite numbers in {unit}")
    return array
