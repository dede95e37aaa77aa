"""Reports for people: `spinemat record report PERSON` and `spinemat session report FOLDER`."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import click

from spinemat_bringup.cli_common import input_errors, mat_option, tell
from spinemat_bringup.cli_record import REPORTS, database_option, opened, record_group


def report_after(folder: Path, database: str | None) -> None:
    """Write the report of a session that has just run; what is in the way is said in one line.

    Args:
        folder: of the session.
        database: URL of the one that has the session and the weeks before; None: none has.
    """
    from spinemat.layout import load_layout
    from spinemat_bringup.graph import share
    from spinemat_bringup.reporting import report_after_run
    from spinemat_recording.record import RecordError

    try:
        layout = load_layout(share("config", "mat.yaml"))
        tell(f"Report: {report_after_run(folder, layout, {}, {}, database)}")
    except (RecordError, OSError) as error:
        tell(f"No report: {error}")


@record_group.command("report")
@click.argument("person")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder to write into.  [default: reports/PERSON]",
)
@database_option
def record_report(person: str, out: Path | None, database: str) -> None:
    """Write the course of PERSON over weeks as a page (HTML) and tables (CSV)."""
    from spinemat_bringup.outcome import software_version
    from spinemat_bringup.reporting import course_of
    from spinemat_recording.course import write_course

    with opened(database) as store:
        course = course_of(store, person, datetime.now().date())
    try:
        extra = {"software": f"SpineMat {software_version()}"}
        page = write_course(out or REPORTS / person, course, extra)
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}") from error
    tell(f"Report: {page}")
    tell(f"Tables: {page.parent / 'tables'}")


@click.command("report")
@click.argument("folder", type=click.Path(path_type=Path))
@mat_option
@click.option(
    "--database",
    metavar="URL",
    help="Database of all sessions, for the weeks before.  [default: spinemat.db beside FOLDER]",
)
def session_report(folder: Path, mat_config: Path | None, database: str | None) -> None:
    """Write the report of the recorded session in FOLDER: a page (HTML) and tables (CSV)."""
    from spinemat.layout import load_layout
    from spinemat_bringup.graph import share
    from spinemat_bringup.reporting import write_session_report
    from spinemat_recording.record import RecordError
    from spinemat_session.record import StoreError

    with input_errors():
        layout = load_layout(mat_config or share("config", "mat.yaml"))
        try:
            page = write_session_report(folder, layout, {}, {}, database)
        except (RecordError, StoreError) as error:
            raise click.ClickException(str(error)) from error
        except OSError as error:
            raise click.ClickException(f"{error.filename}: {error.strerror}") from error
    tell(f"Report: {page}")
    tell(f"Tables: {page.parent / 'tables'}")
