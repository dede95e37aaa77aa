"""What reports take from the database of all sessions, as a report knows no database."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from spinemat.errors import InvalidInput
from spinemat.layout import MatLayout
from spinemat_bringup.outcome import software_version
from spinemat_recording.course import MAPPED, Course, Hands, LevelCourse, LevelDay, Visit, Week
from spinemat_recording.report import write_report
from spinemat_session.record import Store, StoreError
from spinemat_session.record.trends import USED, person_trend

FILE = "spinemat.db"  # beside the sessions, unless another database is named
PICTURE = "mat.png"  # in the session's folder, where a demonstration has drawn one


def write_session_report(
    folder: Path,
    layout: MatLayout,
    person: dict[str, Any],
    extra: dict[str, Any],
    database: str | None = None,
) -> Path:
    """Write the report of a session with what the database adds to its folder.

    Args:
        folder, layout, person, extra: as `write_report` takes them.
        database: URL; default: the file beside the session's folder, if there is one.

    Raises:
        RecordError, OSError: as `write_report`.
        StoreError: a database that was named cannot be read.
    """
    extra = {"software": f"SpineMat {software_version()}"} | extra
    if (folder / PICTURE).is_file():
        extra = {**extra, "picture": extra.get("picture", folder / PICTURE)}
    beside = folder.resolve().parent / FILE
    url = database or (str(beside) if beside.is_file() else None)
    if url is not None:
        try:
            with Store(url) as store:
                extra = of_session(store, _session_id(folder)) | extra
        except (StoreError, InvalidInput) as error:
            if database is not None:
                raise
            extra["said"] = [f"Sessions before this one are not known: {error}."]
    return write_report(folder, layout, person, extra)


def report_after_run(
    folder: Path,
    layout: MatLayout,
    person: dict[str, Any],
    extra: dict[str, Any],
    database: str | None,
) -> Path:
    """Write the report of a session that has just run, and say in it what a database lacks.

    Args:
        folder, layout, person, extra: as `write_report` takes them.
        database: URL of the one that has the session and the weeks before; None: none has.

    Raises:
        RecordError, OSError: as `write_report`.
    """
    try:
        return write_session_report(folder, layout, person, extra, database)
    except (StoreError, InvalidInput) as error:
        said = {"said": [f"Sessions before this one are not known: {error}."]}
        return write_session_report(folder, layout, person, said | extra)


def course_of(store: Store, person_id: str, until: date) -> Course:
    """Return a person's course over weeks for a report; the arms of trials stay hidden.

    Raises:
        StoreError: the person has no session, or the database cannot be read.
    """
    trend = person_trend(store, person_id, until)
    hidden = float("nan")
    visits = tuple(
        Visit(
            day=v.day,
            session_id=v.session_id,
            programme="(trial)" if v.trial else v.programme,
            state=v.state,
            cause=v.cause,
            seconds=max(0.0, (v.ended - v.started).total_seconds()),
            work=hidden if v.trial else v.work,
            peak=hidden if v.trial else v.peak,
            most_pain=v.most_pain,
        )
        for v in store.visits(person_id)
    )
    until = max(until, visits[-1].day)
    doses = store.day_doses(person_id, until - timedelta(days=MAPPED - 1))
    measures = {name: _weeks(weeks) for name, weeks in trend.measures.items()}
    used = {w.week: int(w.value) for w in measures.pop(USED, ())}
    last = max([*used, (until - trend.first_day).days // 7])
    return Course(
        person_id=person_id,
        first_day=trend.first_day,
        until=until,
        days_used=tuple(used.get(week, 0) for week in range(last + 1)),
        levels=tuple(
            LevelCourse(e.level, _weeks(e.weeks), e.change, e.mdc, e.verdict)
            for e in trend.stiffness
        ),
        measures=measures,
        visits=visits,
        doses=tuple(LevelDay(*dose) for dose in doses),
        hands=tuple(Hands(*found) for found in trend.hands),
        notes=trend.notes,
    )


def of_session(store: Store, session_id: str) -> dict[str, Any]:
    """Return what the database adds to a session's report.

    Raises:
        StoreError: there is no such session, or the database cannot be read.
    """
    kept = store.session(session_id)
    row = kept["sessions"][0]
    plans = [entry["plan"] for entry in kept["plans"]]
    said = []
    if row["state"] == "broken_off":
        at = row["last_known"].astimezone().strftime("%Y-%m-%d %H:%M:%S")
        phase = row["phase"].lower().replace("_", " ")
        said.append(f"The session was broken off in the phase “{phase}”; last heard of at {at}.")
    return {
        "said": said,
        "course": course_of(store, row["person_id"], date.fromordinal(row["day"])),
        "gated": {
            step["detail"] or step["words"]: step["breathing"] == "gated"
            for plan in plans
            for step in plan["steps"]
        },
        "outcomes": kept["outcomes"],
        "date": row["started"].astimezone().strftime("%Y-%m-%d %H:%M"),
    }


def _session_id(folder: Path) -> str:
    """Name of a session from its `session.json`, or from the folder."""
    try:
        kept = json.loads((folder / "session.json").read_text(encoding="utf-8"))
        return str(kept["session_id"])
    except (OSError, ValueError, KeyError, TypeError):
        return folder.resolve().name


def _weeks(weeks: Sequence[Any]) -> tuple[Week, ...]:
    return tuple(Week(*week) for week in weeks)
