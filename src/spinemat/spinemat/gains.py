"""Gains of the force control: value, range, unit and meaning of each in one place.

The node declares its parameters from this table. All values are engineering choices, tried in the
simulated mat (`docs/control.md`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from spinemat.errors import InvalidInput, number

SLEW = 100.0  # N/s, steepest change of a force in a treatment


def _gain(value: float, low: float, high: float, unit: str, text: str, fixed: bool = False) -> Any:
    meta = {"range": (low, high), "unit": unit, "text": text, "fixed": fixed}
    return field(default=value, metadata=meta)


@dataclass(frozen=True)
class ControlGains:
    """Gains of `control.FingerController`; SI units.

    `fixed` ones are limits of safety: a node takes them at its start and never again.

    Raises:
        InvalidInput: a value is out of its range, or two contradict each other.
    """

    omega_unknown: float = _gain(
        10.0, 2.0, 20.0, "rad/s", "force loop before the tissue was measured"
    )
    omega_known: float = _gain(30.0, 2.0, 40.0, "rad/s", "force loop with a measured stiffness")
    stiffness: float = _gain(5000.0, 1000.0, 60000.0, "N/m", "per finger, believed before a scan")
    toe_stiffness: float = _gain(
        2000.0, 1000.0, 60000.0, "N/m", "per finger, believed in the toe before a scan"
    )
    toe_force_trunk: float = _gain(10.0, 0.5, 20.0, "N", "end of the toe of a finger in the trunk")
    toe_force_neck: float = _gain(3.5, 0.5, 10.0, "N", "end of the toe of a finger in the neck")
    zero_time: float = _gain(0.5, 0.1, 10.0, "s", "average of the unloaded load cells")
    contact_on: float = _gain(
        0.6, 0.3, 2.0, "N", "contact is felt above; six times the load cell's noise", True
    )
    contact_off: float = _gain(0.25, 0.05, 1.0, "N", "contact is lost below", True)
    contact_cycles: int = _gain(2, 1, 10, "cycles", "above contact_on until it counts", True)
    slow_approach: float = _gain(0.005, 0.001, 0.005, "m/s", "search on unknown tissue", True)
    approach_margin: float = _gain(
        0.004, 0.002, 0.02, "m", "before the expected contact the slow search begins", True
    )
    position_gain: float = _gain(8.0, 1.0, 20.0, "1/s", "of moves to a height")
    retract_speed: float = _gain(0.08, 0.02, 0.1, "m/s", "of a retraction")
    slew: float = _gain(SLEW, 10.0, SLEW, "N/s", "steepest change of a set-point", True)
    jerk: float = _gain(3000.0, 500.0, 3000.0, "N/s^2", "largest change of the slew", True)
    integral: float = _gain(0.006, 0.0, 0.02, "m/s", "most that the integral action asks for")
    lead: float = _gain(0.008, 0.0, 0.02, "s", "delay of the loop: one cycle and the drive's lag")
    adapt: float = _gain(4.0, 0.0, 10.0, "1/s", "slow correction of the stiffness")
    adapt_least: float = _gain(0.5, 0.2, 1.0, "", "of the believed stiffness, slow correction")
    adapt_most: float = _gain(2.0, 1.0, 5.0, "", "of the believed stiffness, slow correction")
    quicker: float = _gain(1.25, 1.0, 2.0, "", "stiffer to a rhythm than to a slow scan, times")
    adapt_rate: float = _gain(10.0, 1.0, 100.0, "N/s", "set-points that change less teach little")
    stiffen_margin: float = _gain(
        2.5, 1.5, 5.0, "", "of the stiffness in use: more than that is felt, it is corrected"
    )
    stiffen_memory: float = _gain(0.06, 0.02, 0.5, "s", "of the quick correction")
    stiffen_noise: float = _gain(
        1.5, 0.5, 5.0, "N", "what noise and neighbours may change in the meantime"
    )
    contact_noise: float = _gain(
        0.5, 0.1, 2.0, "N", "of a rise of force at contact that says nothing"
    )
    contact_travel: float = _gain(
        20e-6, 1e-6, 1e-3, "m", "shortest travel over which that rise is looked at"
    )
    most_stiffness: float = _gain(60000.0, 10000.0, 200000.0, "N/m", "per finger, ever used")
    set_point_share: float = _gain(
        0.95, 0.5, 0.97, "", "of a press limit: room for overshoot and for the load cell", True
    )
    ceiling_margin: float = _gain(
        2.0, 0.5, 3.0, "N", "over the set-point that the drive may reach", True
    )
    ceiling_friction: float = _gain(
        0.4, 0.0, 3.0, "N", "below the press limit: friction of a drive may be smaller", True
    )
    force_velocity: float = _gain(0.06, 0.01, 0.06, "m/s", "largest velocity in force mode", True)

    def __post_init__(self) -> None:
        for f in fields(self):
            name, value = f"gains.{f.name}", getattr(self, f.name)
            low, high = f.metadata["range"]
            number(name, value, low, high, f.metadata["unit"])
            if isinstance(f.default, int) and not isinstance(value, int):
                raise InvalidInput(name, value, f"a whole number of {f.metadata['unit']}")
        if self.contact_off >= self.contact_on:
            allowed = f"below gains.contact_on, {self.contact_on:g} N"
            raise InvalidInput("gains.contact_off", self.contact_off, allowed)
