"""`spinemat bag …`: recordings: look, play, run again, tables, reports."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from spinemat.errors import InvalidInput
from spinemat_bringup.cli_common import (
    Interrupt,
    console,
    input_errors,
    json_option,
    mat_option,
    share_bar,
    tell,
)
from spinemat_bringup.outcome import plain

if TYPE_CHECKING:
    import pandas as pd

    from spinemat.analysis import Bag

COPY = ".copy"  # in a bag that `bag report` made: it may be made anew
path_argument = click.argument("path", type=click.Path(path_type=Path))


@click.group("bag")
def bag_group() -> None:
    """Recordings of sessions: look at them, play them, take them into tables.

    PATH is a session's folder, a rosbag2 folder or an .mcap file. A recording that was cut short
    is read as far as it goes.
    """


@contextmanager
def opened(path: Path) -> Iterator[Bag]:
    """Open a bag; what cannot be read, and what went wrong on the way, are one line each."""
    from spinemat.analysis import Bag, BagError

    with input_errors():
        try:
            bag = Bag(path)
            yield bag
        except BagError as error:
            raise click.ClickException(str(error)) from error
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            raise click.ClickException(f"{where}{error.strerror or error}") from error
    for problem in bag.problems:
        click.echo(f"Note: {problem}", err=True)


@bag_group.command("info")
@path_argument
@json_option
def bag_info(path: Path, json_file: Path | None) -> None:
    """What is in a recording, about whom, and whether it is whole."""
    from spinemat.analysis.bags import about_json

    with opened(path) as bag:
        counts, seconds, about = bag.counts, bag.seconds, dict(bag.about)
        for _ in bag.messages():  # a damaged block is found only by reading it
            pass
        person = about_json(bag, "person") or {}
        facts = {
            "bag": str(bag.path),
            "files": len(bag.files),
            "size": f"{bag.size / 1e6:.1f} MB",
            "recorded": about.get("recorded", "not known"),
            "length": f"{seconds:.1f} s of drive time",
            "messages": sum(counts.values()),
            "whole": "yes" if bag.closed and not bag.problems else "no",
            "software": about.get("software", "not known"),
            "profile": about.get("profile", "not known"),
            "person": ", ".join(f"{k} {v}" for k, v in person.items() if not isinstance(v, dict))
            or "not known",
            "patient seed": about.get("seed", "not known"),
        }
        types = {name: channel.type for name, channel in bag.topics.items()}
        problems = list(bag.problems)
    grid = Table.grid(padding=(0, 2))
    for key, value in facts.items():
        grid.add_row(key, str(value))
    console.print(grid, markup=False)
    table = Table("topic", "type")
    table.add_column("messages", justify="right")
    table.add_column("Hz", justify="right")
    for name, kind in types.items():
        rate = f"{counts[name] / seconds:.1f}" if seconds > 0.0 else ""
        table.add_row(name, kind, str(counts[name]), rate)
    console.print(table)
    if json_file is not None:
        content = facts | {"about": about, "counts": counts, "types": types, "problems": problems}
        _write_json(json_file, content | {"seconds": seconds})


@bag_group.command("export")
@path_argument
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the tables.  [default: PATH with _tables]",
)
@click.option(
    "--format", "file_format", type=click.Choice(("parquet", "csv")), default="parquet",
    show_default=True,
)  # fmt: skip
@click.option("--topic", "topics", multiple=True, help="Only this topic; may be repeated.")
def bag_export(path: Path, out: Path | None, file_format: str, topics: tuple[str, ...]) -> None:
    """Write every topic as tidy tables, units in the names of the columns."""
    from spinemat.analysis import export

    with opened(path) as bag, share_bar("tables", 1.0) as show:
        _known_topics(bag, topics)
        folder = out or _beside(path, "_tables")
        files = export(bag, folder, file_format, topics or None, show)
    rows = sum(files.values())
    tell(f"{len(files)} tables with {rows} rows: {folder}")


@bag_group.command("report")
@path_argument
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the report.  [default: the session's folder, else PATH with _report]",
)
@mat_option
def bag_report(path: Path, out: Path | None, mat_config: Path | None) -> None:
    """Write the report of a session from its recording alone."""
    from spinemat.analysis import layout_of
    from spinemat.analysis.bags import about_json
    from spinemat_recording.mending import mend
    from spinemat_recording.record import RecordError
    from spinemat_recording.report import write_report

    with opened(path) as bag:
        layout = layout_of(bag, mat_config)
        folder = out or bag.session
        whole = bag.session is not None and bag.path.name == "bag" and bag.closed
        if folder is None or out is not None or not whole:
            folder = out or _beside(path, "_report")
            _room_for_a_copy(bag, folder / "bag")
            mend(bag, folder / "bag")
            (folder / "bag" / COPY).touch()
        person = about_json(bag, "person") or {}
        extra = {"software": f"SpineMat {bag.about.get('software', '')}".strip()}
        if "recorded" in bag.about:
            extra["date"] = datetime.fromisoformat(bag.about["recorded"]).strftime(
                "%Y-%m-%d %H:%M"
            )
        try:
            page = write_report(folder, layout, person, extra)
        except RecordError as error:
            raise click.ClickException(str(error)) from error
    tell(f"Report: {page}")


@bag_group.command("compare")
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@json_option
def bag_compare(a: Path, b: Path, json_file: Path | None) -> None:
    """Two recordings beside each other: figures, and the stiffness of every level."""
    from spinemat.analysis import compare, compare_levels

    with opened(a) as one, opened(b) as other:
        found, levels = compare(one, other), compare_levels(one, other)
    _show(found.reset_index(), ("figure", "a", "b", "difference"))
    if levels.empty:
        console.print("No stiffness to compare: one of them has no valid map.")
    else:
        view = levels.reset_index()
        _show(view, tuple(view.columns))
    if json_file is not None:
        content = {"figures": found.to_dict("index"), "levels": levels.to_dict("index")}
        _write_json(json_file, content)


@bag_group.command("analyse")
@click.argument("places", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--jobs", type=click.IntRange(1, 256), help="Processes; default: one per core.")
@click.option("--address", metavar="URL", help="Dask scheduler, such as tcp://host:8786.")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the table to this file: .parquet or .csv.",
)
def bag_analyse(
    places: tuple[Path, ...], jobs: int | None, address: str | None, out: Path | None
) -> None:
    """One row of figures for every recording in PLACES, over all cores or a cluster."""
    from spinemat.analysis import BagError, analyse, find_bags

    if out is not None and out.suffix not in (".parquet", ".csv"):
        raise click.ClickException(f"--out: {str(out)!r} is not allowed; allowed: .parquet, .csv")
    try:
        bags = find_bags(places)
    except BagError as error:
        raise click.ClickException(str(error)) from error
    if not bags:
        raise click.ClickException(f"{places[0]}: there is no recording in this folder")
    columns = (TextColumn("recordings"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=len(bags))
        try:
            rows = analyse(
                bags,
                address=address,
                jobs=jobs,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
        except (OSError, ValueError) as error:
            raise click.ClickException(f"--address: {address!r}: {error}") from error
    bad = rows[rows["error"] != ""]
    good = rows[rows["error"] == ""]
    if len(good):
        wanted = ("bag", "person_id", "programme", "seconds_s", "peak_force_n", "stops",
                  "trunk_stiffness_before_n_per_m", "trunk_stiffness_after_n_per_m")  # fmt: skip
        view = good.assign(bag=[Path(b).name for b in good["bag"]])
        _show(view, wanted)
    for text in bad["error"]:
        click.echo(f"Note: {text}", err=True)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        if out.suffix == ".csv":
            rows.to_csv(out, index=False)
        else:
            rows.to_parquet(out, index=False)
        tell(f"{len(rows)} rows: {out}")
    sys.exit(0 if len(good) else 1)


@bag_group.command("rerun")
@path_argument
@click.option(
    "--only", type=click.Choice(("estimators", "safety")), help="Only this part.  [default: both]"
)
@mat_option
@json_option
def bag_rerun(
    path: Path, only: str | None, mat_config: Path | None, json_file: Path | None
) -> None:
    """Run the estimators and the safety rules again, and compare with what was recorded.

    Exit status 0 only if all that was compared is equal to the last digit.
    """
    from spinemat.analysis import layout_of, rerun
    from spinemat.analysis.rerun import WHAT

    with opened(path) as bag, console.status("estimators and rules run again"):
        found = rerun(bag, layout_of(bag, mat_config), (only,) if only else WHAT)
    table = Table("results of")
    for name in ("compared", "equal", "not recorded", "did not come again"):
        table.add_column(name, justify="right")
    table.add_column("largest difference")
    for topic, c in found.comparisons.items():
        worst = ", ".join(f"{name} {gap:.3g}" for name, gap in c.largest.items())
        equal = c.compared - c.differing
        counts = (c.compared, equal, c.unmatched, c.missing)
        table.add_row(topic, *map(str, counts), worst or "none")
    console.print(table)
    for c in found.comparisons.values():
        for example in c.examples:
            tell(f"  {example}")
    for note in found.notes:
        tell(f"Note: {note}")
    for part, seconds in found.seconds.items():
        tell(f"{part}: {seconds:.2f} s, {found.speed(part):.1f} times real time")
    tell("equal to the last digit" if found.equal else "NOT equal")
    if json_file is not None:
        _write_json(
            json_file,
            {
                "equal": found.equal,
                "seconds": found.seconds,
                "bag_seconds": found.bag_seconds,
                "comparisons": {name: vars(c) for name, c in found.comparisons.items()},
                "notes": found.notes,
            },
        )
    sys.exit(0 if found.equal else 1)


@bag_group.command("play")
@path_argument
@click.option("--rate", type=float, default=1.0, show_default=True, help="Of real time.")
@click.option("--loop", is_flag=True, help="Begin again at the end, until Ctrl-C.")
@click.option("--start", type=float, default=0.0, show_default=True, help="s from the beginning.")
@click.option("--topic", "topics", multiple=True, help="Only this topic; may be repeated.")
@click.option("--clock", is_flag=True, help="Publish the mat's clock as well.")
@click.option(
    "--clock-topic", metavar="NAME",
    help="Publish the clock under this name, such as /clock.  [default: NAMESPACE/clock]",
)  # fmt: skip
@click.option("--namespace", default="", help="Of the topics.  [default: as recorded]")
def bag_play(
    path: Path,
    rate: float,
    loop: bool,
    start: float,
    topics: tuple[str, ...],
    clock: bool,
    clock_topic: str | None,
    namespace: str,
) -> None:
    """Publish a recording again; refused beside a mat that is up under the same namespace."""
    from spinemat_recording.play import Busy, PlayOptions, play

    options = PlayOptions(
        rate, loop, start, topics, clock or clock_topic is not None, clock_topic or "", namespace
    )
    with opened(path) as bag, _Ending() as interrupt, share_bar("playing", bag.seconds) as show:
        try:
            sent = play(bag, options, interrupt.wanted, show)
        except Busy as error:
            raise click.ClickException(str(error)) from error
    tell(f"{sent} messages published")
    if not interrupt.wanted():
        sys.exit(130)


@bag_group.command("mend")
@path_argument
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Write the whole bag here.  [default: in its place; the old one becomes *.cut]",
)
def bag_mend(path: Path, out: Path | None) -> None:
    """Make a whole recording of one that was cut short, for tools that need one."""
    from spinemat_recording.mending import mend

    with opened(path) as bag:
        if bag.closed and out is None:
            tell(f"{bag.path} is whole: nothing to do")
            return
        place, messages = mend(bag, out)
    tell(f"{messages} messages: {place}")


# ---- what the commands share -------------------------------------------------------------


class _Ending(Interrupt):
    def _on(self, _number: int, _frame: Any) -> None:
        self.count += 1
        if self.count > 2:
            raise KeyboardInterrupt


def _known_topics(bag: Bag, topics: tuple[str, ...]) -> None:
    from spinemat.errors import choice

    for topic in topics:
        choice("topic", topic, [bag.relative(name) for name in bag.topics])


def _room_for_a_copy(bag: Bag, place: Path) -> None:
    """Delete the copy that an earlier report made of a recording; nothing else is ever deleted.

    Raises:
        InvalidInput: there is something else, or the recording that is to be copied.
    """
    source = bag.path.resolve()
    if place.resolve() in (source, *source.parents):
        raise InvalidInput("out", str(place.parent), "a folder that is not the recording's own")
    if (place / COPY).is_file():
        shutil.rmtree(place)
    elif place.exists():
        raise InvalidInput("out", str(place.parent), f"a folder without a {place.name!r} in it")


def _beside(path: Path, ending: str) -> Path:
    path = path.resolve()
    return path.with_name((path.stem if path.is_file() else path.name) + ending)


def _show(frame: pd.DataFrame, columns: tuple[str, ...]) -> None:
    table = Table()
    for name in columns:
        number = name in frame and frame[name].dtype.kind in "fiu"
        table.add_column(name, justify="right" if number else "left", overflow="fold")
    for row in frame.to_dict("records"):
        table.add_row(*(_cell(row.get(name, "")) for name in columns))
    console.print(table)


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and value != value):
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    import json

    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(plain(content), indent=1) + "\n", encoding="utf-8")
