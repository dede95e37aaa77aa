"""Plain words for what a session's record says."""

from __future__ import annotations

import math
from typing import Any

from spinemat_recording.change import NO_CHANGE, NOT_JUDGED, NOT_TWICE, Change
from spinemat_recording.record import SessionRecord
from spinemat_recording.rendering import number, signed


def summary(record: SessionRecord, content: dict[str, Any], judged: dict[str, Any]) -> list[str]:
    """Say in plain words what was done and what was found; one sentence or two an entry."""
    said = []
    phases = [name for name, _, _ in record.phases]
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
    if content["broken"]:
        said.append(f"The recording is not whole: {content['broken']}.")
    if "ABORTED" in phases:
        why = (
            next(
                (
                    e.text
                    for e in record.events
                    if e.kind == "phase" and e.text.startswith("ABORTED")
                ),
                "",
            )
            .removeprefix("ABORTED")
            .lstrip(": ")
        )
        said.append(
            "The session was ended early"
            + (f" ({why})" if why else "")
            + "; what was measured until then is below."
        )
    elif phases and phases[-1] not in ("REPORT", "IDLE"):
        where = phases[-1].lower().replace("_", " ")
        said.append(f"The record breaks off in the phase “{where}”; how it ended is not known.")
    said += [
        _stiffness_words(content["stiffness"]),
        _contour_words(content["contour"]),
        _dose_words(content["dose"]),
        _comfort_words(content["comfort"]),
        _stop_words(record, judged),
    ]
    if judged["over_limit"] is True:
        said.append("A force on the tissue went over the limit that should stop the mat.")
    return [words for words in said if words]


def _stiffness_words(stiffness: dict[str, Any] | None) -> str:
    if stiffness is None:
        return "No stiffness was measured."
    if not stiffness["measured_twice"]:
        return "Stiffness was measured once, so nothing can be said about change."
    return _verdict_words(stiffness["trunk"])


def _contour_words(contour: dict[str, Any] | None) -> str:
    if contour is None or contour["change"] is None:
        return ""
    change = contour["change"]
    if change["none"]:
        return "The contour of the back shows no measurable change."
    return (
        f"The contour of the back differs by at most {abs(change['largest']):.1f} mm; at that"
        f" place {change['detectable']:.1f} mm is the least that can be told from chance."
    )


def _dose_words(dose: dict[str, Any]) -> str:
    if dose["plan"] is None and not dose["planned"]:
        return "No plan was recorded."
    if not dose["given"]:
        return "A plan was made; what was given is not recorded."
    planned, given = dose["total"].get("work", (0.0, 0.0))
    if dose["plan"] is None:
        words = "No plan was recorded."
    elif planned <= 0.0:
        return "The plan did not press anywhere."
    elif given <= 0.0:
        return "A plan was made; nothing of it was pressed."
    else:
        words = f"Of the planned work {100.0 * given / planned:.0f} % was given."
    if dose["peak"] is not None:
        words += f" The largest force of a finger was {dose['peak'].peak:.1f} N"
        if dose["plan"] is not None:
            words += f" ({dose['peak'].level}; planned there {dose['peak'].planned_peak:.1f} N)"
        words += "."
    return words


def _comfort_words(comfort: dict[str, Any]) -> str:
    words = "No pain was reported."
    if comfort["most"] is not None:
        worst = next(r for r in comfort["reports"] if r["pain"] == comfort["most"])
        words = f"Highest pain reported: {comfort['most']:g} of 10 (place: {worst['place']})."
    if comfort["guarding"]:
        n = len(comfort["guarding"])
        words += f" Protective tension was felt {'once' if n == 1 else f'{n} times'}."
    return words


def _stop_words(record: SessionRecord, judged: dict[str, Any]) -> str:
    stops = judged["stops"]
    if record.safety is None:  # the bag is gone: the events may still know
        stops = sum(e.severity == "stop" for e in record.events)
        return (
            "Whether there was a safety stop is not recorded."
            if not stops
            else "The events tell of a safety stop."
        )
    if not stops:
        return "There was no safety stop."
    count = "was one safety stop" if stops == 1 else f"were {stops} safety stops"
    released = judged["released_after_stop_s"]
    after = "."
    if released and max(released) < math.inf:
        after = f"; the tissue was free of force within {1e3 * max(released):.0f} ms."
    elif released:
        after = "; the record ends before the tissue was free of force."
    return f"There {count}{after}"


def at_a_glance(content: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the first table: what was measured before and after, and what that means.

    Each row has name, before, after, change, detectable, reading and how it was measured.
    """
    rows = []
    stiffness, findings, contour = (content[k] for k in ("stiffness", "findings", "contour"))
    if stiffness is not None:
        counts = [
            f"{sum(c.before is not None for c in stiffness['trunk'])} valid",
            f"{sum(c.after is not None for c in stiffness['trunk'])} valid"
            if stiffness["measured_twice"]
            else "–",
        ]
        verdicts = [c.verdict for c in stiffness["trunk"]]
        names = ("softer", "stiffer", NO_CHANGE)
        reading = ", ".join(f"{verdicts.count(v)} {v}" for v in names if verdicts.count(v))
        rows.append(
            _row(f"Stiffness, {len(verdicts)} levels of the trunk", *counts, "", "",
                 reading or NOT_TWICE, "force over indentation, see the levels")
        )  # fmt: skip
        e = findings["evenness"]
        rows.append(
            _row("Evenness of movement, %", _pm(e.before, e.before_error),
                 _pm(e.after, e.after_error), signed(e.change), number(e.detectable), e.verdict,
                 "movement shared as in an even back")
        )  # fmt: skip
        for key, name in (("tension", "Tension points"), ("sides", "Uneven sides")):
            told = [", ".join(p.split(" ")[0] for p in r[key]) or "none" for r in findings["rows"]]
            how = "stiffer than own trend" if key == "tension" else "left against right"
            rows.append(_row(name, *[*told, "–"][:2], "", "", "", how))
    if contour is not None:
        for key, name in (
            ("kyphosis", "Kyphosis T1–T12, °"),
            ("lordosis", "Lordosis T12–S1, °"),
            ("lateral_asymmetry", "Skin, right higher than left, mm"),
        ):
            c = contour["shape"][key]
            how = "mean over rows" if key == "lateral_asymmetry" else "tangents of the lying skin"
            rows.append(
                _row(name, _pm(c.before, c.before_error), _pm(c.after, c.after_error),
                     signed(c.change), number(c.detectable), c.verdict, how)
            )  # fmt: skip
        change = contour["change"]
        if change is not None:
            rows.append(
                _row("Contour, largest difference, mm", "", "", signed(change["largest"]),
                     number(change["detectable"]),
                     NO_CHANGE if change["none"] else "differs, see contour",
                     "skin height at no force")
            )  # fmt: skip
    if content["breathing"] is not None:
        told = [
            number(r[1]) if len(r) > 1 else "–"
            for r in content["breathing"]["rows"]
            if r[0] != "in treatment"
        ]
        how = "felt by resting fingers"
        rows.append(_row("Breaths per minute", *told, "", "", NOT_JUDGED, how))
    return rows


def _row(*values: str) -> dict[str, Any]:
    names = ("name", "before", "after", "change", "detectable", "reading", "how")
    kind = "none" if "not " in values[-2] else ""
    return dict(zip(names, values, strict=True)) | {"kind": kind}


def _pm(value: float, error: float) -> str:
    return f"{number(value)} ± {number(1.96 * error)}" if math.isfinite(value) else "–"


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
