"""`spinemat bench …`: speed as ratios, forces, stops, and hours in which nothing is wrong."""

from __future__ import annotations

import signal
from pathlib import Path

import click

from spinemat_bringup.cli_common import (
    Interrupt,
    console,
    finish,
    json_option,
    plain_errors,
    seed_option,
)


@click.group()
def bench() -> None:
    """Measure speed (as ratios against a baseline of the same run), forces and stops."""


@bench.command("plant")
@json_option
def bench_plant(json_file: Path | None) -> None:
    """One control cycle of the simulated mat against the bare physics steps in it."""
    from spinemat_bringup.bench import plant

    finish(plant(), json_file)


@bench.command("twin")
@json_option
def bench_twin(json_file: Path | None) -> None:
    """The reduced-order twin: one person against real time, twenty people against one."""
    from spinemat_bringup.bench import twin

    finish(twin(), json_file)


@bench.command("engines")
@click.option("--patient", default="", help="Preset, YAML file or row of the survey.")
@seed_option
@json_option
def bench_engines(patient: str, seed: int, json_file: Path | None) -> None:
    """The same presses in MuJoCo, DART and, where installed, Gazebo; a minute without Gazebo."""
    from spinemat_bringup.bench_engines import engines

    with plain_errors():
        outcome = engines(patient, seed, console.print)
    finish(outcome, json_file)


@bench.command("force")
@seed_option
@click.option("--jobs", type=click.IntRange(1, 256), help="Processes; default: one per core.")
@json_option
def bench_force(seed: int, jobs: int | None, json_file: Path | None) -> None:
    """Force control on the noisy plant, over all presets; four minutes on two cores."""
    from spinemat_bringup.bench import force

    with plain_errors(), console.status("pressing every preset"):
        outcome = force(seed, jobs)
    finish(outcome, json_file)


@bench.command("control")
@click.option(
    "--seconds",
    type=click.FloatRange(1.0, 100.0),
    default=60.0,
    show_default=True,
    help="Real time to count at 250 Hz, and again at 500 Hz.",
)
@json_option
def bench_control(seconds: float, json_file: Path | None) -> None:
    """The control step, and its node beside a bare echo at 250 and 500 Hz; three minutes."""
    from spinemat_bringup.bench import control

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the nodes, too
    with plain_errors(), console.status("pressing beside a bare echo"):
        outcome = control(seconds)
    finish(outcome, json_file)


@bench.command("calm")
@click.option("--people", type=click.IntRange(1), default=50, show_default=True)
@click.option(
    "--hours",
    type=click.FloatRange(0.01),
    default=8.0,
    show_default=True,
    help="Of simulated time, all people together.",
)
@seed_option
@click.option("--jobs", type=click.IntRange(1, 256), help="Processes; default: one per core.")
@json_option
def bench_calm(
    people: int, hours: float, seed: int, jobs: int | None, json_file: Path | None
) -> None:
    """No false stop: sampled people scanned and treated at random under the supervisor."""
    from spinemat_bringup.bench import calm

    with plain_errors(), console.status("treating people with whom nothing is wrong"):
        outcome = calm(people, hours, seed, jobs)
    finish(outcome, json_file)


@bench.command("stops")
@click.option("--runs", type=click.IntRange(1), default=100, show_default=True, help="Per path.")
@click.option("--path", "paths", multiple=True, help="Only this path; may be repeated.")
@seed_option
@json_option
def bench_stops(runs: int, paths: tuple[str, ...], seed: int, json_file: Path | None) -> None:
    """Every way to a stop, real processes, judged by the truth in drive time; 30 minutes."""
    from spinemat.errors import choice
    from spinemat_bringup.stops import PATHS, stops

    with plain_errors(), Interrupt() as interrupt:
        for path in paths:
            choice("path", path, PATHS)
        outcome = stops(runs, paths, seed, console.print, interrupt.wanted)
    finish(outcome, json_file, not interrupt.wanted())


@bench.command("soak")
@click.option(
    "--minutes",
    type=click.FloatRange(0.1),
    default=60.0,
    show_default=True,
    help="Of drive time; about half as much on the clock.",
)
@seed_option
@json_option
def bench_soak(minutes: float, seed: int, json_file: Path | None) -> None:
    """Session after session on the real graph: no false stop, no growing memory."""
    from spinemat_bringup.soak import soak

    with plain_errors(), Interrupt() as interrupt:
        outcome = soak(minutes, seed, console.print, interrupt.wanted)
    finish(outcome, json_file, not interrupt.wanted())


@bench.command("stop-service")
@click.option("--runs", type=click.IntRange(1), default=200, show_default=True)
@seed_option
@json_option
def bench_stop_service(runs: int, seed: int, json_file: Path | None) -> None:
    """The stop service beside a bare service call, in real time; 15 minutes."""
    from spinemat_bringup.stops import stop_service

    with plain_errors(), Interrupt() as interrupt:
        outcome = stop_service(runs, seed, console.print, interrupt.wanted)
    finish(outcome, json_file, not interrupt.wanted())


@bench.command("bag")
@click.option(
    "--source",
    type=click.Path(exists=True, path_type=Path),
    help="A recorded session to measure with.  [default: a session of the demo, recorded first]",
)
@click.option(
    "--seconds",
    type=click.FloatRange(5.0),
    default=30.0,
    show_default=True,
    help="Of recording in real time; 1800 for the half hour without a drop.",
)
@json_option
def bench_bag(source: Path | None, seconds: float, json_file: Path | None) -> None:
    """Recording, export, running again, and many recordings; seven minutes."""
    from spinemat_bringup.bench_bag import bag_bench

    with plain_errors(), Interrupt() as interrupt:
        outcome = bag_bench(source, seconds, console, interrupt.wanted)
    finish(outcome, json_file, not interrupt.wanted())


@bench.command("record")
@click.option("--sessions", type=click.IntRange(600), default=100_000, show_default=True)
@click.option(
    "--url", default="", help="Of an empty database.  [default: one of SQLite, one of PostgreSQL]"
)
@json_option
def bench_record(sessions: int, url: str, json_file: Path | None) -> None:
    """What reports ask of a large record of made-up sessions; half an hour for 100,000."""
    from spinemat_bringup.bench_record import record_bench
    from spinemat_bringup.cli_record import record_errors

    with record_errors(), console.status("filling and asking the record"):
        outcome = record_bench(sessions, url)
    finish(outcome, json_file)
