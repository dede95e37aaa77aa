"""`spinemat programme …`: what a programme wants, and what it would do to one person."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np
from rich.table import Table
from rich.text import Text

from spinemat.errors import InvalidInput, choice
from spinemat_bringup.cli_common import (
    console,
    finish,
    input_errors,
    json_option,
    mat_option,
    tell,
)
from spinemat_bringup.cli_person import (
    VERDICTS,
    bullets,
    headline,
    override_option,
    screened,
)
from spinemat_bringup.cli_record import opened
from spinemat_bringup.outcome import Outcome

if TYPE_CHECKING:
    from spinemat.layout import MatLayout
    from spinemat.ledger import Advice
    from spinemat.level_dose import Felt
    from spinemat.questionnaire import PersonRecord
    from spinemat.session_programme import Phase, Programme

KNOWN = 0.05  # standard error over the stiffness, as if a scan had felt a virtual patient (choice)
MEANING = {
    "together": ("all rows at once", "extension, posteroanterior mobilisation of a region"),
    "wave_up": ("row after row toward the head", "a travelling extension"),
    "wave_down": ("row after row toward the feet", "a travelling extension"),
    "alternating": ("left, then right", "rotation"),
    "left": ("the left side only", "side-bending"),
    "right": ("the right side only", "side-bending"),
    "pelvic_rocking": ("sacrum, L5, L4 against the upper loins", "lumbar–pelvic tilt"),
    "cat_cow": (
        "a wave through the loins, half a turn later one through the thorax",
        "alternating thoracic and lumbar extension",
    ),
}
"""What moves in each pattern, and what that is in the field's words (docs/programmes.md)."""


@click.group("programme")
def programme_group() -> None:
    """Programmes: what ships, what is wrong with one, what one would do to a person."""


@programme_group.command("list")
@mat_option
def programme_list(mat_config: Path | None) -> None:
    """List the programmes that ship."""
    from spinemat.session_programme import check, load_programmes

    with input_errors():
        layout = _layout(mat_config)
        table = Table()
        for column in ("name", "minutes", "pressing", "what it is for"):
            right = column in ("minutes", "pressing")
            table.add_column(column, justify="right" if right else "left")
        for name, programme in load_programmes(_folder()).items():
            timing = check(programme, layout)
            table.add_row(
                name,
                f"{timing.total / 60.0:.0f}",
                f"{timing.pressing / 60.0:.1f}",
                f"{programme.title}. {programme.about}",
            )
    console.print(table)
    console.print("Suggestions for a clinician, not treatment by itself.")


@programme_group.command("check")
@click.argument("names", nargs=-1, metavar="[FILE|NAME]...")
@mat_option
def programme_check(names: tuple[str, ...], mat_config: Path | None) -> None:
    """Check programmes without a person; without names all that ship."""
    from spinemat.session_programme import check

    with input_errors():
        layout = _layout(mat_config)
    faults = 0
    for name in names or sorted(map(str, _folder().glob("*.yaml"))):
        try:
            programme = find_programme(name)
            timing = check(programme, layout)
        except InvalidInput as error:
            tell(f"{name}: {error}")
            faults += 1
        else:
            tell(
                f"{programme.name}: in order; {timing.total / 60.0:.1f} min,"
                f" {timing.pressing / 60.0:.1f} of them pressing"
            )
    sys.exit(1 if faults else 0)


@programme_group.command("show")
@click.argument("name", metavar="FILE|NAME")
@mat_option
def programme_show(name: str, mat_config: Path | None) -> None:
    """Show a programme: its phases, its times, and what its patterns mean."""
    from spinemat.session_programme import check, time_of

    with input_errors():
        layout = _layout(mat_config)
        programme = find_programme(name)
        timing = check(programme, layout)
    console.print(Text.assemble((programme.title, "bold"), f": {programme.about}"))
    course = f"a course of {programme.weeks} weeks that begins gently" if programme.weeks else ""
    tell(
        f"{programme.name}, revision {programme.revision}: {_clock(timing.total)} min,"
        f" {_clock(timing.pressing)} of them pressing{course and ', '}{course}"
    )
    table = Table()
    for column in ("", "phase", "where", "force", "rhythm", "min"):
        table.add_column(column, justify="right" if column in ("", "min") else "left")
    for i, phase in enumerate(programme.phases, 1):
        table.add_row(str(i), *_phase_cells(phase), _clock(time_of(phase).total))
    console.print(table)
    limits = ", ".join(f"{region} {most:g} N" for region, most in layout.press_limits.items())
    bullets([f"Force: peak over the press limit of a finger ({limits}), on an average back."])
    used = {str(getattr(phase, "pattern", "")) for phase in programme.phases}
    _show_meaning({p: words for p, words in MEANING.items() if p in used})


