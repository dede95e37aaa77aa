"""The report of a session: one HTML file that needs nothing else, and CSV: `write_report`."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from spinemat.layout import MatLayout
from spinemat_recording import figures, sections
from spinemat_recording.course import course_content, write_course_tables
from spinemat_recording.csv_tables import write_tables
from spinemat_recording.evaluation import evaluate
from spinemat_recording.record import RecordError, SessionRecord
from spinemat_recording.rendering import render
from spinemat_recording.session_record import read_remains, read_session
from spinemat_recording.wording import at_a_glance, clock, judged_rows, summary

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
    """Write `<folder>/report.html` and `<folder>/tables/*.csv`; return the page's path.

    What was not recorded is said to be missing; a recording that was cut short or damaged gives
    a report of what is complete in it, or of its events.

    Args:
        folder: a session's folder.
        layout: the mat that was used.
        person: person_id, sex, age (years), stature (m), mass (kg), programme; what is missing
            comes from the folder's `session.json`.
        extra: what the record does not hold, all optional: date (text), software (text),
            simulated (bool), pressure (dict with x in m, model, and any of maps, maps_low,
            maps_high, unit, correlation, ceiling, method), picture (path of a PNG),
            picture_caption, suggestions (texts), checks (dicts with name, value, limit,
            relation, pass), course (`course.Course` of the person), gated (dict: words of a step
            of the plan to whether it presses with the breath), outcomes (dicts with moment, kind,
            item, value, text: what the person and the clinician said), said (sentences for the
            summary, such as how a session ended that broke off).

    Raises:
        RecordError: there is nothing to report on, or the record belongs to another mat.
        OSError: the report cannot be written or the picture cannot be read.
    """
    folder = Path(folder)
    broken = ""
    try:
        record = read_session(folder)
    except RecordError as error:
        record, broken = read_remains(folder, error)
    judged = evaluate(record, layout)
    kept = _kept(folder)
    course = extra.get("course")
    plan_notes = record.plan.notes if record.plan else ()
    content = {
        "person": _person(person, record, kept),
        "complaints": _complaints(kept),
        "facts": _facts(record, extra),
        "simulated": bool(extra.get("simulated", record.truth is not None)),
        "broken": broken,
        "screening": sections.screening(record, plan_notes),
        "contour": sections.contour(record, layout, judged),
        "stiffness": sections.stiffness(record, layout),
        "findings": sections.findings(record),
        "dose": sections.dose(record, layout, extra.get("gated") or {}),
        "comfort": sections.comfort(record),
        "outcomes": extra.get("outcomes") or [],
        "forces": sections.forces(record, layout),
        "rhythm": sections.rhythm(record, layout),
        "breathing": sections.breathing(record),
        "load": sections.load(extra.get("pressure")),
        "picture": figures.picture(extra["picture"]) if extra.get("picture") else None,
        "picture_caption": extra.get("picture_caption", "The mat and the person, simulated."),
        "judged": judged_rows(judged),
        "suggestions": extra.get("suggestions") or [],
        "timeline": sections.timeline(record),
        "checks": extra.get("checks") or [],
        "course": course_content(course) if course else None,
    }
    content["summary"] = [*summary(record, content, judged), *(extra.get("said") or [])]
    content["glance"] = at_a_glance(content)
    tables = write_tables(folder / "tables", record, layout)
    content["tables"] = [table.name for table in tables]
    if course:
        write_course_tables(folder / "tables", course)
    path = folder / "report.html"
    path.write_text(render("report.html", content), encoding="utf-8")
    return path


def _kept(folder: Path) -> dict[str, Any]:
    """Return what the session left in `session.json`; nothing where that cannot be read."""
    try:
        found = json.loads((folder / "session.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _person(
    person: dict[str, Any], record: SessionRecord, kept: dict[str, Any]
) -> list[tuple[str, str]]:
    who = kept.get("person") or {}
    known = {
        **(who.get("measures") or {}),
        **who,
        "person_id": who.get("id"),
        "programme": record.programme or None,
    }
    known |= {"person_id": person["id"]} if "id" in person else {}
    known |= {name: value for name, value in person.items() if value is not None}
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


def _complaints(kept: dict[str, Any]) -> list[str]:
    """Say what the person's record holds of conditions, complaints and goals."""
    who = kept.get("person") or {}
    said = []
    conditions = [_condition(c) for c in who.get("conditions") or [] if isinstance(c, Mapping)]
    if conditions:
        said.append(f"Conditions: {'; '.join(conditions)}.")
    symptoms = [
        f"{_plain(s.get('place', ''))} {_grade(s.get('severity'))} of 10"
        + (f" ({', '.join(map(_plain, s['when']))})" if s.get("when") else "")
        for s in who.get("symptoms") or []
        if isinstance(s, Mapping)
    ]
    if symptoms:
        said.append(f"Complaints: {'; '.join(symptoms)}.")
    if who.get("goals"):
        said.append(f"Goals: {', '.join(map(_plain, who['goals']))}.")
    return said


def _condition(found: Mapping[str, Any]) -> str:
    levels = f" ({', '.join(found['levels'])})" if found.get("levels") else ""
    return f"{_plain(found.get('name', ''))}{levels}"


def _grade(value: object) -> str:
    return f"{value:g}" if isinstance(value, (int, float)) else "?"


def _plain(name: object) -> str:
    return str(name).replace("_", " ")


def _facts(record: SessionRecord, extra: dict[str, Any]) -> list[tuple[str, str]]:
    written = record.folder / "bag" / "metadata.yaml"
    when = (written if written.is_file() else record.folder).stat().st_mtime
    day = datetime.datetime.fromtimestamp(when).strftime("%Y-%m-%d %H:%M")
    try:
        software = f"SpineMat {version('spinemat')}"
    except PackageNotFoundError:
        software = "SpineMat"
    simulated = extra.get("simulated", record.truth is not None)
    length = record.end - record.start
    return [
        ("Session", record.session_id or record.folder.name),
        ("Date", str(extra.get("date", day))),
        ("Duration", f"{clock(length).split('.')[0]} min" if math.isfinite(length) else "–"),
        ("Mat and person", "simulated" if simulated else "real mat"),
        ("Software", str(extra.get("software", software))),
    ]
