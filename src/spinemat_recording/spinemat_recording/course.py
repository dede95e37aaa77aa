"""A person's course over weeks as a report: `write_course` makes HTML, and CSV beside it.

The numbers come from the database of all sessions; whoever reads that hands them over as a
`Course`, so that a report needs no database.
"""

from __future__ import annotations

import datetime
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from scipy.stats import t

from spinemat_recording.change import NO_CHANGE, Difference, difference
from spinemat_recording.csv_tables import write_csv
from spinemat_recording.rendering import render
from spinemat_recording.treatment_figures import course_dose_figure, course_figure


class Measure(NamedTuple):
    """How a weekly mean is told.

    Attributes:
        title: for people, with the unit they read.
        less, more: words for a change.
        scale: of an SI value to that unit.
        unit: SI, of the tables.
    """

    title: str
    less: str
    more: str
    scale: float = 1.0
    unit: str = "1"


DEGREES = math.degrees(1.0)
POINTS = "0 to 10"
MEASURES = {
    "trunk_stiffness_ratio": Measure(
        "Trunk stiffness over the published mean", "softer", "stiffer"
    ),
    "evenness": Measure("Evenness of movement, 0 to 1", "less even", "more even"),
    "kyphosis_rad": Measure("Kyphosis T1–T12, °", "flatter", "more curved", DEGREES, "rad"),
    "lordosis_rad": Measure("Lordosis T12–S1, °", "flatter", "more curved", DEGREES, "rad"),
    "asymmetry_m": Measure(
        "Skin, right higher than left, mm", "right lower", "right higher", 1e3, "m"
    ),
    "pain": Measure("Pain before sessions, 0 none to 10 worst", "less", "more", unit=POINTS),
    "comfort": Measure("Pain reported in sessions, 0 to 10", "less", "more", unit=POINTS),
    "function": Measure(
        "Function (patient-specific), 0 unable to 10 as before", "less", "more", unit=POINTS
    ),
    "sleep": Measure("Sleep, 0 bad to 10 good", "worse", "better", unit=POINTS),
    "stress": Measure("Stress, 0 none to 10 worst", "less", "more", unit=POINTS),
}
SAID = ("pain", "comfort", "function", "sleep", "stress")
MAPPED = 182  # days, the last of a course, whose doses are shown level by level (choice)
SHAPE = ("kyphosis_rad", "lordosis_rad", "asymmetry_m")
SCATTER = ("trunk_stiffness_ratio", *SHAPE, *SAID)  # their errors are the scatter within a week
# points of 10: pain, Childs 2005 (Spine 30: 1331); function, Stratford 1995; the others by choice
LEAST_SAID = 2.0


class Week(NamedTuple):
    """A weekly mean.

    Attributes:
        week: since the first session, 0 first.
        value: in the unit of what it is of.
        error: its standard error; NaN where it is not known.
        n: how many values.
    """

    week: int
    value: float
    error: float
    n: int


class LevelCourse(NamedTuple):
    """Stiffness of one level before treatment over weeks, N/m; change from first to last week."""

    level: str
    weeks: tuple[Week, ...]
    change: float
    detectable: float
    verdict: str


class Visit(NamedTuple):
    """One session: day of its start, how it ended, what was given; None where not known."""

    day: datetime.date
    session_id: str
    programme: str
    state: str
    cause: str
    seconds: float
    work: float  # J
    peak: float  # N
    most_pain: float | None  # 0 to 10, reported in it


class LevelDay(NamedTuple):
    """What a level got on a day: work, J; largest force of a finger, N; presses."""

    day: datetime.date
    level: str
    work: float
    peak: float
    presses: int


class Hands(NamedTuple):
    """What a clinician's hands felt at a level, 0 soft to 10 stiff, beside the scan of that day.

    `measured` and `error` are N/m before treatment, NaN where there was no valid scan.
    """

    day: datetime.date
    level: str
    felt: float
    measured: float
    error: float
    text: str


