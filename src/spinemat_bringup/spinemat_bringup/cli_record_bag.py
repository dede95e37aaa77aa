"""`spinemat record bag`: a mat that is up, whether a session runs or not."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import click

from spinemat_bringup.cli_common import mat_option, namespace_option, tell
from spinemat_bringup.graph import PROFILES, share

FIND_TIME = 5.0  # s in which a running node is found


@click.command("bag")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the recording; it gets a bag.  [default: recordings/<date and time>]",
)
@click.option("--profile", type=click.Choice(PROFILES), default=PROFILES[0], show_default=True)
@click.option(
    "--seconds",
    type=click.FloatRange(0.1),
    help="End by itself so long after the mat's supervisor was heard.",
)
@mat_option
@namespace_option
def record_bag(
    out: Path | None,
    profile: str,
    seconds: float | None,
    mat_config: Path | None,
    namespace: str,
) -> None:
    """Record a mat that is up until Ctrl-C, whether a session runs or not.

    Sessions are recorded without this, each into its own folder. The mat's recorder, if one runs,
    is asked what the graph was started with; it is kept in the bag.
    """
    import time

    from spinemat_recording.node import Recorder, map_large_blocks
    from spinemat_ros.spin import run

    folder = out or Path("recordings") / datetime.now().strftime("%Y%m%d-%H%M%S")
    mat = mat_config or share("config", "mat.yaml")
    arguments = ["--ros-args", "-r", f"__ns:={namespace}", "-r", "__node:=bag_recorder"]
    about = _started_with(namespace)
    given = {"folder": folder.resolve(), "profile": profile, "mat_config": mat, "about": about}
    for key, value in given.items():
        quoted = str(value).replace("'", "''")  # as YAML has it
        arguments += ["-p", f"{key}:='{quoted}'"]
    said: list[str] = []

    def loop(node: Any, executor: Any, stopper: Any) -> None:
        tell(f"Recording {namespace} into {folder}; Ctrl-C ends.")
        began = time.monotonic()
        while not stopper and not node.heard and time.monotonic() < began + FIND_TIME:
            executor.spin_once(timeout_sec=0.1)
        end = time.monotonic() + seconds if seconds is not None else float("inf")
        while not stopper and time.monotonic() < end:
            executor.spin_once(timeout_sec=0.1)
        node.close()
        said.append(node.summary)

    map_large_blocks()
    run(Recorder, arguments, loop)
    tell(said[0] if said else "nothing was recorded")


def _started_with(namespace: str) -> str:
    """What the mat's own recorder was told of the graph; empty where none is found."""
    from spinemat_bringup.client import MatClient, NoAnswer

    with MatClient(namespace) as client:
        try:
            client.wait(lambda: client.knows("recorder"), FIND_TIME, "recorder")
            return str(client.parameter("recorder", "about") or "")
        except NoAnswer:
            tell(f"No recorder answers in {namespace}: the bag will not tell the parameters.")
            return ""
