"""`spinemat record …`: the database of all sessions: look, export, delete, trends."""

from __future__ import annotations

import csv
import math
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.table import Table
from rich.text import Text

from spinemat.errors import InvalidInput
from spinemat_bringup.cli_common import console, input_errors, tell

if TYPE_CHECKING:
    from spinemat_session.record import Store
    from spinemat_session.record.trends import Hands, LevelTrend, Week

SESSIONS = Path("sessions")
REPORTS = Path("reports")  # with one folder for each person

SHOWN = {  # for people: name with the unit, and what an SI value is multiplied by
    "kyphosis_rad": ("kyphosis, °", math.degrees(1.0)),
    "lordosis_rad": ("lordosis, °", math.degrees(1.0)),
    "asymmetry_m": ("asymmetry, mm", 1e3),
}

database_option = click.option(
    "--database",
    metavar="URL",
    default=str(SESSIONS / "spinemat.db"),
    show_default=True,
    help="Path of an SQLite file or postgresql://user@host/name.",
)


@click.group("record")
def record_group() -> None:
    """The record of all sessions: people, export, deleting for good, trends."""


@contextmanager
def record_errors() -> Iterator[None]:
    """Turn what the database cannot do, and values it refuses, into one clear line."""
    from spinemat_session.record import StoreError

    with input_errors():
        try:
            yield
        except StoreError as error:
            raise click.ClickException(str(error)) from error


@contextmanager
def opened(url: str) -> Iterator[Store]:
    """Open a record that is there, and say in one line what goes wrong with it."""
    from spinemat_session.record import Store
    from spinemat_session.record.opening import database_url

    with record_errors():
        found = database_url(url)
        sqlite = found.get_backend_name() == "sqlite"
        if sqlite and not Path(found.database or "").is_file():
            raise click.ClickException(f"{found.database}: there is no record (--database)")
        with Store(url) as store:
            yield store


@record_group.command("list")
@click.option("--person", help="This person's sessions.")
@database_option
def record_list(person: str | None, database: str) -> None:
    """List the people of the record, or one person's sessions."""
    with opened(database) as store:
        table = Table()
        if person is None:
            table.add_column("person", overflow="fold")
            for column in ("group", "completed", "first day", "last day"):
                table.add_column(column)
            for p in store.persons():
                first, last = (str(day) if day else "" for day in (p.first, p.last))
                table.add_row(p.id, p.group, f"{p.completed} of {p.sessions}", first, last)
        else:
            table.add_column("session", overflow="fold")
            table.add_column("programme", no_wrap=True)
            table.add_column("minutes", justify="right")
            table.add_column("state")
            for s in store.sessions(person):
                taken = (s["ended"] or s["last_known"]) - s["started"]
                table.add_row(
                    s["id"],
                    s["programme"] if s["allocation"] is None else "(trial)",  # stays blind
                    f"{taken.total_seconds() / 60.0:.1f}",
                    Text(": ".join(filter(None, (s["state"].replace("_", " "), s["cause"])))),
                )
    if table.row_count:
        console.print(table)
    else:
        tell(f"There is no session of {person}." if person else "There is nobody in the record.")


@record_group.command("export")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), metavar="DIR")
@click.option(
    "--format",
    "kind",
    type=click.Choice(("csv", "parquet", "json")),
    default="csv",
    show_default=True,
)
@click.option("--anonymous", is_flag=True, help="Leave out or replace what tells people.")
@click.option("--unsealed", is_flag=True, help="Tell the arms of trials: ends the blinding.")
@database_option
def record_export(folder: Path, kind: str, anonymous: bool, unsealed: bool, database: str) -> None:
    """Write all tables into the new or empty folder DIR, one file each."""
    from spinemat_session.record.export import export

    with opened(database) as store:
        files = export(store, folder, kind, anonymous=anonymous, unsealed=unsealed)
    tell(f"{len(files)} tables in {folder}: {', '.join(file.name for file in files)}")
    if not anonymous:
        console.print("It tells who the people are (--anonymous does not).")


@record_group.command("delete")
@click.argument("person")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--keep-folders", is_flag=True, help="Keep the sessions' folders: bags and reports.")
@click.option(
    "--sessions",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder with the sessions' journals; default: where the SQLite file is, or ./sessions.",
)
@database_option
def record_delete(
    person: str, yes: bool, keep_folders: bool, sessions: Path | None, database: str
) -> None:
    """Delete everything of PERSON for good, also ./reports/PERSON; copies elsewhere stay."""
    with opened(database) as store:
        count = len(store.sessions(person))
        what = f"{person}: {count} sessions" + (
            "" if keep_folders else ", their folders and reports"
        )
        if not yes:
            click.confirm(f"Delete {what} for good?", abort=True)
        journals = sessions or (store.file.parent if store.file else SESSIONS)
        left = store.delete_person(person, journals=journals, folders=not keep_folders)
    reports = REPORTS / person
    if person.strip(".") and reports.is_dir():
        if not keep_folders:
            shutil.rmtree(reports, ignore_errors=True)
        left += [reports] if reports.exists() else []
    tell(f"Deleted for good: {what}.")
    for path in left:
        tell(f"Still there: {path}")
    sys.exit(1 if left and not keep_folders else 0)


