"""What a recorded session was really like, judged from the record and not from a node's claims.

In simulation the `truth/` topics say what happened to the tissue. A figure that cannot be judged
is NaN, which fails every comparison with a limit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spinemat.layout import MatLayout
from spinemat_recording.change import TRUNK
from spinemat_recording.record import (
    Contour,
    RecordError,
    SessionRecord,
    StiffnessMap,
)

HOLD_FORCE = 10.0  # N; above it a finger must not rest longer than …
HOLD_TIME = 5.0  # s (engineering choice: rhythm, never a static hold)
RELEASED = 1.0  # N, less than this on every finger counts as released
_STOPPED = 3  # SafetyState.STOPPED


def evaluate(record: SessionRecord, layout: MatLayout) -> dict[str, Any]:
    """Judge one session.

    Args:
        record: what `read_session` returned.
        layout: the mat that was used; its trip and press limits are the yardstick.

    Returns:
        Plain floats, ints, bools, texts and lists of them; the unit ends the name. Figures that
        cannot be judged are NaN (no truth, no contour …).

    Raises:
        RecordError: the record has another number of fingers than the layout.
    """
    nan = float("nan")
    result: dict[str, Any] = {
        "contour_rmse_mm": nan,
        "stiffness_error_pct": nan,
        "stiffness_levels_valid": 0,
    }
    if record.truth_contour is not None and record.contours:
        result["contour_rmse_mm"] = 1e3 * contour_rmse(record.contours[0], record.truth_contour)
    if record.truth_stiffness is not None and record.stiffness:
        errors = stiffness_errors(record.stiffness[0], record.truth_stiffness)
        if errors:
            result["stiffness_error_pct"] = 100.0 * float(np.median(list(errors.values())))
        entries = [record.stiffness[0].get(level) for level in TRUNK]
        result["stiffness_levels_valid"] = sum(e is not None and e.valid for e in entries)
    result |= _forces(record, layout)
    result |= _timing(record)
    result |= _holds(record, layout)
    result |= _stops(record)
    return result


def contour_rmse(estimate: Contour, truth: Contour) -> float:
    """Return the RMS of estimate minus truth in m, on the truth's x within both contours."""
    known = np.isfinite(estimate.x) & np.isfinite(estimate.z)
    if known.sum() < 2:
        return float("nan")
    x, z = estimate.x[known], estimate.z[known]
    at = np.isfinite(truth.z) & (truth.x >= x[0]) & (truth.x <= x[-1])
    if not at.any():
        return float("nan")
    return float(np.sqrt(np.mean((np.interp(truth.x[at], x, z) - truth.z[at]) ** 2)))


def stiffness_errors(estimate: StiffnessMap, truth: StiffnessMap) -> dict[str, float]:
    """Return |estimate - truth| / truth per trunk level, both sides together.

    A level that the estimate leaves out or calls invalid counts as wrong by 1.0 (100 %); a level
    that the truth does not know is left out.
    """
    errors: dict[str, float] = {}
    for level in TRUNK:
        real = truth.get(level)
        if real is None or not np.isfinite(real.value) or real.value <= 0.0:
            continue
        guess = estimate.get(level)
        usable = guess is not None and guess.valid and np.isfinite(guess.value)
        errors[level] = abs(guess.value - real.value) / real.value if usable and guess else 1.0
    return errors


def _forces(record: SessionRecord, layout: MatLayout) -> dict[str, Any]:
    nan = float("nan")
    result: dict[str, Any] = {
        "peak_tissue_force_n": nan,
        "force_limit_n": nan,
        "force_ratio": nan,
        "force_finger": "",
        "over_limit": nan,
        "largest_force_n": nan,
        "press_excess_n": nan,
        "press_excess_finger": "",
    }
    if record.truth is None:
        return result
    _fingers(record, layout, record.truth.peak_force)
    peak = np.max(record.truth.peak_force, axis=0)
    ratio = peak / layout.trip_limit
    i = int(np.argmax(ratio))
    excess = peak - layout.press_limit
    j = int(np.argmax(excess))
    return {
        "peak_tissue_force_n": float(peak[i]),
        "force_limit_n": float(layout.trip_limit[i]),
        "force_ratio": float(ratio[i]),
        "force_finger": layout.names[i],
        "over_limit": bool(np.any(~(peak <= layout.trip_limit))),
        "largest_force_n": float(peak.max()),
        "press_excess_n": float(excess[j]),
        "press_excess_finger": layout.names[j],
    }


