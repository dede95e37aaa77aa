"""`spinemat person …`: what is asked before a session, and what a person's answers mean."""

from __future__ import annotations

import sys
from collections.abc import Hashable, Iterable
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table
from rich.text import Text

from spinemat.errors import InvalidInput
from spinemat_bringup.cli_common import console, input_errors, mat_option, tell

if TYPE_CHECKING:
    from spinemat.layout import MatLayout
    from spinemat.questionnaire import PersonRecord
    from spinemat.screening import Screening

VERDICTS = ("may be treated", "a clinician must decide first", "no session is possible")

override_option = click.option(
    "--override",
    type=(str, str),
    metavar="CLINICIAN REASON",
    help="A clinician answers for what a clinician may answer for, never for an exclusion.",
)


@click.group("person")
def person_group() -> None:
    """People as they answer the questions before a session; config/persons has examples."""


@person_group.command("list-conditions")
def person_list_conditions() -> None:
    """List the screening's questions, and what a yes means."""
    from spinemat.conditions import CAUTION, CLINICIAN, CONDITIONS, EXCLUDE

    meaning = {
        EXCLUDE: "no session",
        CLINICIAN: "a clinician must decide",
        CAUTION: "a gentler session",
    }
    table = Table(title="Questions before a session", title_justify="left", show_lines=True)
    for column in ("question, and its name in a record", "a yes means"):
        table.add_column(column)
    for c in CONDITIONS.values():
        means = meaning[c.kind]
        if c.above_age:
            means += f", over {c.above_age:g} years"
        if c.share < 1.0:
            where = "at the levels named, or everywhere" if c.placed else "everywhere"
            means += f"; at most {c.share:.0%} of the press limit {where}"
        if c.urgent:
            means += "; seek medical help today"
        table.add_row(f"{c.question}\n[dim]{c.name}[/]", f"{means}\n[dim]{c.source}[/]")
    console.print(table)
    console.print("Shares are engineering choices. The list does not replace an examination.")


@person_group.command("new")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@mat_option
def person_new(file: Path, mat_config: Path | None) -> None:
    """Ask a person all that is asked before a session, and write FILE.

    Ends early, and writes nothing, where an answer allows no session. Exit status 0 only if the
    person may be treated.
    """
    import yaml

    from spinemat.layout import load_layout
    from spinemat.questionnaire import person_from
    from spinemat.screening import screen
    from spinemat_bringup.asking import Excluded, ask
    from spinemat_bringup.graph import share

    with input_errors():
        layout = load_layout(mat_config or share("config", "mat.yaml"))
        if file.exists():
            raise InvalidInput("person file", str(file), "a file that does not exist yet")
        if not file.absolute().parent.is_dir():
            raise InvalidInput("person file", str(file), "a file in a folder that exists")
        try:
            data = ask()
        except Excluded as error:
            console.print("[bold]No session is possible; nothing was written.[/]")
            bullets(error.reasons)
            sys.exit(1)
        record = person_from(data)
        with file.open("x", encoding="utf-8") as out:
            yaml.safe_dump(data, out, sort_keys=False, default_flow_style=None)
        console.print(f"Written: {file}", soft_wrap=True)
        screening = screen(record)
        _describe(record, screening, layout)
    sys.exit(0 if screening.verdict == 0 else 1)


@person_group.command("check")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@override_option
@mat_option
def person_check(
    files: tuple[str, ...], override: tuple[str, str] | None, mat_config: Path | None
) -> None:
    """Check person files; show the screening, limits per level and what complaints suggest.

    Exit status 0 only if all of them may be treated.
    """
    from spinemat.layout import load_layout
    from spinemat_bringup.graph import share

    treatable = True
    with input_errors():
        layout = load_layout(mat_config or share("config", "mat.yaml"))
        for file in files:
            try:
                record, screening = screened(file, override)
            except InvalidInput as error:
                tell(str(error))
                treatable = False
                continue
            _describe(record, screening, layout)
            treatable &= screening.verdict == 0
    sys.exit(0 if treatable else 1)


def screened(file: str | Path, override: tuple[str, str] | None) -> tuple[PersonRecord, Screening]:
    """Read a person file and screen the person.

    Args:
        file: path.
        override: a clinician's synthetic id and reason, or None.

    Raises:
        InvalidInput: the file or the override is not acceptable; a message about the file
            begins with its path.
    """
    from spinemat.questionnaire import load_person
    from spinemat.screening import Override, screen

    try:
        record = load_person(file)
    except InvalidInput as error:
        raise InvalidInput(f"{file}: {error.field}", error.value, error.allowed) from error
    return record, screen(record, Override(*override) if override else None)


def headline(record: PersonRecord) -> str:
    """Who that is, in one line for people."""
    m = record.measures
    return f"{record.id}: {m.sex}, {m.age:g} years, {100 * m.stature:.0f} cm, {m.mass:g} kg"


def bullets(sentences: Iterable[str]) -> None:
    """Print sentences below each other, wrapped and set in."""
    grid = Table.grid(padding=(0, 1))
    for sentence in sentences:
        grid.add_row(" –", Text(sentence))
    if grid.row_count:
        console.print(grid)


def spans(rows: Iterable[tuple[str, Hashable]]) -> list[tuple[str, Any]]:
    """Put neighbouring levels that show the same together.

    Args:
        rows: level and what is shown of it, in order.

    Returns:
        Such as ("L1 – L5", what is shown).
    """
    found = []
    for shown, group in groupby(rows, key=lambda row: row[1]):
        levels = [level for level, _ in group]
        found.append((" – ".join(dict.fromkeys((levels[0], levels[-1]))), shown))
    return found


def _describe(record: PersonRecord, screening: Screening, layout: MatLayout) -> None:
    from spinemat.anatomy import asked_to_lie, region_of
    from spinemat.back_model import UP
    from spinemat.programme_choice import suggest_programmes
    from spinemat.screening import Verdict
    from spinemat.symptoms import SOURCE, mobility_share, suggest

    console.print(f"[bold]{headline(record)}[/]: {VERDICTS[screening.verdict]}")
    bullets(screening.reasons)
    if screening.verdict == Verdict.EXCLUDED:
        return
    suggestion = suggest(record.symptoms)
    table = Table(title="Limits and suggestions", title_justify="left")
    table.add_column("levels")
    for column in ("of the press limit", "per finger", "suggested: share of complaints"):
        table.add_column(column, justify="right")
    rows = []
    for level, factor, weight in zip(UP, screening.factor, suggestion.weight, strict=True):
        most = f"{factor * layout.press_limits[region_of(level)]:.1f} N"
        limits = ("left out", "") if level in record.comfort.leave_out else (f"{factor:.0%}", most)
        rows.append((level, (*limits, f"{weight:.0%}" if weight else "")))
    for levels, cells in spans(reversed(rows)):
        table.add_row(levels, *cells)
    console.print(table)
    source = [f"Source of the levels suggested: {SOURCE}."] if suggestion.why else []
    bullets((*suggestion.why, mobility_share(record.symptoms).why, *source))
    fits = [f"Suggestion: programme {f.programme}: {f.why}." for f in suggest_programmes(record)]
    lies = asked_to_lie(record.measures, float(layout.row_x[0]))
    bullets((*fits, f"Where to lie: {lies}."))
