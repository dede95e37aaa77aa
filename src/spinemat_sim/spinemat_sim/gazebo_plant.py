"""The plant with another engine in MuJoCo's place: forces out, coordinates in, step by step.

Gazebo and DART move the bodies and know the joints' own springs and dampers. What neither can
express is computed here by the plant's own code and handed over as forces before each step:
drives, tissue under the tips, couplings between vertebrae, padding that only presses, creep,
guarding.

Dampers of the couplings are too strong for forces that follow the last step's speed (they would
need steps of 0.1 ms). They follow the speed that the step is going to end with, predicted from the
chain's mass matrix at rest: the implicit scheme of MuJoCo, which the engine then repeats.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spinemat.errors import InvalidInput
from spinemat_sim import kernel
from spinemat_sim.gazebo_chain import read_chain
from spinemat_sim.plant import Plant

Array = NDArray[np.float64]


class SteppedPlant(Plant):
    """A plant whose bodies another engine moves.

    For each drive cycle call `begin`; for each of its `substeps` call `forces`, let the engine
    make one step of `time_step`, and call `moved`; then call `end`. Arguments as for `Plant`.

    Attributes:
        chain: what the engine has to hold; its coordinates are in the order of `chain.names`.
        substeps: steps in a drive cycle.
        time_step: s.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.chain = chain = read_chain(self.body)
        self.substeps, self.time_step = self._substeps, float(self.model.opt.timestep)
        h = self.time_step
        # The engines treat a joint's spring implicitly, too.
        self._numbers[kernel.INERTIA] += h * self.layout.finger.return_stiffness
        self._dampers = (chain.rows.T * chain.coupling_damping) @ chain.rows
        resists = self._dampers + np.diag(chain.damping)
        matrix = chain.mass_matrix + h * resists + h**2 * np.diag(chain.stiffness)
        self._predict = h * np.linalg.inv(matrix)
        self._resists = resists + h * np.diag(chain.stiffness)
        self._bands = self.model.tendon_lengthspring  # a view: those of the padding breathe
        self._order: tuple[Any, ...] = ()
        (*_, self._index, self._constant, self._reach, self._provoked) = self._call[:10]

    def begin(self, velocity: Array, motor_low: Array, motor_high: Array) -> None:
        """Begin a drive cycle with these orders; see `Plant.step`.

        Raises:
            InvalidInput: see `Plant.step`.
        """
        self._order = order = self._begin(velocity, motor_low, motor_high)
        _, breath, *orders = order
        f, p, (padding, _, band, _) = self._fingers, self._numbers, self._padding
        if not kernel.begin(f, p, padding, band, breath, *orders):
            allowed = "finite, motor_low up to motor_high"
            raise InvalidInput("order", "not finite, or motor_low above motor_high", allowed)

    def forces(self) -> tuple[Array, Array]:
        """Return what acts on the bodies in the next step.

        Returns:
            joints: generalised forces beside the joints' own springs and dampers, (nv,), N or N m.
            tips: how hard the tissue presses each tip down, a force on the tip itself, (n,), N.
        """
        d, chain = self.data, self.chain
        q, v, applied, breath = d.qpos, d.qvel, d.qfrc_applied, self._order[1]
        f, p = self._fingers, self._numbers
        kernel.forces(f, self._levels, p, self._index, self._constant, q, v, applied, breath)
        length = chain.rows @ q
        low, high = self._bands.T
        stretch = length - np.clip(length, low, high)
        joints = applied - chain.rows.T @ (chain.coupling * stretch)
        own = chain.stiffness * (q - chain.reference)
        speed = v + self._predict @ (joints - own - self._resists @ v)
        joints -= self._dampers @ speed
        tips = f[kernel.FORCE].copy()
        fingers = self.body.finger_q
        joints[fingers] += tips  # the kernel counts it among the joint's forces
        # The drives' closed form has the joint's spring where the step begins, the engines where
        # it ends.
        joints[fingers] += self.time_step * chain.stiffness[fingers] * v[fingers]
        return joints, tips

    def moved(self, position: Array, velocity: Array) -> None:
        """Take the coordinates after a step and their speeds, (nv,) each."""
        d = self.data
        d.qpos[:], d.qvel[:] = position, velocity
        breath = self._order[1]
        kernel.tissue(self._fingers, self._numbers, self._index, self._constant, d.qpos, breath)

    def end(self) -> None:
        """End the drive cycle."""
        cycle, f, p = self._order[0], self._fingers, self._numbers
        q = self.data.qpos
        kernel.finish(f, self._levels, p, self._index, self._reach, self._provoked, cycle, q)
        kernel.sense(f, p, self._status, self._noise[cycle % len(self._noise)], cycle)
        self._end(kernel.padding_loads(*self._padding, q))
