"""What the commands of the command line share: options, errors, progress, exit status."""

from __future__ import annotations

import math
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from spinemat_bringup.graph import NAMESPACE, NO_RECORD, PROFILES
from spinemat_bringup.outcome import Outcome

PHASES = (
    "idle",
    "intake",
    "on the mat",
    "scan",
    "plan",
    "treat",
    "paused",
    "scan again",
    "report",
    "aborted",
)
TREAT = PHASES.index("treat")
BREATH = 10  # blocks of the bar that fills with a breath
CUE_FRESH = 0.5  # s of drive time; cues come ten times a second
SAFETY = ("STARTING", "READY", "MOVING", "STOPPED")

console = Console()

json_option = click.option(
    "--json",
    "json_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write figures and checks to this file.",
)
namespace_option = click.option(
    "--namespace", default=NAMESPACE, show_default=True, help="Namespace of the mat."
)
mat_option = click.option(
    "--mat",
    "mat_config",
    type=click.Path(path_type=Path),
    help="Description of the mat; default: the installed config/mat.yaml.",
)


def _whole_path(_context: click.Context, _option: click.Parameter, who: str) -> str:
    """Nodes may run elsewhere: the path of a file is made absolute."""
    return str(Path(who).resolve()) if Path(who).is_file() else who


patient_option = click.option(
    "--patient",
    default="",
    metavar="WHO",
    callback=_whole_path,
    help="Who lies on the simulated mat: a preset (`spinemat patient list`), a YAML file or a row"
    " of the body survey (0 to 4853).  [default: average_adult]",
)
seed_option = click.option(
    "--seed",
    type=click.IntRange(0, 2**31 - 1),
    default=0,
    show_default=True,
    help="Seed of the virtual person, the sensors and the drives.",
)
out_option = click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("sessions"),
    show_default=True,
    help="Folder in which each session gets one.",
)


def _whole_url(_context: click.Context, _option: click.Parameter, url: str) -> str:
    """Nodes may run elsewhere: the path of a file is made absolute, what is no URL refused."""
    if url in ("", "none"):
        return url
    from spinemat_session.record import StoreError
    from spinemat_session.record.opening import database_url

    try:
        found = database_url(url)
    except StoreError as error:
        raise click.BadParameter(str(error)) from error
    return url if "://" in url else str(found.database)


mat_database_option = click.option(
    "--database",
    default="",
    metavar="URL",
    callback=_whole_url,
    help="Database of all sessions: path of an SQLite file or postgresql://user@host/name, its"
    " password in ~/.pgpass; none: no database.  [default: spinemat.db in --out]",
)
programmes_option = click.option(
    "--programmes",
    type=click.Path(file_okay=False, path_type=Path, resolve_path=True),
    metavar="DIR",
    help="Folder with the programmes, one YAML file each; default: those that ship.",
)
record_option = click.option(
    "--record",
    type=click.Choice((*PROFILES, NO_RECORD)),
    default=PROFILES[0],
    show_default=True,
    help="What goes into the recording of a session; none: no recording, no report.",
)


def person_options(required: bool = True) -> Callable[[Any], Any]:
    """Return a decorator with the options for the measures of a body."""

    def decorated(function: Any) -> Any:
        for option in (
            click.option("--mass", type=float, required=required, help="kg, 35 to 165."),
            click.option("--stature", type=float, required=required, help="m, 1.50 to 1.98."),
            click.option("--age", type=float, required=required, help="years, 18 to 100."),
            click.option("--sex", type=click.Choice(("female", "male")), required=required),
        ):
            function = option(function)
        return function

    return decorated


