"""What each section of a session's report shows, in the units that people read."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from spinemat.back_model import UP
from spinemat.findings import LIKELY, STIFFER, UNEVEN_SIDES
from spinemat.layout import MatLayout
from spinemat_recording import figures, treatment_figures
from spinemat_recording.change import (
    SHAPE,
    TRUNK,
    Difference,
    changes,
    evenness,
    heights,
    level_names,
    shape,
)
from spinemat_recording.record import FORCE_MODE, Contour, SessionRecord, StiffnessMap
from spinemat_recording.treatment import DOSE_METHOD, Dose, doses, episodes, rates, steps
from spinemat_recording.wording import clock

CLOSE_UP = 8.0  # s of rhythm that are drawn
MAX_LINES = 400  # of the timeline
CHANCE = 5.0  # %, the share of a contour that passes a 95 % limit without any change


def screening(record: SessionRecord, notes: tuple[str, ...]) -> dict[str, Any]:
    """What screening decided and who answered for it; from the record's event."""
    found = next((e.data for e in record.events if e.kind == "screening" and e.data), None)
    if found is None:
        said = [n for n in notes if n.startswith("No screening")]
        words = said[0] if said else "No screening is recorded for this session."
        return {"verdict": None, "words": words, "reasons": [], "override": None}
    override = found.get("override")
    return {
        "verdict": str(found.get("verdict", "")).replace("_", " "),
        "words": "",
        "reasons": [str(r) for r in found.get("reasons", [])],
        "override": override
        and {
            "by": override.get("clinician", ""),
            "reason": override.get("reason", ""),
            "rules": ", ".join(str(r).replace("_", " ") for r in found.get("overridden", [])),
        },
    }


def contour(
    record: SessionRecord, layout: MatLayout, judged: dict[str, Any]
) -> dict[str, Any] | None:
    if not record.contours:
        return None
    pair = [record.contours[0], *record.contours[1:][-1:]]
    named: list[tuple[str, Contour]] = list(zip(("before", "after"), pair, strict=False))
    if record.truth_contour is not None:
        named.append(("truth", record.truth_contour))
    rows = [
        {
            "when": when,
            "kyphosis": tuple(map(math.degrees, c.kyphosis)),
            "lordosis": tuple(map(math.degrees, c.lordosis)),
            "asymmetry": tuple(1e3 * v for v in c.lateral_asymmetry),
            "rows": "" if when == "truth" else f"{int(c.valid.sum())} of {c.valid.size}",
        }
        for when, c in named
    ]
    return {
        "figure": figures.contour_figure(record.contours, record.truth_contour, layout),
        "rows": rows,
        "heights": [
            (level, _scaled(found, 1e3))
            for level, (_, found) in heights(pair[0], pair[1] if len(pair) > 1 else None).items()
        ],
        "shape": {
            name: _scaled(found, 1e3 if SHAPE[name][0] == "m" else math.degrees(1.0))
            for name, found in shape(record.contours).items()
        },
        "rmse": judged["contour_rmse_mm"],
        "change": _contour_change(pair[0], pair[1]) if len(pair) > 1 else None,
        "method": pair[0].method or "not stated",
    }


def _contour_change(before: Contour, after: Contour) -> dict[str, Any]:
    """Compare two contours at every x of the first: where do they differ most?"""
    z = np.interp(before.x, after.x, after.z)
    error = np.interp(before.x, after.x, after.z_std)
    change = 1e3 * (z - before.z)
    detectable = 1.96e3 * np.hypot(error, before.z_std)
    i = int(np.nanargmax(np.abs(change)))
    share = 100.0 * float(np.mean(np.abs(change) > detectable))
    return {
        "largest": float(change[i]),
        "at": 1e3 * float(before.x[i]),
        "detectable": float(detectable[i]),
        "share": share,
        "none": share <= CHANCE,
    }


def stiffness(record: SessionRecord, layout: MatLayout) -> dict[str, Any] | None:
    if not record.stiffness:
        return None
    before, after = _pair(record)
    names = level_names(before, after)
    both = changes(before, after, "BOTH")
    pitch = float(np.min(np.diff(layout.row_x))) * 1e3 if len(layout.rows) > 1 else None
    neck = [c for c in both if c.level not in TRUNK]
    known = [c for c in neck if c.before is not None or c.after is not None]
    unknown: dict[str, list[str]] = {}
    for c in neck:
        if c not in known:
            unknown.setdefault(c.reason, []).append(c.level)
    lefts = changes(before, after, "LEFT"), changes(before, after, "RIGHT")
    seen = [name for name in names if name in TRUNK or any(c.level == name for c in known)]
    return {
        "figure": figures.stiffness_figure(
            record.stiffness, record.truth_stiffness, seen, len(seen) - len(TRUNK)
        ),
        "trunk": [c for c in both if c.level in TRUNK],
        "neck": known,
        "neck_unknown": [(", ".join(levels), reason) for reason, levels in unknown.items()],
        "sides": [
            (left, right)
            for left, right in zip(*lefts, strict=False)
            if left.level == right.level
            and any(v is not None for c in (left, right) for v in (c.before, c.after))
        ],
        "measured_twice": after is not None,
        "pitch": pitch,
        "method": before.method or "not stated",
    }