@record_group.command("group")
@click.argument("person")
@click.argument("name", required=False)
@database_option
def record_to_group(person: str, name: str | None, database: str) -> None:
    """Put PERSON into the group NAME, such as a workplace programme; without NAME into none."""
    with opened(database) as store:
        store.set_group(person, name)
    tell(f"{person} is in {'no group' if name is None else name}.")


@record_group.command("outcome")
@click.argument("person")
@click.option("--pain", type=float, help="0 none … 10 worst imaginable.")
@click.option(
    "--function",
    "functions",
    type=(str, float),
    multiple=True,
    metavar="ACTIVITY VALUE",
    help="Patient-specific function scale: 0 unable … 10 as before, of the person's activities.",
)
@click.option("--sleep", type=float, help="How was your sleep? 0 very bad … 10 very good.")
@click.option("--stress", type=float, help="How much stress have you had? 0 none … 10 extreme.")
@click.option(
    "--felt",
    type=(str, float),
    multiple=True,
    metavar="LEVEL VALUE",
    help="What a clinician's hands felt at a level: 0 soft … 10 stiff.",
)
@click.option("--note", help="A clinician's note, in words; goes beside what was felt, too.")
@click.option("--session", help="Of this session, or of the person's `last`; default: between.")
@click.option("--moment", type=click.Choice(("before", "after")), help="Before or after it.")
@click.option(
    "--at",
    type=click.DateTime(("%Y-%m-%d", "%Y-%m-%dT%H:%M")),
    help="When it was said, in this computer's time zone.  [default: now]",
)
@database_option
def record_outcome(
    person: str,
    pain: float | None,
    functions: tuple[tuple[str, float], ...],
    sleep: float | None,
    stress: float | None,
    felt: tuple[tuple[str, float], ...],
    note: str | None,
    session: str | None,
    moment: str | None,
    at: datetime | None,
    database: str,
) -> None:
    """Keep what PERSON answers, or what a clinician's hands found: all of it, or nothing."""
    from spinemat_session.record.writes import Notes

    now = datetime.now().astimezone()
    when = now if at is None else at.astimezone()
    with opened(database) as store:
        of = _of_session(store, person, session, moment)
        if when > now:
            raise InvalidInput("at", f"{when:%Y-%m-%d %H:%M}", "not in the future")
        notes = Notes()

        def keep(kind: str, value: float | None, item: str = "", text: str = "") -> None:
            notes.add_outcome(
                person, kind, value, at=when, session_id=of, moment=moment, item=item, text=text
            )

        for kind, value in (("pain", pain), ("sleep", sleep), ("stress", stress)):
            if value is not None:
                keep(kind, value)
        for activity, value in functions:
            if not activity.strip():
                raise InvalidInput("function", activity, "the name of an activity")
            keep("function", value, activity)
        for level, value in felt:
            keep("felt", value, level, note or "")
        if note is not None:
            if not note.strip():
                raise InvalidInput("note", note, "words")
            keep("note", None, text=note)
        if not notes.notes:
            raise InvalidInput("outcome", "nothing", "one answer or finding at least; see --help")
        store.apply(notes.notes)
    said = f" {moment} {of}" if of else ""
    tell(f"{person}: {len(notes.notes)} kept, {when:%Y-%m-%d %H:%M}{said}.")


def _of_session(store: Store, person: str, session: str | None, moment: str | None) -> str:
    """Id of the session that is meant; empty: none.

    Raises:
        InvalidInput: there is no such session, or not both of session and moment are given.
    """
    if (session is None) != (moment is None):
        raise InvalidInput("moment", moment, "before or after, exactly where a session is named")
    if session is None:
        return ""
    names = [row["id"] for row in store.sessions(person)]
    if session == "last" and names:
        return str(names[-1])
    if session not in names:
        raise InvalidInput("session", session, f"one of {person}'s {len(names)} (record list)")
    return session


