"""`spinemat evaluate …`: beliefs against the truth, over many virtual people."""

from __future__ import annotations

from pathlib import Path

import click

from spinemat_bringup.cli_common import Interrupt, console, finish, json_option, plain_errors, tell


@click.group()
def evaluate() -> None:
    """Compare what the software believes with the truth, over many virtual people."""


@evaluate.command("sensing")
@click.option("--patients", type=click.IntRange(1, 2000), default=100, show_default=True)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**31 - 1),
    default=1000,
    show_default=True,
    help="Seed of people, sensors and trials; 7, 8, 6000, 8000 and 9000 were used for tuning.",
)
@click.option("--jobs", type=click.IntRange(1, 256), help="Processes; default: one per core.")
@click.option(
    "--picture",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Draw estimates beside the truth into this PNG.",
)
@json_option
def evaluate_sensing(
    patients: int, seed: int, jobs: int | None, picture: Path | None, json_file: Path | None
) -> None:
    """Contour, levels and stiffness of scanned people; an hour and a half for 100 on two cores."""
    from spinemat_bringup.evaluate import draw, sensing

    with plain_errors(), console.status(f"scanning {patients} people"):
        outcome, people = sensing(patients, seed, jobs)
        if picture is not None:
            draw(people, picture)
    finish(outcome, json_file)


@evaluate.command("course")
@click.option("--people", type=click.IntRange(1, 500), default=20, show_default=True)
@click.option("--weeks", type=click.IntRange(1, 52), default=8, show_default=True)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**31 - 1),
    default=1000,
    show_default=True,
    help="Seed of people, sensors and all that happens.",
)
@click.option("--jobs", type=click.IntRange(1, 256), help="Processes; default: one per core.")
@click.option(
    "--spot",
    type=click.IntRange(0, 500),
    default=2,
    show_default=True,
    help="Sessions that are done once more on the full plant.",
)
@click.option(
    "--database",
    metavar="URL",
    help="Keep the record there: a path of an SQLite file, or postgresql://…; default: nowhere.",
)
@click.option(
    "--picture",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Draw stiffness and dose over the weeks into this PNG.",
)
@json_option
def evaluate_course(
    people: int,
    weeks: int,
    seed: int,
    jobs: int | None,
    spot: int,
    database: str | None,
    picture: Path | None,
    json_file: Path | None,
) -> None:
    """Weeks of sessions on the twin, and what the record says of them beside the truth."""
    from spinemat_bringup.evaluate_course import course, draw
    from spinemat_session.record import StoreError

    with plain_errors(), console.status(f"{people} people come for {weeks} weeks"):
        try:
            outcome, judged = course(people, weeks, seed, jobs, spot, database)
        except StoreError as error:
            raise click.ClickException(str(error)) from error
        if picture is not None:
            draw(judged, picture)
    finish(outcome, json_file)


@evaluate.command("record")
@click.option("--trials", type=click.IntRange(1, 1000), default=50, show_default=True)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**31 - 1),
    default=0,
    show_default=True,
    help="Seed of the virtual person, the sensors and the moments.",
)
@json_option
def evaluate_record(trials: int, seed: int, json_file: Path | None) -> None:
    """Kill sessions, fill their disk, drop their database; needs the right to mount a disk."""
    from spinemat_bringup.evaluate_record import record

    with plain_errors(), Interrupt() as interrupt:
        outcome = record(trials, seed, tell, interrupt.wanted)
    finish(outcome, json_file, not interrupt.wanted())


@evaluate.command("gated")
@click.option("--people", type=click.IntRange(1, 500), default=20, show_default=True)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**31 - 1),
    default=1000,
    show_default=True,
    help="Seed of people, sensors and drives.",
)
@click.option(
    "--sets",
    type=click.IntRange(1, 20),
    default=2,
    show_default=True,
    help="Of each gated phase at most.",
)
@click.option("--jobs", type=click.IntRange(1, 256), help="Processes; default: one per core.")
@json_option
def evaluate_gated(
    people: int, seed: int, sets: int, jobs: int | None, json_file: Path | None
) -> None:
    """Whether presses that should keep step with the breath peak while people breathe out."""
    from spinemat_bringup.evaluate_gated import gated

    with plain_errors(), console.status(f"pressing {people} people"):
        outcome = gated(people, seed, sets, jobs)
    finish(outcome, json_file)
