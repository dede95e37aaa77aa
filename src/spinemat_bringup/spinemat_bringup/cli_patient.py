"""`spinemat patient …`: the virtual patients."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.table import Table

from spinemat.errors import InvalidInput
from spinemat_bringup.cli_common import console, finish, json_option, plain_errors, seed_option
from spinemat_bringup.outcome import plain

if TYPE_CHECKING:
    from spinemat_sim.patient import Patient


@click.group("patient")
def patient_group() -> None:
    """Virtual patients: presets, people drawn from a survey, validation."""


@patient_group.command("list")
def patient_list() -> None:
    """List the presets, a sentence each."""
    from spinemat_sim.patient_file import DEFAULT_PATIENT, presets
    from spinemat_sim.population import survey

    with plain_errors():
        table = Table()
        for column in ("name", "who"):
            table.add_column(column)
        for name, patient in presets().items():
            mark = " (default)" if name == DEFAULT_PATIENT else ""
            table.add_row(name + mark, patient.sentence)
        console.print(table)
        console.print(
            f"Or a row of the body survey, 0 to {len(survey()) - 1}, or a YAML file"
            " (`spinemat patient show NAME --yaml` writes one to start from)."
        )


@patient_group.command("show")
@click.argument("who", default="")
@seed_option
@click.option("--yaml", "as_yaml", is_flag=True, help="The whole patient as YAML.")
@click.option(
    "--picture",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Render the person on the mat into this PNG file.",
)
def patient_show(who: str, seed: int, as_yaml: bool, picture: Path | None) -> None:
    """Show one patient: a preset, a YAML file or a row of the survey; default: the mean adult."""
    from spinemat_sim.patient_file import dump_patient
    from spinemat_sim.population import find_patient

    with plain_errors():
        patient = find_patient(who, seed)
        if as_yaml:
            click.echo(dump_patient(patient), nl=False)
        else:
            _describe(patient)
        if picture is not None:
            _draw(patient, picture)
            console.print(f"Picture: {picture}", soft_wrap=True)


def _describe(patient: Patient) -> None:
    from spinemat_sim.patient import LEVELS

    p = patient
    console.print(f"[bold]{p.name}[/]: {p.sentence}")
    facts = Table(show_header=False)
    facts.add_column()
    facts.add_column()
    angles = (p.kyphosis, p.lordosis, p.cervical_lordosis)
    thorax, loins, neck = (f"{math.degrees(a):.0f}°" for a in angles)
    b, g, m, o = p.breathing, p.guarding, p.mobilisation, p.position
    layers = (("neck", p.tissue.neck), ("thorax", p.tissue.thoracic), ("loins", p.tissue.lumbar))
    for name, value in (
        ("sex, age", f"{p.sex}, {p.age:.0f} years"),
        ("stature, mass", f"{100 * p.stature:.0f} cm, {p.mass:.1f} kg"),
        ("standing", f"kyphosis {thorax}, lordosis {loins}, neck {neck}"),
        ("breathing", f"{60 * b.rate:.0f} per minute, {1e3 * b.depth:.1f} mm"),
        (
            "guards",
            f"over {g.force:.0f} N on a finger or {g.rate:.0f} N/s, by {100 * g.gain:.0f} %,"
            f" after {1e3 * g.latency:.0f} ms",
        ),
        (
            "tissue layers",
            ", ".join(
                f"{n} {1e3 * t.thickness:.0f} mm of {1e-3 * t.stiffness:.1f} N/mm"
                for n, t in layers
            ),
        ),
        (
            "softens when mobilised",
            f"by up to {100 * m.softening:.0f} % (our own assumption)" if m.softening else "no",
        ),
        (
            "lies",
            f"{1e3 * o.along:+.0f} mm along, {1e3 * o.across:+.0f} mm across,"
            f" {math.degrees(o.rotation):+.1f}° rotated",
        ),
    ):
        facts.add_row(name, value)
    console.print(facts)
    levels = Table(title="Posteroanterior stiffness, N/mm", title_justify="left")
    for column in ("level", "pair", "left", "right"):
        levels.add_column(column, justify="right")
    rows = zip(LEVELS, p.stiffness, p.left, p.right, p.softened, strict=True)
    for level, pair, left, right, soft in reversed(list(rows)):
        values = (pair, (1.0 - soft) * left, (1.0 - soft) * right)
        levels.add_row(level, *(f"{1e-3 * v:.1f}" for v in values))
    console.print(levels)


def _draw(patient: Patient, path: Path) -> None:
    from spinemat.layout import load_layout
    from spinemat_bringup.graph import share
    from spinemat_sim.person import lie_down
    from spinemat_sim.plant import Plant
    from spinemat_sim.render import NoOpenGL, render
    from spinemat_sim.urdf import expand_urdf

    mat = share("config", "mat.yaml")
    urdf = expand_urdf(share("urdf", "mat.urdf.xacro"), mat)
    try:
        render(Plant(load_layout(mat), lie_down(patient), urdf), urdf, path)
    except NoOpenGL as error:
        raise click.ClickException(str(error)) from error


@patient_group.command("sample")
@click.argument("count", type=int)
@seed_option
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write each person as a YAML file into this folder.",
)
@json_option
def patient_sample(count: int, seed: int, out: Path | None, json_file: Path | None) -> None:
    """Draw COUNT people from the body survey; the same seed gives the same people."""
    from spinemat_sim.patient_file import dump_patient
    from spinemat_sim.population import sample

    with plain_errors():
        people = sample(count, seed)
        table = Table()
        for column in ("name", "sex", "age", "cm", "kg", "kyphosis", "lordosis", "T7, N/mm"):
            table.add_column(column, justify="left" if column in ("name", "sex") else "right")
        facts = []
        for p in people:
            k = p.stiffness_of("T7")
            table.add_row(
                p.name,
                p.sex,
                f"{p.age:.0f}",
                f"{100 * p.stature:.0f}",
                f"{p.mass:.0f}",
                f"{math.degrees(p.kyphosis):.0f}°",
                f"{math.degrees(p.lordosis):.0f}°",
                f"{1e-3 * k:.1f}",
            )
            facts.append(
                {
                    "name": p.name,
                    "row": p.row,
                    "sex": p.sex,
                    "age": p.age,
                    "stature": p.stature,
                    "mass": p.mass,
                    "kyphosis": p.kyphosis,
                    "lordosis": p.lordosis,
                    "stiffness": p.stiffness,
                }
            )
        console.print(table)
        try:
            if out is not None:
                out.mkdir(parents=True, exist_ok=True)
                for p in people:
                    (out / f"{p.name}.yaml").write_text(dump_patient(p), encoding="utf-8")
                console.print(f"{len(people)} files in {out}", soft_wrap=True)
            if json_file is not None:
                content = {"command": "patient sample", "seed": seed, "people": facts}
                json_file.write_text(json.dumps(plain(content), indent=1) + "\n", "utf-8")
        except OSError as error:
            allowed = f"a place to write to ({error.strerror})"
            raise InvalidInput("file", error.filename, allowed) from error


@patient_group.command("validate")
@click.option(
    "--people",
    type=click.IntRange(1, 4854),
    default=200,
    show_default=True,
    help="Sampled people in the trials; the twin is tried on a quarter of them.",
)
@seed_option
@click.option("--jobs", type=click.IntRange(1, 256), help="Processes; default: one per core.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("validation"),
    show_default=True,
    help="Folder for the picture.",
)
@json_option
def patient_validate(
    people: int, seed: int, jobs: int | None, out: Path, json_file: Path | None
) -> None:
    """Measure the virtual patients and show them beside published values.

    With 200 people this takes about a quarter of an hour on two cores.
    """
    from spinemat_bringup.validate import validate

    with plain_errors(), console.status("") as status:
        outcome = validate(people, seed, jobs, out, status.update)
    table = Table(title="Model beside published values", title_justify="left")
    for column in ("what", "model", "published", "source"):
        table.add_column(column)
    for row in outcome.details["table"]:
        table.add_row(*row.values())
    console.print(table)
    console.print(f"Pressure maps: {outcome.details['map_method']}.")
    console.print(f"Picture: {outcome.details['picture']}", soft_wrap=True)
    finish(outcome, json_file)