@record_group.command("trends")
@click.argument("person", required=False)
@click.option("--group", help="Of all people of a group instead, five or more.")
@click.option(
    "--csv",
    "file",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    metavar="FILE",
    help="Write the weekly means to this file, too.",
)
@database_option
def record_trends(person: str | None, group: str | None, file: Path | None, database: str) -> None:
    """Show what changed over the weeks of one person, or of a group."""
    from spinemat_session.record.trends import group_trend, person_trend

    if (person is None) == (group is None):
        raise click.UsageError("Give either PERSON or --group NAME.")
    today = datetime.now().date()
    with opened(database) as store:
        if group is not None:
            of = group_trend(store, group, today)
            tell(f"{group}: {of.people} people; the mat was used on {of.consistency:.0%} of days.")
            _show_measures(of.measures)
            if file is not None:
                _write_weeks(file, of.measures)
            return
        assert person is not None
        trend = person_trend(store, person, today)
    states = ", ".join(f"{n} {state.replace('_', ' ')}" for state, n in trend.sessions.items())
    use = trend.consistency
    tell(
        f"{person}: since {trend.first_day}: {states}; the mat was used on {use.days_used} of"
        f" {use.days} days ({use.share:.0%})."
    )
    if trend.stiffness:
        _show_stiffness(trend.stiffness)
    _show_measures(trend.measures)
    if trend.hands:
        _show_hands(trend.hands)
    for day, text in trend.notes:
        tell(f"{day}: {text}")
    if file is not None:
        levels = {f"stiffness_{e.level}_n_per_m": e.weeks for e in trend.stiffness}
        _write_weeks(file, {**trend.measures, **levels})


def _write_weeks(file: Path, measures: Mapping[str, tuple[Week, ...]]) -> None:
    """One row for each measure and week, the first week 1; empty where no error is known."""
    with file.open("w", newline="", encoding="utf-8") as out:
        table = csv.writer(out)
        table.writerow(("measure", "week", "mean", "standard_error", "n"))
        for name, weeks in measures.items():
            for w in weeks:
                error = "" if math.isnan(w.error) else w.error
                table.writerow((name.replace(" ", "_"), w.week + 1, w.value, error, w.n))
    tell(f"{file} has the weekly means.")


def _show_hands(hands: tuple[Hands, ...]) -> None:
    title = "What hands felt (0 soft … 10 stiff), beside what the mat measured that day"
    table = Table(title=title, title_justify="left")
    for column in ("day", "level", "felt", "measured, N/mm"):
        table.add_column(column, justify="left" if column in ("day", "level") else "right")
    for h in hands:
        measured = "–" if math.isnan(h.measured) else f"{1e-3 * h.measured:.1f}"
        error = "" if math.isnan(h.error) else f" ± {1e-3 * h.error:.1f}"
        table.add_row(str(h.day), h.level, f"{h.felt:g}", measured + error)
    console.print(table)


def _show_stiffness(levels: tuple[LevelTrend, ...]) -> None:
    table = Table(title="Posteroanterior stiffness before treatment, N/mm", title_justify="left")
    for column in ("level", "first week", "last week", "change", "detectable", "verdict"):
        table.add_column(column, justify="left" if column in ("level", "verdict") else "right")
    for level in reversed(levels):
        values = (level.weeks[0].value, level.weeks[-1].value, level.change, level.mdc)
        first, last, change, least = (1e-3 * value for value in values)
        table.add_row(
            level.level,
            f"{first:.1f}",
            f"{last:.1f}",
            "–" if math.isnan(change) else f"{change:+.1f}",
            "–" if math.isnan(least) else f"{least:.1f}",
            level.verdict,
        )
    console.print(table)


def _show_measures(measures: Mapping[str, tuple[Week, ...]]) -> None:
    """What was measured and what was told beside the days used, one row for each week."""
    from spinemat_session.record.trends import SAID, USED

    told = (USED, *SAID, "comfort")
    measured = {}
    for name, weeks in measures.items():
        if name == USED or name not in told:
            shown, f = SHOWN.get(name, (name, 1.0))
            measured[shown] = tuple(
                w._replace(value=f * w.value, error=f * w.error) for w in weeks
            )
    _show_weeks("Measured before treatment", measured)
    _show_weeks("Told, 0 to 10", {name: measures[name] for name in told if name in measures})


def _show_weeks(title: str, measures: Mapping[str, tuple[Week, ...]]) -> None:
    if len(measures) < 2:  # the days used alone
        return
    known = {name: {week.week: week for week in weeks} for name, weeks in measures.items()}
    table = Table(title=f"{title}: weekly means ± standard error", title_justify="left")
    for column in ("week", *(name.replace("_", " ") for name in known)):
        table.add_column(column, justify="right")
    for number in sorted({number for weeks in known.values() for number in weeks}):
        cells = []
        for weeks in known.values():
            week = weeks.get(number)
            error = "" if week is None or math.isnan(week.error) else f" ± {week.error:.2f}"
            cells.append("" if week is None else f"{week.value:.2f}{error}")
        table.add_row(str(number + 1), *cells)
    console.print(table)
