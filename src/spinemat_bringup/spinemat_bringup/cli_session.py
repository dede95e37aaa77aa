"""`spinemat session …`: run a session on a mat that is up, steer it, and say what one feels."""

from __future__ import annotations

import math
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from spinemat_bringup.cli_common import (
    Cue,
    Interrupt,
    console,
    namespace_option,
    person_options,
    plain_errors,
    say,
    session_bar,
    simple,
)
from spinemat_bringup.cli_person import override_option
from spinemat_bringup.cli_record import record_errors
from spinemat_bringup.cli_report import report_after, session_report

if TYPE_CHECKING:
    from spinemat_bringup.client import MatClient
    from spinemat_interfaces.action import RunSession

ANSWERED = 5.0  # s of wall time for what a report of comfort leads to


@click.group()
def session() -> None:
    """Run and steer sessions on a running mat."""


session.add_command(session_report)


@session.command("run")
@click.option(
    "--person",
    "person_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The person's answers (config/persons): measures, screening, complaints, limits.",
)
@override_option
@click.option(
    "--unscreened",
    is_flag=True,
    help="Nobody was asked anything: measures alone, for people in a simulation.",
)
@person_options(required=False)
@click.option("--id", "person_id", help="Synthetic id, with --unscreened.")
@click.option("--programme", default="daily_5", show_default=True)
@click.option(
    "--trial",
    type=(str, int),
    metavar="NAME SEED",
    help="The person is in a randomised trial: its seed decides between --programme and the same"
    " as contact without dose.",
)
@click.option(
    "--database",
    metavar="URL",
    help="Of the trial and of the weeks in the report.  [default: the mat's own]",
)
@click.option("--confirm", is_flag=True, help="The plan waits for `spinemat session confirm`.")
@namespace_option
def session_run(
    person_file: Path | None,
    override: tuple[str, str] | None,
    unscreened: bool,
    programme: str,
    confirm: bool,
    trial: tuple[str, int] | None,
    database: str | None,
    namespace: str,
    **measures: Any,
) -> None:
    """Run one session on a mat that is up; Ctrl-C releases and ends it.

    Give a person's file, or measures with --unscreened.
    """
    from spinemat_bringup.client import MatClient

    goal = _goal(person_file, override, unscreened, measures)
    goal.programme, goal.confirm = programme, confirm
    if trial is not None and person_file is None:
        raise click.UsageError("--trial needs a --person")
    with plain_errors(), Interrupt() as interrupt, MatClient(namespace) as client:
        database = database or _database(client)
        if trial is not None:
            if database is None:
                raise click.UsageError("--trial needs a --database: the mat keeps none")
            into_trial(goal, trial, database)
        cue = Cue()
        client.listen("breathing/cue", cue.heard)
        with session_bar(cue) as show:
            result = client.run_session(goal, show, interrupt.wanted)
        if result.success and result.folder:
            client.wait_recorded(result.folder)
    console.print(result.message or "completed", soft_wrap=True)
    if result.folder:
        console.print(f"Record: {result.folder}", soft_wrap=True)
    if goal.allocation:
        console.print(
            "No report yet, as it tells the arm: spinemat session report FOLDER unseals."
        )
    elif result.folder:
        report_after(Path(result.folder), database)
    if not interrupt.wanted():
        sys.exit(130)
    sys.exit(0 if result.success and result.stops == 0 else 1)


def _database(client: MatClient) -> str | None:
    """URL of the database in which the mat keeps its sessions; None: in none."""
    from spinemat_session.keeping import database_of

    node = "session_orchestrator"
    folder, url = (client.parameter(node, name) or "" for name in ("sessions_dir", "database"))
    return database_of(folder, url)


def into_trial(goal: RunSession.Goal, trial: tuple[str, int], database: str) -> None:
    """Screen a person, take them into a trial unless they are in it, and tell the goal the arm.

    Args:
        goal: with the person's record and the programme of the active arm; its arm is set.
        trial: name and seed.
        database: URL.

    Raises:
        click.ClickException: the record, its screening, the trial or the database does not allow
            it.
    """
    from spinemat_session.intake import NotAllowed, prepare
    from spinemat_session.record import Store

    now = datetime.now().astimezone()
    with record_errors(), Store(database) as store:
        try:
            person = prepare(goal, must_screen=True)
        except NotAllowed as refused:
            store.add_screening(refused.screening, refused.answers, at=now)
            raise
        store.put_person(person.person_id, person.answers, at=now)
        goal.allocation = store.enrol(person.person_id, *trial)


