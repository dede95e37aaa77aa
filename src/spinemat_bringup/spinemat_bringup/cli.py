"""The command line: `spinemat demo`, `up`, `session run`, `stop`, `reset`, `status`, `scan` …"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click
from rich.progress import Progress

from spinemat_bringup.cli_bag import bag_group
from spinemat_bringup.cli_bench import bench
from spinemat_bringup.cli_common import (
    SAFETY,
    Cue,
    Interrupt,
    console,
    finish,
    json_option,
    mat_database_option,
    mat_option,
    namespace_option,
    out_option,
    patient_option,
    person_options,
    plain_errors,
    programmes_option,
    record_option,
    seed_option,
    session_bar,
)
from spinemat_bringup.cli_evaluate import evaluate
from spinemat_bringup.cli_patient import patient_group
from spinemat_bringup.cli_person import person_group
from spinemat_bringup.cli_programme import programme_group
from spinemat_bringup.cli_record import record_group
from spinemat_bringup.cli_record_bag import record_bag
from spinemat_bringup.cli_safety import events, faults, reset, status, stop
from spinemat_bringup.cli_session import session
from spinemat_bringup.graph import DEMANDS, NO_RECORD, SIMULATORS
from spinemat_bringup.outcome import software_version


def _demand(name: str, words: str) -> Any:
    return click.option(
        name, type=click.Choice(DEMANDS), default=DEMANDS[0], show_default=True, help=words
    )


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 99})
@click.version_option(software_version(), prog_name="spinemat")
def main() -> None:
    """SpineMat: an open ROS 2 stack for a robotic spinal-therapy mat."""


@main.command()
@patient_option
@seed_option
@mat_option
@out_option
@json_option
@click.option("--programme", default="demo", show_default=True, help="Programme to run.")
@programmes_option
@mat_database_option
@record_option
@click.option("--real-time", is_flag=True, help="Pace by the wall clock, not by lock-step.")
@click.option(
    "--browse/--no-browse",
    default=bool(os.environ.get("DISPLAY")),
    help="Open the report in a browser; default: where there is a display.",
)
def demo(
    patient: str,
    seed: int,
    mat_config: Path | None,
    out: Path,
    json_file: Path | None,
    programme: str,
    programmes: Path | None,
    database: str,
    record: str,
    real_time: bool,
    browse: bool,
) -> None:
    """Run a whole session on the simulated mat and report what it found.

    Starts all nodes as processes of their own, scans, treats and re-measures a virtual person
    with a real person's measures, and writes a record and a report.
    """
    from spinemat_bringup.demo import DemoOptions, run_demo

    options = DemoOptions(
        patient, seed, programme, mat_config, out, real_time, record, database, programmes
    )
    cue = Cue()
    with plain_errors(), Interrupt() as interrupt, session_bar(cue) as show:
        outcome = run_demo(options, console, show, interrupt.wanted, cue.heard)
    d = outcome.details
    if not d["completed"]:
        console.print(f"[bold]The session did not complete:[/] {d['message']}")
    if "picture_missing" in d:
        console.print(f"[dim]No picture in the report: {d['picture_missing']}[/]")
    if d["report"]:
        console.print(f"Record: {d['folder']}\nReport: {d['report']}", soft_wrap=True)
        if browse and console.is_terminal:
            click.launch(d["report"])
    finish(outcome, json_file, not interrupt.wanted())


@main.command()
@click.option(
    "--sim",
    type=click.Choice(SIMULATORS),
    default="mujoco",
    show_default=True,
    help="Which drive stage to start.",
)
@click.option("--real-time", is_flag=True, help="Pace by the wall clock, not by lock-step.")
@click.option(
    "--broken",
    multiple=True,
    metavar="FAULT",
    help='Break a finger of the simulated mat, such as "r06_left jammed"; may be repeated.',
)
@patient_option
@seed_option
@mat_option
@out_option
@programmes_option
@mat_database_option
@_demand("--confirm", "Whether every plan waits for `spinemat session confirm`.")
@_demand("--screening", "Whether only people whose answers were given are treated.")
@record_option
@namespace_option
def up(
    sim: str,
    real_time: bool,
    broken: tuple[str, ...],
    patient: str,
    seed: int,
    mat_config: Path | None,
    out: Path,
    programmes: Path | None,
    database: str,
    confirm: str,
    screening: str,
    record: str,
    namespace: str,
) -> None:
    """Start the graph and keep it running until Ctrl-C."""
    from spinemat.layout import load_layout
    from spinemat.session_programme import checked_programmes
    from spinemat_bringup.client import MatClient
    from spinemat_bringup.demo import watch_deaths
    from spinemat_bringup.graph import GraphOptions, describe, share, state_folder
    from spinemat_bringup.processes import Processes
    from spinemat_sim.faults import parse_faults
    from spinemat_sim.population import find_patient

    with plain_errors(), Interrupt() as interrupt:
        mat = mat_config or share("config", "mat.yaml")
        layout = load_layout(mat)
        parse_faults(layout, broken)
        checked_programmes(programmes or share("config", "programmes"), layout)
        person = find_patient(patient, seed)
        state_dir = state_folder(namespace)
        nodes = describe(
            GraphOptions(
                mat.resolve(),
                sim,
                real_time,
                patient,
                seed,
                broken,
                sessions_dir=out.resolve(),
                state_dir=state_dir,
                record=record != NO_RECORD,
                profile=record if record != NO_RECORD else "all",
                database=database,
                programmes=programmes,
                confirm=confirm,
                screening=screening,
            )
        )
        with Processes(nodes, namespace, state_dir / "log") as processes:
            with MatClient(namespace) as client:
                client.check = watch_deaths(processes)
                client.bring_up(nodes)
                console.print(f"{len(nodes)} nodes run under {namespace}; logs: {state_dir}/log")
                if sim == "mujoco":
                    console.print(
                        f"On the mat: {person.name}: {person.sex}, {person.age:.0f} years,"
                        f" {person.stature:.2f} m, {person.mass:.1f} kg. Ctrl-C ends."
                    )
                said = ""
                told = 0
                while interrupt.wanted():
                    client.spin(0.2)
                    said = _say_changes(client, said)
                    for event in client.events[told:]:
                        if event.kind == "self-test":
                            console.print(event.text, soft_wrap=True)
                    told = len(client.events)
                _stop_quietly(client)
    sys.exit(0)


def _say_changes(client: Any, said: str) -> str:
    words = ""
    if client.safety is not None:
        s = client.safety
        words = SAFETY[s.state] + (f": {s.cause}: {s.detail}" if s.cause else "")
        if s.state == 2:
            words = SAFETY[1]  # moving is a kind of ready: not worth a line each time
    if words and words != said:
        console.print(f"safety: {words}")
        return words
    return said


def _stop_quietly(client: Any) -> None:
    """Ask for a stop if anything moves, before the nodes end."""
    from spinemat_bringup.client import NoAnswer
    from spinemat_bringup.demo import NodeDied

    client.check = lambda: None
    if client.safety is None or client.safety.state != 2:
        return
    try:
        client.trigger("stop")
        cycles = client.safety.cycle
        client.wait(lambda: client.safety.cycle > cycles + 250, 5.0, "release")
    except (NoAnswer, NodeDied) as error:
        console.print(f"stop: {error}; the drive stage releases by itself")


@main.command()
@person_options()
@click.option("--contour-only", is_flag=True, help="Skip the stiffness probes.")
@namespace_option
def scan(
    sex: str, age: float, stature: float, mass: float, contour_only: bool, namespace: str
) -> None:
    """Scan the person on a mat that is up and print what was felt."""
    from spinemat_bringup.client import MatClient
    from spinemat_bringup.tables import scan_tables
    from spinemat_interfaces.action import ScanSpine

    goal = ScanSpine.Goal(sex=sex, age=age, stature=stature, mass=mass, stiffness=not contour_only)
    with plain_errors(), Interrupt() as interrupt, MatClient(namespace) as client:
        with Progress(console=console, disable=not console.is_terminal) as bar:
            task = bar.add_task("scan", total=100.0)
            result = client.scan(
                goal,
                lambda f: bar.update(task, completed=f.percent, description=f.phase),
                interrupt.wanted,
            )
    if not result.success:
        console.print(result.message, soft_wrap=True)
        sys.exit(1 if interrupt.wanted() else 130)
    for table in scan_tables(result):
        console.print(table)


@main.command()
@click.option("--keep", is_flag=True, help="Keep the result; later tests are compared with it.")
@namespace_option
def calibrate(keep: bool, namespace: str) -> None:
    """Test every finger of a mat that is up: load cell, encoder, friction, return spring."""
    from spinemat_bringup.client import MatClient
    from spinemat_bringup.tables import calibration_table

    with plain_errors(), Interrupt() as interrupt, MatClient(namespace) as client:
        result = client.calibrate(keep, interrupt.wanted)
    if result.success:
        console.print(calibration_table(result))
    console.print(result.message, soft_wrap=True)
    sys.exit(0 if result.success and not any(result.fault) else 1)


@main.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def test(arguments: tuple[str, ...]) -> None:
    """Check style and types, and run the tests; arguments go to pytest."""
    from spinemat_bringup.testing import run_tests

    sys.exit(run_tests(arguments))


record_group.add_command(record_bag)
for command in (
    patient_group,
    programme_group,
    person_group,
    session,
    record_group,
    bag_group,
    bench,
    evaluate,
    stop,
    reset,
    status,
    events,
    faults,
):
    main.add_command(command)