@dataclass(frozen=True)
class Course:
    """What the database says of one person.

    Attributes:
        person_id: synthetic.
        first_day: of the first session.
        until: last day that counts.
        days_used: days with a session in each week since the first, week 0 first.
        levels: stiffness of each measured level, L5 first.
        measures: weekly means by name: keys of `MEASURES`.
        visits: sessions in order.
        doses: of levels and days in order of days, the last `MAPPED` days at most; without
            sessions of trials.
        hands: what a clinician felt, in order.
        notes: of a clinician, with their days.
    """

    person_id: str
    first_day: datetime.date
    until: datetime.date
    days_used: tuple[int, ...] = ()
    levels: tuple[LevelCourse, ...] = ()
    measures: dict[str, tuple[Week, ...]] = field(default_factory=dict)
    visits: tuple[Visit, ...] = ()
    doses: tuple[LevelDay, ...] = ()
    hands: tuple[Hands, ...] = ()
    notes: tuple[tuple[datetime.date, str], ...] = ()

    @property
    def weeks(self) -> list[Week]:
        """All weekly means of all measures."""
        return [w for weeks in self.measures.values() for w in weeks]

    @property
    def mapped_from(self) -> datetime.date:
        """First day whose doses are shown level by level."""
        return max(self.first_day, self.until - datetime.timedelta(days=MAPPED - 1))

    @property
    def days(self) -> int:
        """From the first session until today, both counted."""
        return (self.until - self.first_day).days + 1


def course_content(course: Course) -> dict[str, Any]:
    """Return what the section on weeks shows, in the session's report and in the course's."""
    states: dict[str, int] = {}
    for visit in course.visits:
        states[visit.state] = states.get(visit.state, 0) + 1
    return {
        "figure": course_figure(course),
        "doses": course_dose_figure(course) if course.doses else None,
        "first_day": course.first_day.isoformat(),
        "sessions": len(course.visits),
        "states": ", ".join(f"{n} {state.replace('_', ' ')}" for state, n in states.items()),
        "used": sum(course.days_used),
        "days": course.days,
        "share": 100.0 * sum(course.days_used) / course.days,
        "measures": [
            (MEASURES[name].title, name in SAID, _first_to_last(name, weeks), _span(weeks))
            for name, weeks in course.measures.items()
            if name in MEASURES and weeks
        ],
        "levels": [
            (entry, 1e-3 * entry.weeks[0].value, 1e-3 * entry.weeks[-1].value,
             1e-3 * entry.change, 1e-3 * entry.detectable, _kind(entry.verdict))
            for entry in course.levels
        ],
        "hands": [
            (h.day.isoformat(), h.level, h.felt, 1e-3 * h.measured, 1.96e-3 * h.error, h.text)
            for h in course.hands
        ],
        "notes": [(day.isoformat(), text) for day, text in course.notes],
        "words": _words(course),
    }  # fmt: skip