def _goal(
    person_file: Path | None,
    override: tuple[str, str] | None,
    unscreened: bool,
    measures: dict[str, Any],
) -> RunSession.Goal:
    """Return a session's goal for a person's file, or for measures.

    Raises:
        click.UsageError: neither or both, or something is missing.
    """
    from spinemat_interfaces.action import RunSession

    given = {name: value for name, value in measures.items() if value is not None}
    if person_file is not None:
        if unscreened or given:
            raise click.UsageError("--person has the measures and the answers already")
        goal = RunSession.Goal(person=person_file.read_text(encoding="utf-8", errors="replace"))
        if override is not None:
            goal.override_by, goal.override_reason = override
        return goal
    if not unscreened:
        raise click.UsageError("--person FILE, or --unscreened with measures")
    if override is not None:
        raise click.UsageError("--override needs a --person: nobody was screened")
    missing = [f"--{name.removeprefix('person_')}" for name in measures if name not in given]
    if missing:
        raise click.UsageError(f"--unscreened needs {', '.join(missing)}")
    return RunSession.Goal(**given)


@session.command("pause")
@namespace_option
def session_pause(namespace: str) -> None:
    """Unload the fingers and wait."""
    simple("pause", namespace)


@session.command("resume")
@namespace_option
def session_resume(namespace: str) -> None:
    """Go on after a pause."""
    simple("resume", namespace)


@session.command("adjust")
@click.option("--strength", type=float, default=math.nan, help="Share of the start's, 0 to 1.")
@click.option("--rate", type=float, default=math.nan, help="Hz, 0.2 up to the start's rate.")
@click.option(
    "--region",
    "regions",
    multiple=True,
    type=click.Choice(("neck", "thoracic", "lumbar")),
    help="Go on with this region and others named so; the rest is only touched.",
)
@namespace_option
def session_adjust(strength: float, rate: float, regions: tuple[str, ...], namespace: str) -> None:
    """Change strength, rate or area of the treatment, never above what was planned."""
    from spinemat_bringup.client import MatClient

    with plain_errors(), MatClient(namespace) as client:
        say(*client.adjust(strength, rate, regions))


@session.command("plan")
@namespace_option
def session_plan(namespace: str) -> None:
    """Show the plan of the session that runs, and why it is as it is."""
    from spinemat_bringup.client import MatClient
    from spinemat_bringup.tables import plan_table

    with plain_errors(), MatClient(namespace) as client:
        plans: list[Any] = []
        client.listen("plan", plans.append)
        client.wait(lambda: bool(plans), ANSWERED, "plan: no session has made one yet")
    plan = plans[-1]
    console.print(plan_table(plan))
    for text in (*plan.steps, *plan.notes):
        console.print(f"- {text}", soft_wrap=True, markup=False, highlight=False)
    if plan.waiting:
        console.print("It waits for: spinemat session confirm --by WHO")


@session.command("confirm")
@click.option("--by", required=True, help="Who confirms; a synthetic id.")
@click.option("--decline", is_flag=True, help="Nothing is treated, the session ends.")
@click.option("--reason", default="", help="Needed for changes and for declining.")
@click.option(
    "--change",
    "changes",
    type=(str, float),
    multiple=True,
    metavar="LEVEL FACTOR",
    help="Multiply a level's force first, 0 to 1.5 within all limits; may be given again.",
)
@namespace_option
def session_confirm(
    by: str, decline: bool, reason: str, changes: tuple[tuple[str, float], ...], namespace: str
) -> None:
    """Confirm the plan that waits, change it first, or decline it."""
    from spinemat_bringup.client import MatClient
    from spinemat_interfaces.srv import ConfirmPlan

    request = ConfirmPlan.Request(
        accept=not decline,
        by=by,
        reason=reason,
        levels=[level for level, _ in changes],
        factors=[factor for _, factor in changes],
    )
    with plain_errors(), MatClient(namespace) as client:
        answer = client.call(ConfirmPlan, "confirm_plan", request)
        say(answer.success, answer.message)


@session.command("comfort")
@click.argument("pain", type=click.IntRange(0, 10))
@click.option("--place", default="", help="Level or region (L4, lumbar); else: where it presses.")
@click.option("--words", default="", help="Free text.")
@namespace_option
def session_comfort(pain: int, place: str, words: str, namespace: str) -> None:
    """Say what the person feels, 0 to 10; from 4 on the force there is lowered at once."""
    from spinemat_bringup.client import MatClient
    from spinemat_interfaces.msg import ComfortReport

    with plain_errors(), MatClient(namespace) as client:
        publisher = client.publisher("comfort")
        heard = f"{namespace}/session_orchestrator does not listen: is the mat up?"
        client.wait(lambda: publisher.get_subscription_count() > 0, ANSWERED, heard)
        known = len(client.events)
        publisher.publish(ComfortReport(pain=pain, place=place, words=words))

        def answer() -> Any:
            kinds = ("comfort", "refused")
            return next((e for e in client.events[known:] if e.kind in kinds), None)

        client.wait(lambda: answer() is not None, ANSWERED, "what it leads to")
        event = answer()
    say(event.kind == "comfort", event.text)