def _show_meaning(patterns: Mapping[str, tuple[str, str]]) -> None:
    if not patterns:
        return
    table = Table(title="What the patterns mean", title_justify="left")
    for column in ("pattern", "what moves", "in the field's words"):
        table.add_column(column)
    for pattern, words in patterns.items():
        table.add_row(pattern, *words)
    console.print(table)
    bullets(["Fingers push and never pull: flexion is unloading, the back sinks in between."])


def _phase_cells(phase: Phase) -> tuple[Text, str, str, Text]:
    """Kind and pattern, place, force, rhythm."""
    from spinemat.session_programme import Rescan, Scan, Settle, Stability

    kind = Text(phase.kind)
    if isinstance(phase, (Scan, Rescan)):
        return kind, "", "", Text(phase.detail if isinstance(phase, Scan) else "quick")
    if isinstance(phase, Settle):
        rhythm = f"{phase.duration:g} s, {phase.breaths:g} breaths a minute"
        return kind, phase.region, "contact", Text(rhythm)
    if not isinstance(phase, Stability):
        kind.append(f" {phase.pattern}")
    force = f"{phase.share:.0%}" if phase.share else "contact"
    if grade := getattr(phase, "grade", None):
        force = f"grade {grade}, {force}"
    sets = f"{phase.sets} × " if phase.sets > 1 else ""
    rhythm = f"{sets}{phase.duration:g} s at {phase.rate:g} Hz"
    if phase.rest:
        rhythm += f", rest {phase.rest:g} s"
    if not isinstance(phase, Stability) and phase.led_breaths:
        rhythm += f", {phase.led_breaths:g} breaths a minute led"
    elif phase.breathing == "gated":
        rhythm += ", less in inspiration"
    told = Text(rhythm)
    if isinstance(phase, Stability):
        told.append(f"\n“{phase.cue}”", "italic")
    return kind, phase.region or ", ".join(phase.levels or ()), force, told