def _timing(record: SessionRecord) -> dict[str, Any]:
    nan = float("nan")
    late = nan
    if record.truth is not None:
        counter = record.truth.late_cycles.astype(np.int64)
        late = int(np.maximum(np.diff(counter), 0).sum())  # a restarted plant counts from 0
    if record.drive is None:
        return {
            "late_cycles": late,
            "sim_seconds": nan,
            "control_rate_hz": nan,
            "answered_share": nan,
            "missing_cycles": nan,
        }
    drive = record.drive
    seconds = float(drive.t[-1] - drive.t[0])
    steps = np.diff(drive.cycle.astype(np.int64))
    rate, answered = (0.0, 0.0) if seconds > 0 else (nan, nan)
    if record.commands is not None and seconds > 0:
        during = (record.commands.t >= drive.t[0]) & (record.commands.t <= drive.t[-1])
        rate = max(int(during.sum()) - 1, 0) / seconds
        answered = float(np.isin(drive.cycle, record.commands.cycle).mean())
    return {
        "late_cycles": late,
        "sim_seconds": seconds,
        "control_rate_hz": rate,
        "answered_share": answered,
        "missing_cycles": int(np.maximum(steps - 1, 0).sum()),
    }


def _holds(record: SessionRecord, layout: MatLayout) -> dict[str, Any]:
    """Count rests of a finger above HOLD_FORCE that last longer than HOLD_TIME."""
    source = record.truth if record.truth is not None else record.drive
    if source is None:
        return {"static_holds": float("nan"), "longest_hold_s": float("nan"), "hold_finger": ""}
    _fingers(record, layout, source.force)
    count, longest, finger = 0, 0.0, ""
    for i in range(source.force.shape[1]):
        lengths = _runs(source.t, source.force[:, i] > HOLD_FORCE)
        count += int((lengths > HOLD_TIME).sum())
        if lengths.size and lengths.max() > longest:
            longest, finger = float(lengths.max()), layout.names[i]
    return {"static_holds": count, "longest_hold_s": longest, "hold_finger": finger}


def _runs(t: NDArray[np.float64], on: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the durations in s of the runs in which `on` is true, in order."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], on, [False]]).astype(np.int8)))
    starts, ends = edges[::2], edges[1::2]
    durations: NDArray[np.float64] = t[np.minimum(ends, t.size - 1)] - t[starts]
    return durations


def _stops(record: SessionRecord) -> dict[str, Any]:
    """Find each transition into STOPPED and how long the tissue then stayed loaded."""
    times: list[float] = []
    causes: list[str] = []
    if record.safety is not None:
        stopped = record.safety.state == _STOPPED
        for i in np.flatnonzero(stopped[1:] & ~stopped[:-1]) + 1:
            times.append(float(record.safety.t[i]))
            causes.append(record.safety.cause[i])
    released: list[float] = []
    if record.truth is not None:
        free = np.all(record.truth.force < RELEASED, axis=1)
        for time in times:
            after = np.flatnonzero(free & (record.truth.t >= time))
            released.append(float(record.truth.t[after[0]] - time) if after.size else float("inf"))
    return {
        "stops": len(times),
        "stop_times_s": times,
        "stop_causes": causes,
        "released_after_stop_s": released,
    }


def _fingers(record: SessionRecord, layout: MatLayout, values: NDArray[np.float64]) -> None:
    if values.shape[1] != layout.n:
        raise RecordError(
            record.folder / "bag",
            f"{values.shape[1]} fingers were recorded, the layout {layout.name} has {layout.n}",
        )
