"""The fingers' health as `diagnostic_msgs`, for `rqt_robot_monitor` and its like."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from numpy.typing import NDArray
from std_msgs.msg import Header

from spinemat.control import FingerController
from spinemat.modes import Mode
from spinemat_actuation.calibrating import FingerTests

Array = NDArray[np.float64]

WARM, HOT = 80.0, 100.0  # degC of a winding (engineering choice; drives report over 100)
FAR_OFF = 2.0  # N between force and set-point of a finger in contact (engineering choice)
OLD_ZERO = 1800.0  # s since the load cell's zero was learnt (engineering choice)


def diagnose(
    head: Header,
    node: str,
    control: FingerController,
    tests: FingerTests,
    temperature: Array,
    late: int,
) -> DiagnosticArray:
    """One status for the node and one for each finger.

    Args:
        head: with the drive's time.
        node: full name of the node.
        control: of the fingers.
        tests: self-test of the fingers.
        temperature: of the windings, shape (n,), degC; NaN or another shape: not known.
        late: drive cycles that the node has not answered in time.
    """
    layout = control.layout
    if temperature.shape != (layout.n,):
        temperature = np.full(layout.n, np.nan)
    error = control.force - control.reference
    found = tests.verdict.measured if tests.verdict is not None else None
    kept = tests.stored.when if tests.stored is not None else "never"
    held = (control.mode == Mode.FORCE) & control.contact
    status = [
        _status(node, "late cycles", layout.name, DiagnosticStatus.OK, "", {"late_cycles": late})
    ]
    for i, name in enumerate(layout.names):
        level, words = DiagnosticStatus.OK, []
        if i in tests.excluded:
            level, words = DiagnosticStatus.ERROR, [f"excluded: {tests.excluded[i]}"]
        for limit, grave in ((WARM, DiagnosticStatus.WARN), (HOT, DiagnosticStatus.ERROR)):
            if temperature[i] > limit:
                level = max(level, grave)
                words = [w for w in words if "winding" not in w]
                words.append(f"winding over {limit:g} degC")
        if held[i] and abs(error[i]) > FAR_OFF:
            level = max(level, DiagnosticStatus.WARN)
            words.append(f"force off by {error[i]:.1f} N")
        if control.zero_age[i] > OLD_ZERO:
            level = max(level, DiagnosticStatus.WARN)
            words.append("zero of the load cell is old")
        values = {
            "mode": Mode(int(control.mode[i])).name,
            "temperature / degC": f"{temperature[i]:.1f}",
            "tracking error / N": f"{error[i]:.2f}" if held[i] else "not in contact",
            "load cell zero / N": f"{control.load_zero[i]:.2f}",
            "calibration age / s": f"{control.zero_age[i]:.0f}",
            "calibration kept": kept,
            "friction / N": "not tested" if found is None else f"{found.friction[i]:.2f}",
            "return spring / N": "not tested" if found is None else f"{found.spring[i]:.2f}",
        }
        status.append(_status(node, name, layout.name, level, "; ".join(words), values))
    return DiagnosticArray(header=head, status=status)


def _status(
    node: str, what: str, hardware: str, level: bytes, words: str, values: Mapping[str, object]
) -> DiagnosticStatus:
    return DiagnosticStatus(
        level=level,
        name=f"{node}: {what}",
        message=words or "ok",
        hardware_id=hardware,
        values=[KeyValue(key=key, value=str(value)) for key, value in values.items()],
    )
