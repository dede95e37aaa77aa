"""Plain words for what a session's record says."""

from __future__ import annotations

import math
from typing import Any

from spinemat_recording.change import NO_CHANGE, Change
from spinemat_recording.record import SessionRecord

CHANCE = 5.0  # %, the share of a contour that passes a 95 % limit without any change


def summary(record: SessionRecord, content: dict[str, Any], judged: dict[str, Any]) -> str:
    """Say in plain words what was done and what was found."""
    said = []
    phases = {name for name, _, _ in record.phases}
    done = [
        words
        for phase, words in (
            ("SCAN", "felt the back"),
            ("TREAT", "pressed in a rhythm"),
            ("RESCAN", "felt the back again"),
        )
        if phase in phases
    ]
    if done:
        listed = done[0] if len(done) == 1 else ", ".join(done[:-1]) + f" and {done[-1]}"
        said.append(f"The mat {listed}.")
    if "ABORTED" in phases:
        said.append("The session was ended early; what was measured until then is below.")
    stiffness = content["stiffness"]
    if stiffness is None:
        said.append("No stiffness was measured.")
    elif not stiffness["measured_twice"]:
        said.append("Stiffness was measured once, so nothing can be said about change.")
    else:
        said.append(_verdict_words(stiffness["trunk"]))
    contour = content["contour"]
    if contour is not None and contour["change"] is not None:
        change = contour["change"]
        if change["share"] <= CHANCE:
            said.append("The contour of the back shows no measurable change.")
        else:
            said.append(
                f"The contour of the back differs by at most {abs(change['largest']):.1f} mm; at"
                f" that place {change['detectable']:.1f} mm is the least that can be told from"
                " chance."
            )
    stops = judged["stops"]
    if not stops:
        said.append("There was no safety stop.")
    else:
        count = "was one safety stop" if stops == 1 else f"were {stops} safety stops"
        released = judged["released_after_stop_s"]
        after = "."
        if released and max(released) < math.inf:
            after = f"; the tissue was free of force within {1e3 * max(released):.0f} ms."
        elif released:
            after = "; the record ends before the tissue was free of force."
        said.append(f"There {count}{after}")
    if judged["over_limit"] is True:
        said.append("A force on the tissue went over the limit that should stop the mat.")
    return " ".join(said)


def _verdict_words(trunk: list[Change]) -> str:
    twice = [c for c in trunk if c.change is not None]
    if not twice:
        return "No level of the trunk was measured twice, so nothing can be said about change."
    same = sum(c.verdict == NO_CHANGE for c in twice)
    parts = [f"{same} show no measurable change"]
    for verdict in ("softer", "stiffer"):
        names = [c.level for c in twice if c.verdict == verdict]
        if names:
            parts.append(f"{len(names)} measured {verdict} ({', '.join(names)})")
    return f"Of {len(twice)} levels measured before and after, " + ", ".join(parts) + "."


def judged_rows(j: dict[str, Any]) -> list[dict[str, str]]:
    """Return the figures of `evaluate` as name, value and method for people."""
    released = ", ".join(
        f"{1e3 * s:.0f} ms" if math.isfinite(s) else "never" for s in j["released_after_stop_s"]
    )
    rows = [
        (
            "Contour, error (RMS)",
            _unit(j["contour_rmse_mm"], "mm", 2),
            "first contour minus true skin line, over the length both cover",
        ),
        (
            "Stiffness, error (median)",
            _unit(j["stiffness_error_pct"], "%", 1),
            "first map, levels T1–L5, both sides; a missing or invalid level counts as 100 %",
        ),
        (
            "Largest tissue force against its limit",
            f"{j['peak_tissue_force_n']:.1f} N of {j['force_limit_n']:.0f} N"
            f" ({j['force_finger']}){'; over the limit' if j['over_limit'] is True else ''}"
            if j["force_finger"]
            else "not judged",
            "true force on the tissue, finger with the least margin to its trip limit",
        ),
        (
            "Static holds",
            _unit(j["static_holds"], "", 0),
            "times a finger stayed above 10 N for more than 5 s",
        ),
        (
            "Safety stops",
            str(j["stops"]) + (f"; tissue free after {released}" if released else ""),
            "from the supervisor's STOPPED until every true force is below 1 N",
        ),
        (
            "Control rate",
            _unit(j["control_rate_hz"], "Hz", 0),
            "commands per second of drive time",
        ),
        (
            "Late cycles",
            _unit(j["late_cycles"], "", 0),
            "drive cycles that went on without an answer in time",
        ),
    ]
    return [
        {"name": name, "value": value, "method": method}
        for name, value, method in rows
        if value != "not judged"
    ]


def clock(seconds: float) -> str:
    """Return a duration as minutes and seconds, such as 03:07.4."""
    tenths = max(0, round(10 * seconds))
    return f"{tenths // 600:02d}:{tenths % 600 // 10:02d}.{tenths % 10}"


def _unit(value: Any, unit: str, digits: int) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return "not judged"
    return f"{value:.{digits}f} {unit}".strip()
