"""The plant in DART, the engine that Gazebo runs by default.

The model is not built here: DART's own parser reads the world that is written for Gazebo. So it
checks that world too, where no Gazebo is installed.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import dartpy
import numpy as np
from numpy.typing import NDArray

from spinemat.errors import InvalidInput
from spinemat.layout import MatLayout
from spinemat_sim.gazebo_plant import SteppedPlant
from spinemat_sim.gazebo_world import tip_name, world_text
from spinemat_sim.person import Person

Array = NDArray[np.float64]


class DartPlant(SteppedPlant):
    """A person on a mat, moved by DART.

    Args:
        layout, person, urdf, keywords: as for `Plant`.
        world: path of a world that `gazebo_world.write_world` wrote for the same mat and person;
            default: one written for the occasion.

    Raises:
        InvalidInput: DART cannot read the world, or it is not that of this mat and person.
    """

    def __init__(
        self,
        layout: MatLayout,
        person: Person,
        urdf: str,
        world: Path | None = None,
        **keywords: Any,
    ) -> None:
        super().__init__(layout, person, urdf, **keywords)
        with tempfile.TemporaryDirectory() as folder:
            path = world or Path(folder, "mat.sdf")
            if world is None:
                path.write_text(world_text(self, urdf, "/mat", {}), encoding="utf-8")
            self.world = dartpy.utils.SdfParser.readWorld(str(path))
        if self.world is None:
            raise InvalidInput("world", str(world), "an SDF file that DART reads")
        self.world.setGravity([0.0, 0.0, 0.0])  # the parser knows it at another place only
        self.world.setTimeStep(self.time_step)
        every = [self.world.getSkeleton(i) for i in range(self.world.getNumSkeletons())]
        skeletons = [skeleton for skeleton in every if skeleton.isMobile()]
        dofs = {
            s.getDof(i).getName(): s.getDof(i) for s in skeletons for i in range(s.getNumDofs())
        }
        bodies = {
            b.getName(): b
            for s in skeletons
            for b in (s.getBodyNode(i) for i in range(s.getNumBodyNodes()))
        }
        missing = [name for name in self.chain.names if name not in dofs]
        if missing or len(dofs) != len(self.chain.names):
            given = missing[:3] or f"{len(dofs)} joints"
            raise InvalidInput("world", given, "the joints of this mat and person")
        self._dofs = [dofs[name] for name in self.chain.names]
        self._tips = [bodies[tip_name(name)] for name in self.layout.names]
        for dof, place in zip(self._dofs, self.data.qpos, strict=True):
            dof.setPosition(float(place))

    def step(self, velocity: Array, motor_low: Array, motor_high: Array) -> None:
        """Run one drive cycle; see `Plant.step`."""
        self.begin(velocity, motor_low, motor_high)
        for _ in range(self.substeps):
            joints, tips = self.forces()
            for dof, force in zip(self._dofs, joints.tolist(), strict=True):
                dof.setForce(force)
            for tip, press in zip(self._tips, tips.tolist(), strict=True):
                if press > 0.0:
                    tip.addExtForce([0.0, 0.0, -press])
            self.world.step()
            self.moved(
                np.array([dof.getPosition() for dof in self._dofs]),
                np.array([dof.getVelocity() for dof in self._dofs]),
            )
        self.end()

    def tip_wrench(self) -> Array:
        """Force through the fixed joint under each tip in the last step, up on the tip, (n,), N.

        What a force-torque sensor there feels: the press on the tip and the tip's own inertia.
        """
        return np.array([tip.getBodyForce()[5] for tip in self._tips])