class Interrupt:
    """Ctrl-C asks to end safely; a third one gives up waiting."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> Interrupt:
        """Take over SIGINT and SIGTERM."""
        self._before = {s: signal.signal(s, self._on) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1
        if self.count == 1:
            console.print("\nStopping: the fingers release and retract …")
        elif self.count > 2:
            raise KeyboardInterrupt

    def wanted(self) -> bool:
        """Whether nobody has asked to end."""
        return self.count == 0


@contextmanager
def input_errors() -> Iterator[None]:
    """Turn a value that is not acceptable into one clear line; for commands without a mat."""
    from spinemat.errors import InvalidInput

    try:
        yield
    except InvalidInput as error:
        raise click.ClickException(str(error)) from error


@contextmanager
def plain_errors() -> Iterator[None]:
    """Turn the errors that people can act on into one clear line."""
    from spinemat_bringup.client import NoAnswer
    from spinemat_bringup.demo import NodeDied

    with input_errors():
        try:
            yield
        except (NoAnswer, NodeDied) as error:
            raise click.ClickException(str(error)) from error


def tell(text: str) -> None:
    """Print a text of somebody else's as it is: no wrapping, and brackets are no mark-up."""
    console.print(text, soft_wrap=True, markup=False, highlight=False)


@contextmanager
def share_bar(words: str, total: float) -> Iterator[Callable[[float], None]]:
    """Show on a terminal how much of something is done; called with that, up to `total`."""
    columns = (TextColumn(words), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=total)
        yield lambda done: bar.update(task, completed=done)


class Cue:
    """What to do with the breath, for `session_bar`; empty once nobody has said it for a while.

    Words, a bar that fills with each breath, and the seconds until the words change.
    """

    def __init__(self) -> None:
        self._text, self._until = "", 0.0

    def heard(self, message: Any) -> None:
        """Take a message of `breathing/cue`."""
        done = int(BREATH * message.phase)
        bar = "█" * done + "░" * (BREATH - done)
        self._text = f"{message.text:<11} {bar} {math.ceil(message.next)} s"
        self._until = _seconds(message) + CUE_FRESH

    def __call__(self, state: Any) -> str:
        """What to do at the time of a message of `session/state`."""
        return self._text if _seconds(state) <= self._until else ""


def _seconds(message: Any) -> float:
    """Drive time of a message, s."""
    return float(message.header.stamp.sec + 1e-9 * message.header.stamp.nanosec)


@contextmanager
def session_bar(cue: Callable[[Any], str]) -> Iterator[Callable[[Any], None]]:
    """Show a session's progress: phase, bar, time left, where it presses, and lead the breath.

    Args:
        cue: says what to do with the breath at the time of a state; empty: nothing.
    """
    columns = (
        TextColumn("{task.fields[phase]:<11}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[left]}"),
        TextColumn("{task.fields[where]}"),
        TextColumn("[bold cyan]{task.fields[cue]}"),
        TextColumn("[dim]{task.fields[detail]}"),
    )
    interactive = console.is_terminal
    with Progress(*columns, console=console, disable=not interactive) as bar:
        task = bar.add_task("session", total=1.0, phase="", left="", detail="", where="", cue="")
        said = ""

        def show(state: Any) -> None:
            nonlocal said
            phase = PHASES[state.phase]
            left = f"{state.time_left / 60:.0f}:{state.time_left % 60:02.0f} left"
            treats = state.phase == TREAT
            bar.update(
                task,
                completed=state.progress,
                phase=phase,
                left=left,
                detail=state.detail,
                where=f"{state.level} {state.force:.0f} N" if treats and state.level else "",
                cue=cue(state) if treats else "",
            )
            line = f"{phase}{': ' if state.detail else ''}{state.detail}"
            if not interactive and line != said:
                said = line
                console.print(f"{100 * state.progress:3.0f} %  {line}")

        yield show


def finish(outcome: Outcome, json_file: Path | None, interrupted: bool = False) -> None:
    """Show and write the outcome, and exit: 0 only if all checks pass."""
    outcome.show(console)
    outcome.write(json_file)
    if interrupted:
        sys.exit(130)
    sys.exit(0 if outcome.passed else 1)


def simple(service: str, namespace: str) -> None:
    """Call a plain service of a mat that is up and exit with its answer."""
    from spinemat_bringup.client import MatClient

    with plain_errors(), MatClient(namespace) as client:
        say(*client.trigger(service))


def say(done: bool, message: str) -> None:
    """Print an answer and exit: 0 if it was done."""
    console.print(message, soft_wrap=True)
    sys.exit(0 if done else 1)