def write_course(folder: str | Path, course: Course, extra: dict[str, Any]) -> Path:
    """Write `<folder>/course.html` and `<folder>/tables/*.csv`; return the page's path.

    Args:
        folder: made when it is missing.
        course: of one person.
        extra: all optional: date (text), software (text).

    Raises:
        OSError: the files cannot be written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    facts = [
        ("Person (synthetic id)", course.person_id),
        ("First session", course.first_day.isoformat()),
        ("Until", course.until.isoformat()),
        ("Sessions", str(len(course.visits))),
        ("Days used", f"{sum(course.days_used)} of {course.days}"),
        ("Written", str(extra.get("date", datetime.date.today().isoformat()))),
        ("Software", str(extra.get("software", "SpineMat"))),
    ]
    content = {"facts": facts, "course": course_content(course), "visits": course.visits}
    write_course_tables(folder / "tables", course)
    path = folder / "course.html"
    path.write_text(render("course.html", content), encoding="utf-8")
    return path


def write_course_tables(folder: Path, course: Course) -> None:
    """Write weeks, level_weeks, level_changes, doses, sessions, hands, use, all .csv; SI units."""
    write_csv(
        folder / "weeks.csv",
        ("measure", "week", "mean", "standard_error", "values", "unit"),
        (
            (name, w.week + 1, w.value, w.error, w.n, MEASURES[name].unit)
            for name, weeks in course.measures.items()
            for w in weeks
        ),
    )
    write_csv(
        folder / "level_weeks.csv",
        ("level", "week", "stiffness_n_per_m", "standard_error_n_per_m", "scans"),
        ((e.level, w.week + 1, w.value, w.error, w.n) for e in course.levels for w in e.weeks),
    )
    write_csv(
        folder / "level_changes.csv",
        ("level", "first_week", "last_week", "change_n_per_m",
         "minimal_detectable_change_n_per_m", "verdict"),
        (
            (e.level, e.weeks[0].week + 1, e.weeks[-1].week + 1, e.change, e.detectable, e.verdict)
            for e in course.levels
        ),
    )  # fmt: skip
    write_csv(
        folder / "doses.csv",
        ("day", "level", "work_j", "peak_n", "presses"),
        course.doses,
    )
    write_csv(
        folder / "sessions.csv",
        ("day", "session_id", "programme", "state", "cause", "duration_s", "work_j", "peak_n",
         "most_pain_0_to_10"),
        course.visits,
    )  # fmt: skip
    write_csv(
        folder / "hands.csv",
        ("day", "level", "felt_0_to_10", "stiffness_n_per_m", "standard_error_n_per_m", "text"),
        course.hands,
    )
    write_csv(
        folder / "use.csv",
        ("week", "days_used"),
        ((i + 1, days) for i, days in enumerate(course.days_used)),
    )


def _first_to_last(name: str, weeks: tuple[Week, ...]) -> Difference:
    """Compare the first with the last week, in the unit that people read."""
    of = MEASURES[name]
    first, last = (
        w._replace(value=of.scale * w.value, error=of.scale * w.error)
        for w in (weeks[0], weeks[-1])
    )
    unknown = math.nan, math.nan
    second = (last.value, last.error) if len(weeks) > 1 else unknown
    quantile, least = 1.96, 0.0
    if name in SCATTER:  # the error itself comes from few values
        quantile = float(t.ppf(0.975, max(first.n + last.n - 2, 1)))
        least = LEAST_SAID if name in SAID else 0.0
    return difference((first.value, first.error), second, of.less, of.more, quantile, least)


def _span(weeks: tuple[Week, ...]) -> str:
    first, last = weeks[0].week + 1, weeks[-1].week + 1
    return f"week {first}" if first == last else f"weeks {first} and {last}"


def _kind(verdict: str) -> str:
    return {"softer": "softer", "stiffer": "stiffer", NO_CHANGE: "same"}.get(verdict, "none")


def _words(course: Course) -> str:
    """Say in plain words what the weeks show."""
    said = [
        f"{len(course.visits)} session{'' if len(course.visits) == 1 else 's'} since"
        f" {course.first_day.isoformat()}; the mat was used on {sum(course.days_used)} of"
        f" {course.days} days."
    ]
    judged = [e for e in course.levels if math.isfinite(e.change)]
    if not judged:
        said.append("No level was measured in two weeks, so nothing can be said about change.")
    else:
        same = sum(e.verdict == NO_CHANGE for e in judged)
        parts = [f"{same} show no measurable change"]
        for verdict in ("softer", "stiffer"):
            names = [e.level for e in judged if e.verdict == verdict]
            if names:
                parts.append(f"{len(names)} measured {verdict} ({', '.join(names)})")
        said.append(
            f"Of {len(judged)} levels measured in the first and in a later week, "
            + ", ".join(parts)
            + "."
        )
    for name in ("evenness", "pain", "function"):
        weeks = course.measures.get(name, ())
        if len(weeks) > 1:
            found = _first_to_last(name, weeks)
            scale, digits = (100.0, 0) if name == "evenness" else (1.0, 1)
            unit = " %" if name == "evenness" else " of 10"
            said.append(
                f"{name.capitalize()} went from {scale * found.before:.{digits}f} to"
                f" {scale * found.after:.{digits}f}{unit} ({found.verdict})."
            )
    return " ".join(said)
