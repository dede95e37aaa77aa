"""The plant: a person on a mat, stepped by drive cycles, with sensors as they really are.

One call of `Plant.step` is one drive cycle (4 ms by default). The drive closes a local velocity
loop within bounds of motor force that the caller sets in every cycle; bounds of zero leave the
finger to its return spring (`kernel.py`). The caller delays commands by the
drive's latency of one cycle; the plant does not.

Numbers without a source are engineering choices.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import mujoco
import numpy as np
from numpy.typing import NDArray

from spinemat.errors import InvalidInput
from spinemat.layout import MatLayout
from spinemat_sim import kernel
from spinemat_sim.body import TIME_STEP, Body, build_body
from spinemat_sim.faults import Fault, FaultySensors, motor_bounds, movement
from spinemat_sim.patient import LEVELS
from spinemat_sim.person import Person
from spinemat_sim.sensors import Imperfections, Measurement
from spinemat_sim.trunk import (
    BREATH_LOAD,
    BREATH_ON_PADDING,
    COMPACTED,
    GRAVITY,
    REGIONS,
    Trunk,
    build_trunk,
    in_neck,
)

Array = NDArray[np.float64]

INSPIRATION = 0.4  # share of a breath
LOAD_BIN = 0.02  # m
NOISE_BLOCK = 256  # cycles of noise drawn at once
VELOCITY_LAG = 0.004  # s, of a drive's closed velocity loop
VELOCITY_FILTER = 0.5  # share of a new difference in the measured velocity, per 4 ms
FORCE_RATE_FILTER = 0.3  # the same of the force rate that muscles feel
GUARD_REACH = 0.060  # m from a provoking finger to the levels that tense
GUARD_RISE = 0.030  # s, time constant
GUARD_NECK = 0.5  # of the trunk's force provokes guarding in the neck


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
        seed: of the sensors' and drives' imperfections; the same seed gives bit-identical results.
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
        self._shape = (layout.n,)
        self._substeps = max(1, round(layout.cycle / TIME_STEP))
        self.model.opt.timestep = layout.cycle / self._substeps
        self._breath = 0.0
        self._rng = np.random.default_rng([int(seed), 1])
        self._noise = np.zeros((NOISE_BLOCK, layout.n))
        self._numbers = self._shared_numbers()
        self._fingers = self._finger_state()
        self._levels = np.zeros((kernel.LEVEL_ROWS, len(LEVELS)))
        self._levels[kernel.STIFFNESS] = self.trunk.level_stiffness
        self._levels[kernel.LOSS] = self.trunk.loss
        self._arguments()
        self.data.qpos[self.body.finger_q] = self._fingers[kernel.POSITION]
        self._make_noise()
        self._load = kernel.padding_loads(*self._padding, self.data.qpos)
        self._now = Measurement._make((*self._fingers[kernel.MEASURED], self._status))
        self._faults: tuple[Fault, ...] = ()
        self._faulty: FaultySensors | None = None
        self._sound_friction = self._fingers[kernel.FRICTION].copy()
        self._resting_skin = self._fingers[kernel.SKIN].copy()
        self._skin_goal = self._resting_skin
        self._skin_steps = 0  # cycles until the skin is there
        self._guard_force = person.patient.guarding.force
        late = self.imperfections.latency
        self._late = [self._read()] * (late + 1) if late else []

    # --- set-up -----------------------------------------------------------------------------

    def _shared_numbers(self) -> Array:
        finger, bad, step = self.layout.finger, self.imperfections, self.model.opt.timestep
        damping = float(np.ravel(self.model.dof_damping[self.body.finger_q[0]])[0])
        guarding, mobilisation = self.person.patient.guarding, self.person.patient.mobilisation
        cycle = self.layout.cycle

        def share(per_4_ms: float) -> float:
            return float(1.0 - (1.0 - per_4_ms) ** (cycle / 0.004))

        def passed(interval: float, constant: float) -> float:
            return float(1.0 - np.exp(-interval / constant))

        p = np.zeros(kernel.NUMBERS)
        p[kernel.CYCLE] = cycle
        p[kernel.SPRING], p[kernel.PRELOAD] = finger.return_stiffness, finger.return_preload
        p[kernel.DAMPING] = damping
        p[kernel.INERTIA] = (finger.mass + step * damping) / step  # N per m/s in one step
        p[kernel.SHARE] = passed(step, VELOCITY_LAG)
        p[kernel.BOTTOM], p[kernel.TOP] = finger.stroke
        p[kernel.MAX_SPEED], p[kernel.MAX_FORCE] = finger.max_speed, finger.max_force
        p[kernel.GUARD_RATE], p[kernel.GUARD_GAIN] = guarding.rate, guarding.gain
        p[kernel.GUARD_RISE] = passed(cycle, GUARD_RISE)
        p[kernel.GUARD_FADE] = 1.0 - passed(cycle, guarding.decay)
        p[kernel.SOFTENING] = mobilisation.softening
        p[kernel.SOFTENING_WORK] = mobilisation.work
        p[kernel.ENCODER_STEP], p[kernel.FORCE_STEP] = bad.position_step, bad.force_step
        p[kernel.FORCE_CONSTANT] = finger.force_constant
        p[kernel.AMBIENT], p[kernel.HEAT_RISE] = bad.ambient, bad.heating
        p[kernel.HEAT_SHARE] = passed(cycle, bad.heating_time)
        p[kernel.SPEED_SHARE] = share(VELOCITY_FILTER)
        p[kernel.RATE_SHARE] = share(FORCE_RATE_FILTER)
        p[kernel.CREEP :] = [passed(step, time) for _, time in kernel.BRANCHES]
        return p

    def _finger_state(self) -> Array:
        layout, bad, body, person = self.layout, self.imperfections, self.body, self.person
        finger, patient = layout.finger, person.patient
        f = np.zeros((kernel.FINGER_ROWS, layout.n))
        soft, hard, corner, compact = body.tissue
        f[kernel.SKIN] = body.skin
        f[kernel.BREATH] = -patient.breathing.depth * self.trunk.breath_shape(layout.x)
        f[kernel.SOFT], f[kernel.STIFFENING], f[kernel.CORNER] = soft, hard - soft, corner
        f[kernel.COMPACTING], f[kernel.COMPACT] = (COMPACTED - 1.0) * hard, compact
        neck = np.array([in_neck(person, float(x)) for x in layout.x])
        f[kernel.GUARD_FORCE] = patient.guarding.force * np.where(neck, GUARD_NECK, 1.0)
        spread, offset, drift, slope = self._rng.uniform(-1.0, 1.0, (4, layout.n))
        f[kernel.FRICTION] = finger.friction * bad.friction * (1.0 + bad.friction_spread * spread)
        f[kernel.PLAY] = 0.5 * finger.backlash * bad.backlash
        f[kernel.OFFSET] = bad.force_offset * offset
        f[kernel.DRIFT] = bad.force_drift * drift * layout.cycle / 60.0
        f[kernel.SLOPE] = bad.force_temperature * slope
        rest = finger.stroke[0] - finger.return_preload / kernel.END_STOP
        f[[kernel.POSITION, kernel.ENCODER, kernel.READ]] = rest
        f[kernel.TEMPERATURE] = bad.ambient
        return f

    def _arguments(self) -> None:
        """What the compiled functions are called with in every cycle."""
        body, s, n = self.body, self.trunk.stations, self.layout.n
        patient = self.person.patient
        depth = patient.breathing.depth * BREATH_ON_PADDING
        padding = np.array(
            [
                -s.rest_load / s.stiffness,
                -depth * self.trunk.breath_shape(s.x),
                s.x - self.trunk.region_x[s.region],
                s.stiffness,
            ]
        )
        band = self.model.tendon_lengthspring[body.station_tendons, 1]
        index = np.concatenate([body.start, body.column, body.level_q]).astype(np.uint32)
        # In inspiration a part of the loins' load moves to the thorax.
        breath = np.zeros_like(body.rest_force)
        thorax, abdomen = (
            body.body_q[2 * REGIONS.index("thorax")],
            body.body_q[2 * REGIONS.index("abdomen")],
        )
        shift = BREATH_LOAD * self.trunk.region_mass[REGIONS.index("thorax")] * GRAVITY
        breath[thorax], breath[abdomen] = -shift, shift
        constant = np.concatenate([body.value, body.rest_force, breath])
        far = np.abs(self.layout.x[:, None] - np.array(self.person.x))
        reach = np.array([body.share, far < GUARD_REACH], dtype=float)
        provoked = np.zeros((max(1, round(patient.guarding.latency / self.layout.cycle)), n))
        self._status = np.zeros(n, dtype=np.uint16)
        self._loads = np.zeros(len(s.x))
        self._padding = (padding, body.body_q[2 * s.region].astype(np.uint32), band, self._loads)
        d = self.data
        self._call = (
            *(self.model._address, d._address, self._substeps),
            *(self._fingers, self._levels, self._numbers, index, constant, reach, provoked),
            *(self._status, self._noise, *self._padding, d.qpos, d.qvel, d.qfrc_applied),
        )

    # --- running ----------------------------------------------------------------------------

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
        order = self._begin(velocity, motor_low, motor_high)
        self._end(kernel.cycle(*self._call, *order))

    def _begin(
        self, velocity: Array, motor_low: Array, motor_high: Array
    ) -> tuple[int, float, Array, Array, Array]:
        """Return number, breath and orders of the next cycle, as `kernel.cycle` takes them."""
        if not velocity.shape == motor_low.shape == motor_high.shape == self._shape or (
            not velocity.dtype == motor_low.dtype == motor_high.dtype == np.float64
        ):
            given = [(a.shape, str(a.dtype)) for a in (velocity, motor_low, motor_high)]
            allowed = f"{self.layout.n} float64 numbers each: m/s, N, N"
            raise InvalidInput("order", given, allowed)
        cycle = self.cycle + 1
        if cycle % NOISE_BLOCK == 0:
            self._make_noise()
        breath = self._breath_at(cycle * self.layout.cycle)
        if self._faults:
            motor_low, motor_high = motor_bounds(self._faults, motor_low, motor_high)
        if self._skin_steps:
            skin = self._fingers[kernel.SKIN]
            skin += (self._skin_goal - skin) / self._skin_steps
            self._skin_steps -= 1
        self._breath = breath
        return cycle, breath, velocity, motor_low, motor_high

    def _end(self, load: float) -> None:
        """End a cycle with the load of the padding, N; negative if the order was refused."""
        if load < 0.0:
            allowed = "finite, motor_low up to motor_high"
            raise InvalidInput("order", "not finite, or motor_low above motor_high", allowed)
        self.cycle, self._load = self.cycle + 1, load
        if self._late:
            self._late = [*self._late[1:], self._read()]

    def _make_noise(self) -> None:
        if self.imperfections.force_noise > 0.0:
            self._rng.standard_normal(out=self._noise)
            self._noise *= self.imperfections.force_noise

    def _read(self) -> Measurement:
        return Measurement._make((*self._fingers[kernel.MEASURED].copy(), self._status.copy()))

    def measure(self) -> Measurement:
        """What the drives measured at the end of the last cycle; the next step overwrites it."""
        now = self._late[0] if self._late else self._now
        return now if self._faulty is None else self._faulty.apply(now, self.time)

    def break_fingers(self, faults: Sequence[Fault]) -> None:
        """Let these faults be there from now on, and no others; see `faults.py`."""
        now = self._late[0] if self._late else self._now
        self._faults = tuple(faults)
        self._faulty = FaultySensors(faults, now, self.time) if faults else None
        self._fingers[kernel.FRICTION] = self._sound_friction
        for fault in faults:
            if fault.kind == "jammed":
                self._fingers[kernel.FRICTION, fault.finger] = fault.value

    def move_person(self, kind: str) -> None:
        """Let the person make one of the MOVEMENTS of `faults.py`; "lies still" brings them back.

        Raises:
            InvalidInput: the kind is not known.
        """
        rise, seconds = movement(self.layout, kind)
        self._skin_goal = self._resting_skin + rise
        self._skin_steps = round(seconds / self.layout.cycle)

    def guard_from(self, force: float) -> None:
        """Let this force on a finger of the trunk provoke guarding from now on, N."""
        self._fingers[kernel.GUARD_FORCE] *= force / self._guard_force
        self._guard_force = force

    def truth(self) -> Truth:
        """What really happened at the end of the last cycle."""
        now = self._fingers[kernel.TRUE].copy()
        return Truth._make((*now, self._load, self._breath))

    def contour(self, x: Array) -> Array:
        """Unloaded skin on the midline at rest, end-expiration and fingers retracted.

        Args:
            x: m along the mat, any shape.

        Returns:
            z, shape of x, m.
        """
        return self.trunk.skin_height(np.asarray(x, dtype=float))

    @property
    def fingers(self) -> Array:
        """State of the fingers, rows as in `kernel.py`, shape (FINGER_ROWS, n); a view."""
        return self._fingers

    @property
    def station_loads(self) -> Array:
        """Load of each station of the padding now, shape (32,), N; a view."""
        return self._loads

    @property
    def force(self) -> Array:
        """Tissue force on each tip now, shape (n,), N; a view."""
        return self._fingers[kernel.FORCE]

    @property
    def position(self) -> Array:
        """Height of each tip now, shape (n,), m; a view."""
        return self._fingers[kernel.POSITION]

    @property
    def work(self) -> Array:
        """Work that each tip has put into the body while moving in, shape (n,), J."""
        return self._fingers[kernel.WORK].copy()

    @property
    def guarding(self) -> Array:
        """Protective muscle tension of each level now, 0 to 1, shape (24,)."""
        return self._levels[kernel.LEVEL_GUARD].copy()

    @property
    def softened(self) -> Array:
        """Share by which each level is softer now than the patient's mean, shape (24,)."""
        now = self._levels[kernel.SOFTENED]
        return 1.0 - (1.0 - now) * (1.0 - np.array(self.person.patient.softened))

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
        padding = spread_load(edges, s.x, width, self._loads)
        radius = np.sqrt(self.layout.finger.tip_area / np.pi)
        tips = np.full(self.layout.n, 2.0 * radius)
        fingers = spread_load(edges, self.layout.x, tips, self.force)
        return 0.5 * (edges[:-1] + edges[1:]), padding, fingers

    def region_loads(self) -> Array:
        """Load of the padding under head, thorax, abdomen and pelvis, shape (4,), N."""
        s = self.trunk.stations
        return np.array([self._loads[s.region == r].sum() for r in range(len(REGIONS))])

    def _breath_at(self, time: float) -> float:
        """Inspiration is shorter than expiration, with a rest at its end."""
        if not self.breathing:
            return 0.0
        phase = (time * self.person.patient.breathing.rate) % 1.0
        rising = phase / INSPIRATION
        falling = 1.0 - (phase - INSPIRATION) / (0.9 - INSPIRATION)
        part = rising if phase < INSPIRATION else max(falling, 0.0)
        return math.sin(0.5 * math.pi * part) ** 2


def spread_load(edges: Array, x: Array, width: Array, load: Array) -> Array:
    """Loads, each even over its width around x, summed between edges; shape (len(edges) - 1,)."""
    below = np.clip((edges[:, None] - x) / width + 0.5, 0.0, 1.0)
    return np.diff(below @ load)