def findings(record: SessionRecord) -> dict[str, Any] | None:
    """Evenness, tension points and uneven sides, before and after."""
    if not record.stiffness:
        return None
    before, after = _pair(record)
    rows = [
        {
            "when": when,
            "tension": [
                f"{p.level} (× {p.ratio:.2f}, probability {p.probability:.0%})"
                for p in entry.tension
            ],
            "sides": [
                f"{s.level} ({'left' if s.difference > 0 else 'right'} stiffer,"
                f" {abs(s.difference):.0%}, probability {s.probability:.0%})"
                for s in entry.sides
            ],
        }
        for when, entry in (("before", before), ("after", after))
        if entry is not None
    ]
    return {
        "evenness": _scaled(evenness(record.stiffness), 100.0),
        "rows": rows,
        "ratio": STIFFER,
        "likely": 100.0 * LIKELY,
        "uneven": 100.0 * UNEVEN_SIDES,
    }


def _pair(record: SessionRecord) -> tuple[StiffnessMap, StiffnessMap | None]:
    return record.stiffness[0], record.stiffness[-1] if len(record.stiffness) > 1 else None


def _scaled(found: Difference, by: float) -> Difference:
    values = {name: by * getattr(found, name) for name in Difference._fields[:-1]}
    return Difference(**values, verdict=found.verdict)


def dose(record: SessionRecord, layout: MatLayout, gated: dict[str, bool]) -> dict[str, Any]:
    """The plan and what the levels got; `gated` says which steps press with the breath."""
    rows = doses(record, layout)
    plan = record.plan
    known = [r for r in rows if r.planned_presses is not None and r.presses is not None]
    total = {
        name: (
            math.fsum(getattr(r, f"planned_{name}") for r in known),
            math.fsum(getattr(r, name) for r in known),
        )
        for name in ("presses", "work")
        if known
    }
    peaks = [r for r in rows if r.peak]
    return {
        "plan": plan,
        "planned": [r for r in rows if r.planned_presses or r.presses],
        "quiet": span([r.level for r in rows if not (r.planned_presses or r.presses)]),
        "figure": treatment_figures.dose_figure(rows) if rows else None,
        "given": any(r.presses is not None for r in rows),
        "total": total,
        "peak": max(peaks, key=lambda r: r.peak or 0.0) if peaks else None,
        "why": _shared(rows),
        "steps": [
            {
                "words": s.words,
                "minutes": clock(s.start - record.start).split(".")[0],
                "presses": s.presses,
                "judged": s.judged,
                "expiring": 100.0 * s.expiring,
                "gated": gated.get(s.words),
            }
            for s in steps(record)
        ],
        "method": DOSE_METHOD,
    }


def _shared(rows: list[Dose]) -> list[tuple[str, str]]:
    """Sentences that several levels share, each once, with those levels."""
    levels: dict[str, list[str]] = {}
    for row in rows:
        for why in row.why:
            levels.setdefault(why, []).append(row.level)
    return [(span(names), why) for why, names in levels.items() if len(names) > 1]


def span(levels: list[str]) -> str:
    """Levels as people write them: L5–L1, T4."""
    runs: list[list[int]] = []
    for i in sorted(UP.index(level) for level in levels):
        if runs and runs[-1][-1] == i - 1:
            runs[-1].append(i)
        else:
            runs.append([i])
    return ", ".join(
        UP[run[0]] if len(run) == 1 else f"{UP[run[0]]}–{UP[run[-1]]}" for run in runs
    )


def comfort(record: SessionRecord) -> dict[str, Any]:
    """Reports of the person, protective tension, and what the mat did about them."""
    reports = [
        {
            "time": clock(e.t - record.start),
            "pain": e.data.get("pain"),
            "place": e.data.get("place") or "not said",
            "action": e.data.get("action", ""),
        }
        for e in sorted(record.events, key=lambda e: e.t)
        if e.kind == "comfort" and isinstance(e.data, dict) and "pain" in e.data
    ]
    felt = episodes(record.guarding)
    return {
        "reports": reports,
        "most": max((r["pain"] for r in reports), default=None),
        "watched": record.guarding is not None,
        "guarding": [
            {
                "time": clock(g.start - record.start),
                "seconds": g.end - g.start,
                "stiffening": g.stiffening,
            }
            for g in felt
        ],
        "backed_off": [e.text for e in record.events if e.kind == "back_off"],
    }


def forces(record: SessionRecord, layout: MatLayout) -> dict[str, Any] | None:
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


def rhythm(record: SessionRecord, layout: MatLayout) -> dict[str, Any] | None:
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


def breathing(record: SessionRecord) -> dict[str, Any] | None:
    b = record.breathing
    if b is None or not np.any(b.valid):
        return None
    rate = 60.0 * b.rate[np.asarray(b.valid, dtype=bool)]
    phases = (("before", "SCAN"), ("in treatment", "TREAT"), ("after", "RESCAN"))
    spread = {when: 60.0 * rates(record, phase) for when, phase in phases}
    return {
        "figure": figures.breathing_figure(record),
        "median": float(np.median(rate)),
        "low": float(np.percentile(rate, 5)),
        "high": float(np.percentile(rate, 95)),
        "share": 100.0 * float(np.mean(b.valid)),
        "rows": [
            (when, float(np.median(v)), *np.percentile(v, (5, 95)).tolist()) if v.size else (when,)
            for when, v in spread.items()
        ],
    }


def load(pressure: dict[str, Any] | None) -> dict[str, Any] | None:
    if not pressure:
        return None
    return {
        "figure": figures.load_figure(pressure),
        "correlation": pressure.get("correlation"),
        "ceiling": pressure.get("ceiling"),
        "method": pressure.get("method", "not stated"),
    }


def timeline(record: SessionRecord) -> dict[str, Any]:
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
        and not (e.kind == "plan" and record.plan and e.text in record.plan.steps)
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
