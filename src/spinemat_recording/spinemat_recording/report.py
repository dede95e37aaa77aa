"""The report of a session: one HTML file that needs nothing else, `write_report`."""

from __future__ import annotations

import datetime
import math
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from spinemat.layout import MatLayout
from spinemat_recording import figures
from spinemat_recording.change import TRUNK, changes, level_names
from spinemat_recording.evaluation import evaluate
from spinemat_recording.record import FORCE_MODE, Contour, SessionRecord
from spinemat_recording.session_record import read_session
from spinemat_recording.wording import clock, judged_rows, summary

CLOSE_UP = 8.0  # s of rhythm that are drawn
MAX_LINES = 400  # of the timeline
_NAMES = {
    "person_id": "Person (synthetic id)",
    "sex": "Sex",
    "age": "Age",
    "stature": "Stature",
    "mass": "Mass",
    "programme": "Programme",
}


def write_report(
    folder: str | Path, layout: MatLayout, person: dict[str, Any], extra: dict[str, Any]
) -> Path:
    """Write `<folder>/report.html` and return its path.

    Args:
        folder: a session's folder that `read_session` can read.
        layout: the mat that was used.
        person: person_id, sex, age (years), stature (m), mass (kg), programme; any may be missing.
        extra: what the record does not hold, all optional: date (text), software (text),
            simulated (bool), pressure (dict with x in m, model, and any of maps, maps_low,
            maps_high, unit, correlation, ceiling, method), picture (path of a PNG),
            picture_caption, suggestions (texts), checks (dicts with name, value, limit,
            relation, pass).

    Raises:
        RecordError: the record cannot be read or belongs to another mat.
        OSError: the report cannot be written or the picture cannot be read.
    """
    folder = Path(folder)
    record = read_session(folder)
    judged = evaluate(record, layout)
    content = {
        "person": _person(person, record),
        "facts": _facts(record, extra),
        "simulated": bool(extra.get("simulated", record.truth is not None)),
        "contour": _contour(record, layout, judged),
        "stiffness": _stiffness(record, layout),
        "forces": _forces(record, layout),
        "rhythm": _rhythm(record, layout),
        "breathing": _breathing(record),
        "load": _load(extra.get("pressure")),
        "picture": figures.picture(extra["picture"]) if extra.get("picture") else None,
        "picture_caption": extra.get("picture_caption", "The mat and the person, simulated."),
        "judged": judged_rows(judged),
        "suggestions": extra.get("suggestions") or [],
        "timeline": _timeline(record),
        "checks": extra.get("checks") or [],
    }
    content["summary"] = summary(record, content, judged)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"number": _number, "signed": _signed}
    path = folder / "report.html"
    text = environment.get_template("report.html").render(content)
    path.write_text(text, encoding="utf-8")
    return path


def _person(person: dict[str, Any], record: SessionRecord) -> list[tuple[str, str]]:
    known = {"person_id": person.get("id"), "programme": record.programme or None, **person}
    show = {
        "age": lambda v: f"{v:g} years",
        "stature": lambda v: f"{100 * v:.0f} cm",
        "mass": lambda v: f"{v:g} kg",
    }
    return [
        (label, show.get(key, str)(known[key]))
        for key, label in _NAMES.items()
        if known.get(key) is not None
    ]


def _facts(record: SessionRecord, extra: dict[str, Any]) -> list[tuple[str, str]]:
    written = (record.folder / "bag" / "metadata.yaml").stat().st_mtime
    day = datetime.datetime.fromtimestamp(written).strftime("%Y-%m-%d %H:%M")
    try:
        software = f"SpineMat {version('spinemat')}"
    except PackageNotFoundError:
        software = "SpineMat"
    simulated = extra.get("simulated", record.truth is not None)
    return [
        ("Session", record.session_id or record.folder.name),
        ("Date", str(extra.get("date", day))),
        ("Duration", f"{clock(record.end - record.start).split('.')[0]} min"),
        ("Mat and person", "simulated" if simulated else "real mat"),
        ("Software", str(extra.get("software", software))),
    ]


def _contour(
    record: SessionRecord, layout: MatLayout, judged: dict[str, Any]
) -> dict[str, Any] | None:
    if not record.contours:
        return None
    pair = [record.contours[0], *record.contours[1:][-1:]]
    rows = [
        {
            "when": when,
            "kyphosis": math.degrees(c.kyphosis),
            "lordosis": math.degrees(c.lordosis),
            "asymmetry": 1e3 * c.lateral_asymmetry,
            "rows": f"{int(c.valid.sum())} of {c.valid.size}",
        }
        for when, c in zip(("before", "after"), pair, strict=False)
    ]
    if record.truth_contour is not None:
        truth = record.truth_contour
        rows.append(
            {
                "when": "truth",
                "kyphosis": math.degrees(truth.kyphosis),
                "lordosis": math.degrees(truth.lordosis),
                "asymmetry": 1e3 * truth.lateral_asymmetry,
                "rows": "",
            }
        )
    return {
        "figure": figures.contour_figure(record.contours, record.truth_contour, layout),
        "rows": rows,
        "rmse": judged["contour_rmse_mm"],
        "change": _contour_change(*pair) if len(pair) == 2 else None,
        "method": pair[0].method or "not stated",
    }


def _contour_change(before: Contour, after: Contour) -> dict[str, Any]:
    """Compare two contours at every x of the first: where do they differ most?"""
    z = np.interp(before.x, after.x, after.z)
    error = np.interp(before.x, after.x, after.z_std)
    difference = 1e3 * (z - before.z)
    detectable = 1.96e3 * np.hypot(error, before.z_std)
    i = int(np.nanargmax(np.abs(difference)))
    return {
        "largest": float(difference[i]),
        "at": 1e3 * float(before.x[i]),
        "detectable": float(detectable[i]),
        "share": 100.0 * float(np.mean(np.abs(difference) > detectable)),
    }