@programme_group.command("forecast")
@click.argument("name", metavar="FILE|NAME")
@click.option("--person", "person_file", required=True, help="Person file: YAML.")
@override_option
@click.option(
    "--patient",
    metavar="WHO",
    help="As if a scan had felt this virtual patient's stiffness, within 5 %: a preset, a YAML"
    " file or a row of the body survey.  [default: the last scan in --database, or published"
    " means]",
)
@click.option(
    "--database",
    metavar="URL",
    help="Record with this person's sessions: path of an SQLite file or postgresql://user@host/name;"
    " the last scan and what earlier sessions mean for now.  [default: a first session]",
)
@click.option(
    "--picture",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Draw the force expected at each level beside its limit into this PNG file.",
)
@mat_option
@json_option
def programme_forecast(
    name: str,
    person_file: str,
    override: tuple[str, str] | None,
    patient: str | None,
    database: str | None,
    picture: Path | None,
    mat_config: Path | None,
    json_file: Path | None,
) -> None:
    """Plan a session of now for one person and simulate it, before anything moves."""
    from spinemat.dosing import plan_session
    from spinemat.forecast import forecast
    from spinemat.level_dose import Needs
    from spinemat.plan_record import plan_to_mapping
    from spinemat.screening import Verdict
    from spinemat.session_programme import MOST
    from spinemat_bringup.forecast_view import draw_forecast, own_limits, show_forecast

    began = time.monotonic()
    with input_errors():
        layout = _layout(mat_config)
        programme = find_programme(name)
        record, screening = screened(person_file, override)
        if screening.verdict != Verdict.ALLOWED:
            console.print(f"[bold]{headline(record)}[/]: {VERDICTS[screening.verdict]}")
            bullets(screening.reasons)
            sys.exit(1)
        felt, advice, source = _known(patient, database, layout, record, programme)
        needs = Needs.of_answers(record, screening)
        plan = plan_session(programme, layout, record.measures, felt, needs, advice)
        result = forecast(plan, layout)
        limit = own_limits(plan, layout)
        if picture is not None:
            draw_forecast(f"{plan.title}: {record.id}", result, limit, picture)
    console.print(f"[bold]{plan.title}[/] for {headline(record)}")
    tell(f"Stiffness: {source}.")
    show_forecast(plan, result, limit)
    if picture is not None:
        tell(f"Picture: {picture}")
    outcome = Outcome(
        "programme forecast",
        time.monotonic() - began,
        details={
            "person": record.id,
            "screening": screening.log(),
            "patient": patient,
            "plan": plan_to_mapping(plan),
            "limit": limit,
            "forecast": vars(result),
        },
    )
    pressed = result.force > 0.0
    share = float((result.force[pressed] / limit[pressed]).max(initial=0.0))
    outcome.check("forecast force over this person's limit, largest", share, "<=", MOST)
    outcome.check("held above 10 N for more than 5 s", result.held, "==", 0.0)
    outcome.check("minutes of pressing", result.pressing / 60.0, "<=", 20.0)
    outcome.check("regions close to lifting", len(result.lifting), "==", 0)
    finish(outcome, json_file)


def find_programme(name: str) -> Programme:
    """Read a programme from a file, or one that ships.

    Raises:
        InvalidInput: there is no such programme, or it is not acceptable.
    """
    from spinemat.session_programme import load_programme

    if Path(name).suffix in (".yaml", ".yml") or Path(name).is_file():
        return load_programme(name)
    shipped = {path.stem: path for path in sorted(_folder().glob("*.yaml"))}
    return load_programme(shipped[choice("programme", name, shipped)])


def _known(
    patient: str | None,
    database: str | None,
    layout: MatLayout,
    record: PersonRecord,
    programme: Programme,
) -> tuple[Felt, Advice, str]:
    """What is known before the session: stiffness, what earlier sessions mean, whence the first.

    Raises:
        InvalidInput: there is no such patient, or it is too early for another session.
    """
    from spinemat.anatomy import TRUNK
    from spinemat.back_model import UP
    from spinemat.ledger import advise
    from spinemat.level_dose import Felt
    from spinemat_session.planning import advice_now

    now = datetime.now(timezone.utc)
    felt: dict[str, tuple[float, float]] = {}
    source = "published means, nothing felt yet"
    if database is None:
        advice = advise((), now, programme.name, programme.weeks)
    else:
        with opened(database) as store:
            advice = advice_now(store, record.id, programme, now)
            scan = store.last_scan(record.id)
        source = f"published means, the record has no scan of {record.id}"
        if scan is not None:
            felt, source = scan.levels, f"as felt on {scan.day}, before treatment"
    if patient is not None:
        from spinemat_sim.population import find_patient

        of = zip(UP, find_patient(patient).stiffness, strict=True)
        felt = {level: (value, KNOWN * value) for level, value in of if level in TRUNK}
        source = f"as felt at the patient {patient}"
    value, error = np.array([felt.get(level, (np.nan, np.nan)) for level in UP]).T
    prior = Felt.prior(layout, record.measures)
    return replace(prior, value=value, error=error, valid=np.isfinite(value)), advice, source


def _layout(mat_config: Path | None) -> MatLayout:
    from spinemat.layout import load_layout
    from spinemat_bringup.graph import share

    return load_layout(mat_config or share("config", "mat.yaml"))


def _folder() -> Path:
    """Where the programmes are that ship."""
    from spinemat_bringup.graph import share

    return share("config", "programmes")


def _clock(seconds: float) -> str:
    return f"{seconds // 60:.0f}:{seconds % 60:02.0f}"
