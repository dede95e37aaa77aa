"""`spinemat stop`, `reset`, `status` and `events`: what everybody near a mat has to know."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from spinemat_bringup.cli_common import (
    PHASES,
    SAFETY,
    Interrupt,
    console,
    finish,
    json_option,
    namespace_option,
    plain_errors,
    say,
    seed_option,
    simple,
)
from spinemat_bringup.graph import state_folder


@click.command()
@namespace_option
def stop(namespace: str) -> None:
    """Stop: all fingers release and retract; latched until `reset`."""
    simple("stop", namespace)


@click.command()
@click.option("--who", required=True, help="Who decides.")
@click.option("--reason", required=True, help="Why it is safe to go on.")
@namespace_option
def reset(who: str, reason: str, namespace: str) -> None:
    """End a stop, once every cause is gone. Nothing moves by itself afterwards."""
    from spinemat_bringup.client import MatClient

    with plain_errors(), MatClient(namespace) as client:
        say(*client.reset(who, reason))


@click.command()
@namespace_option
def status(namespace: str) -> None:
    """Say how a running mat is; exit status 0 if it is ready or moving."""
    from spinemat_bringup.client import MatClient

    with plain_errors(), MatClient(namespace) as client:
        client.wait(lambda: client.safety is not None, 5.0, f"safety_supervisor in {namespace}")
        end = time.monotonic() + 2.0
        while client.session is None and time.monotonic() < end:
            client.spin(0.1)
        s, c = client.safety, client.session
        assert s is not None
        console.print(
            f"safety:  {SAFETY[s.state]}" + (f": {s.cause}: {s.detail}" if s.cause else ""),
            soft_wrap=True,
        )
        for cause in s.later_causes:
            console.print(f"         also {cause}", soft_wrap=True)
        for missing in s.waiting_for:
            console.print(f"         waiting for {missing}", soft_wrap=True)
        if c is None:
            console.print("session: session_orchestrator is silent")
        else:
            detail = f": {c.detail}" if c.detail else ""
            console.print(f"session: {PHASES[c.phase]}{detail}", soft_wrap=True)
        console.print(f"drive:   cycle {s.cycle}")
    sys.exit(0 if s.state in (1, 2) else 1)


@click.command()
@click.option("--quick", is_flag=True, help="A choice of cases, within five minutes.")
@click.option(
    "--only",
    multiple=True,
    metavar="WORDS",
    help="Faults with these words in their name; may be repeated.",
)
@click.option("--mutations/--no-mutations", default=None, help="Run each rule's case without it.")
@click.option(
    "--markdown",
    "markdown_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the figures of every case as tables, too.",
)
@seed_option
@json_option
def faults(
    quick: bool,
    only: tuple[str, ...],
    mutations: bool | None,
    markdown_file: Path | None,
    seed: int,
    json_file: Path | None,
) -> None:
    """Break everything on purpose: a campaign of faults, judged by the simulated person."""
    from spinemat_bringup.campaign.command import faults as campaign
    from spinemat_bringup.campaign.command import markdown

    with plain_errors(), Interrupt() as interrupt:
        outcome = campaign(
            quick,
            only,
            not quick if mutations is None else mutations,
            seed,
            lambda text: console.print(text, soft_wrap=True, markup=False, highlight=False),
            interrupt.wanted,
        )
    if markdown_file is not None:
        markdown_file.write_text(markdown(outcome), encoding="utf-8")
    finish(outcome, json_file, not interrupt.wanted())


@click.command()
@click.option(
    "--dir",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the log; default: where `spinemat up` keeps it, or a session's folder.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line, as it is kept.")
@namespace_option
def events(folder: Path | None, as_json: bool, namespace: str) -> None:
    """Show the safety log: every stop, later cause, reset and lowered limit."""
    path = (folder or state_folder(namespace)) / "safety_events.jsonl"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise click.ClickException(f"{path}: {error.strerror}") from error
    if as_json:
        console.print("\n".join(lines), soft_wrap=True, markup=False, highlight=False)
        return
    table = Table(title=str(path), title_justify="left")
    for column in ("time", "event", "state", "cause", "detail", "limit"):
        table.add_column(column, overflow="fold")
    for line in lines:
        table.add_row(*_event_row(line))
    console.print(table)


def _event_row(line: str) -> tuple[str, ...]:
    try:
        entry: dict[str, Any] = json.loads(line)
    except ValueError:  # the last line of a log that a power cut ended
        return ("", "unreadable", "", "", line, "")
    states = f"{entry.get('before', '')} → {entry.get('after', '')}"
    what = str(entry.get("detail", "")) or str(entry.get("mat", ""))[:8]
    moment = str(entry.get("time", ""))[:23].replace("T", " ")
    cause, limit = str(entry.get("cause", "")), str(entry.get("limit", ""))
    return (moment, str(entry.get("kind", "")), states, cause, what, limit)