def _stiffness(record: SessionRecord, layout: MatLayout) -> dict[str, Any] | None:
    if not record.stiffness:
        return None
    before = record.stiffness[0]
    after = record.stiffness[-1] if len(record.stiffness) > 1 else None
    names = level_names(before, after)
    both = changes(before, after, "BOTH")
    pitch = float(np.min(np.diff(layout.row_x))) * 1e3 if len(layout.rows) > 1 else None
    return {
        "figure": figures.stiffness_figure(
            record.stiffness, record.truth_stiffness, names, len(names) - len(TRUNK)
        ),
        "trunk": [c for c in both if c.level in TRUNK],
        "neck": [c for c in both if c.level not in TRUNK],
        "sides": [
            (left, right)
            for left, right in zip(
                changes(before, after, "LEFT"), changes(before, after, "RIGHT"), strict=False
            )
            if left.level == right.level
        ],
        "measured_twice": after is not None,
        "pitch": pitch,
        "method": before.method or "not stated",
    }


def _forces(record: SessionRecord, layout: MatLayout) -> dict[str, Any] | None:
    t, force = figures.force_source(record)
    if not t.size or force.shape[1] != layout.n:
        return None
    i = int(np.argmax(force.max(axis=0)))
    return {
        "figure": figures.force_figure(record, layout),
        "peak": float(force[:, i].max()),
        "finger": layout.names[i],
        "press": float(layout.press_limit[i]),
        "trip": float(layout.trip_limit[i]),
    }


def _rhythm(record: SessionRecord, layout: MatLayout) -> dict[str, Any] | None:
    """Choose the finger that pressed most in treatment and a stretch in which it kept pressing."""
    f = record.fingers
    if f is None or f.force.shape[1] != layout.n:
        return None
    treat = np.zeros(f.t.size, dtype=bool)
    for name, start, end in record.phases:
        if name == "TREAT":
            treat |= (f.t >= start) & (f.t < end)
    pressing = (f.mode == FORCE_MODE) & treat[:, None]
    work = np.where(pressing, f.set_point, 0.0).sum(axis=0)
    finger = int(np.argmax(work))
    if work[finger] <= 0.0:
        return None
    best, start = -1.0, float(f.t[treat][0])
    for begin in np.arange(f.t[treat][0], f.t[treat][-1], 1.0):
        inside = (f.t >= begin) & (f.t <= begin + CLOSE_UP)
        score = float(pressing[inside, finger].mean()) + 0.01 * float(
            np.std(f.set_point[inside, finger])
        )
        if score > best:
            best, start = score, float(begin)
    inside = (f.t >= start) & (f.t <= start + CLOSE_UP) & pressing[:, finger]
    error = f.force[inside, finger] - f.set_point[inside, finger]
    return {
        "figure": figures.rhythm_figure(record, finger, start, start + CLOSE_UP),
        "finger": layout.names[finger],
        "region": layout.regions[finger],
        "error": float(np.sqrt(np.mean(error**2))),
    }


def _breathing(record: SessionRecord) -> dict[str, Any] | None:
    b = record.breathing
    if b is None or not np.any(b.valid):
        return None
    rate = 60.0 * b.rate[np.asarray(b.valid, dtype=bool)]
    return {
        "figure": figures.breathing_figure(record),
        "median": float(np.median(rate)),
        "low": float(np.percentile(rate, 5)),
        "high": float(np.percentile(rate, 95)),
        "share": 100.0 * float(np.mean(b.valid)),
    }


def _load(pressure: dict[str, Any] | None) -> dict[str, Any] | None:
    if not pressure:
        return None
    return {
        "figure": figures.load_figure(pressure),
        "correlation": pressure.get("correlation"),
        "ceiling": pressure.get("ceiling"),
        "method": pressure.get("method", "not stated"),
    }


def _timeline(record: SessionRecord) -> dict[str, Any]:
    told = any(e.kind == "phase" for e in record.events)  # the orchestrator's words say more
    events = [
        {
            "time": clock(e.t - record.start),
            "severity": e.severity,
            "source": e.source,
            "kind": e.kind.replace("_", " "),
            "text": e.text,
        }
        for e in sorted(record.events, key=lambda e: e.t)
        if not (told and e.kind == "session_phase")
        and not (e.kind == "safety_state" and e.severity == "info")
    ]
    logged = {
        round(e.t, 1)
        for e in record.events
        if e.severity == "stop" or e.kind in ("safety_state", "stop")
    }
    for time in figures.stop_times(record):  # a stop is shown even if no event told of it
        if round(time, 1) in logged or record.safety is None:
            continue
        i = int(np.searchsorted(record.safety.t, time))
        events.append(
            {
                "time": clock(time - record.start),
                "severity": "stop",
                "source": "safety_supervisor",
                "kind": "safety state",
                "text": f"stopped: {record.safety.cause[i]}, {record.safety.detail[i]}",
            }
        )
    events.sort(key=lambda e: e["time"])
    keep = events
    if len(events) > MAX_LINES:
        keep = [e for e in events if e["severity"] != "info"][:MAX_LINES]
    return {"events": keep, "left_out": len(events) - len(keep)}


def _number(value: Any, digits: int = 1) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    return f"{value:.{digits}f}".replace("-", "−") if isinstance(value, float) else str(value)


def _signed(value: float | None, digits: int = 1) -> str:
    if value is None:
        return "–"
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0.0 else text.replace("-", "−")
