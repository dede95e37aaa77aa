"""`spinemat demo`: a session of a virtual person on the simulated mat, judged by the truth."""

from __future__ import annotations

import math
import os
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from spinemat.anatomy import check_intake
from spinemat.errors import InvalidInput
from spinemat.layout import MatLayout, load_layout
from spinemat.session_programme import checked_programmes
from spinemat_bringup.client import MatClient
from spinemat_bringup.graph import NAMESPACE, NO_RECORD, GraphOptions, NodeSpec, describe, share
from spinemat_bringup.outcome import Outcome
from spinemat_bringup.processes import Processes
from spinemat_interfaces.action import RunSession
from spinemat_interfaces.msg import BreathingCue, SessionState
from spinemat_sim.patient import Patient
from spinemat_sim.population import find_patient

START_CYCLE = 1000  # first press at this drive cycle, so that runs with one seed are equal
READY_WAIT = 120.0  # s of wall time for the nodes to come up

# first figures to reach
CONTOUR_LIMIT_MM = 3.0
STIFFNESS_LIMIT_PCT = 20.0
SETUP_LIMIT_S = 240.0
SESSION_LIMIT_S = 240.0


@dataclass(frozen=True)
class DemoOptions:
    """What the command line asks for."""

    patient: str = ""
    seed: int = 0
    programme: str = "demo"
    mat_config: Path | None = None
    out: Path = Path("sessions")
    real_time: bool = False
    record: str = "all"  # profile of the recording, or NO_RECORD
    database: str = ""  # as in `GraphOptions`
    programmes: Path | None = None


class NodeDied(RuntimeError):
    """A node of the graph ended by itself; the message says which and its last words."""


def private_domain() -> None:
    """Use a DDS domain of our own unless the user chose one, so that no other mat is disturbed."""
    os.environ.setdefault("ROS_DOMAIN_ID", str(random.SystemRandom().randint(1, 100)))
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    os.environ.setdefault("ROS_PYTHON_CHECK_FIELDS", "1")


def watch_deaths(processes: Processes) -> Callable[[], None]:
    """Return a check that raises when a node of the graph has ended."""

    def check() -> None:
        for name, words in processes.dead().items():
            raise NodeDied(f"{name} ended: {words} (log: {processes.log_dir}/{name}.log)")

    return check


def run_demo(
    options: DemoOptions,
    console: Console,
    progress: Callable[[SessionState], None],
    wanted: Callable[[], bool],
    cue: Callable[[BreathingCue], None] = lambda _cue: None,
) -> Outcome:
    """Start the graph, run one session, judge it and write its report.

    Args:
        options: what to run.
        console: where to say what happens.
        progress: called with every feedback of the session.
        wanted: false once the user asks to end.
        cue: called with every message that leads the breath.

    Raises:
        InvalidInput: the mat, the person or the programme is not acceptable; nothing starts.
        NodeDied, NoAnswer: the graph does not come up or breaks.
    """
    started = time.monotonic()
    mat = options.mat_config or share("config", "mat.yaml")
    layout = load_layout(mat)
    folder = options.programmes or share("config", "programmes")
    programmes = checked_programmes(folder, layout)
    if options.programme not in programmes:
        raise InvalidInput("programme", options.programme, ", ".join(programmes))
    patient = find_patient(options.patient, options.seed)
    check_intake(patient.sex, patient.age, patient.stature, patient.mass)
    private_domain()
    out = options.out.resolve()
    run_dir = out / f".run-{os.getpid()}"
    nodes = describe(
        GraphOptions(
            mat_config=mat,
            real_time=options.real_time,
            patient=options.patient,
            seed=options.seed,
            sessions_dir=out,
            state_dir=run_dir,
            record=options.record != NO_RECORD,
            profile=options.record if options.record != NO_RECORD else "all",
            database=options.database,
            programmes=options.programmes,
        )
    )
    console.print(
        f"On the mat: {patient.name}: {patient.sex}, {patient.age:.0f} years,"
        f" {100 * patient.stature:.0f} cm, {patient.mass:.0f} kg. Starting {len(nodes)} nodes."
    )
    with Processes(nodes, NAMESPACE, run_dir / "log") as processes:
        with MatClient(NAMESPACE) as client:
            client.check = watch_deaths(processes)
            client.bring_up(nodes, READY_WAIT)
            client.wait_ready(READY_WAIT)
            client.listen("breathing/cue", cue)
            console.print("The mat is ready; the session begins.")
            begun = time.monotonic()
            result = client.run_session(_goal(patient, options.programme), progress, wanted)
            if "STARTING" in result.message:  # a busy machine: the drive stage had just let go
                client.wait_ready(READY_WAIT)
                result = client.run_session(_goal(patient, options.programme), progress, wanted)
            wall = time.monotonic() - begun
            recorded = bool(result.folder) and options.record != NO_RECORD
            if recorded:
                client.wait_recorded(result.folder)
    outcome = _judge(result, layout, nodes, wall, options.record)
    outcome.details["person"] = _who(patient, options.seed)
    outcome.seconds = time.monotonic() - started
    if result.folder:
        folder = Path(result.folder)
        (run_dir / "log").rename(folder / "log")
        _clean(run_dir)
        if recorded:
            _report(outcome, folder, layout, patient, options)
    outcome.seconds = time.monotonic() - started
    return outcome


def _clean(run_dir: Path) -> None:
    for path in run_dir.iterdir():
        path.unlink()
    run_dir.rmdir()


def _goal(patient: Patient, programme: str) -> RunSession.Goal:
    return RunSession.Goal(
        person_id=_synthetic_id(patient),
        sex=patient.sex,
        age=float(patient.age),
        stature=patient.stature,
        mass=patient.mass,
        programme=programme,
        start_cycle=START_CYCLE,
    )


def _synthetic_id(patient: Patient) -> str:
    return re.sub(r"[^a-z0-9]+", "_", patient.name.lower()).strip("_") or "patient"


def _who(patient: Patient, seed: int) -> dict[str, Any]:
    return {
        "id": _synthetic_id(patient),
        "sentence": patient.sentence,
        "survey_row": patient.row,
        "seed": seed,
        "sex": patient.sex,
        "age": patient.age,
        "stature": patient.stature,
        "mass": patient.mass,
    }


def _judge(
    result: RunSession.Result, layout: MatLayout, nodes: list[NodeSpec], wall: float, record: str
) -> Outcome:
    """Judge the session from its record; the nodes are asked only whether it completed.

    A record that does not hold everything is judged by what it holds.
    """
    from spinemat_recording.evaluation import evaluate  # what comes after the session is
    from spinemat_recording.session_record import read_session  # imported then

    outcome = Outcome("demo")
    d = outcome.details
    d |= {
        "completed": bool(result.success),
        "message": result.message,
        "session_id": result.session_id,
        "folder": result.folder,
        "wall_seconds": wall,
        "setup_seconds": float(os.environ.get("SPINEMAT_SETUP_SECONDS", "nan")),
        "nodes": [spec.name for spec in nodes],
        "fingers": layout.n,
        "report": "",
    }
    if result.folder and record != NO_RECORD:
        d |= evaluate(read_session(Path(result.folder)), layout)
    d["real_time_factor"] = d.get("sim_seconds", float("nan")) / wall if wall > 0.0 else 0.0
    outcome.check("completed", d["completed"], "==", True)
    outcome.check("stops", d.get("stops", result.stops), "==", 0)
    for name, relation, limit in (
        ("contour_rmse_mm", "<=", CONTOUR_LIMIT_MM),
        ("stiffness_error_pct", "<=", STIFFNESS_LIMIT_PCT),
        ("peak_tissue_force_n", "<=", d.get("force_limit_n", 0.0)),
        ("press_excess_n", "<=", 0.0),
        ("static_holds", "==", 0),
        ("sim_seconds", "<=", SESSION_LIMIT_S),
        ("real_time_factor", ">=", 1.0),
    ):
        if record == "all" or math.isfinite(d.get(name, math.nan)):
            outcome.check(name, d.get(name), relation, limit)
    outcome.check("setup_seconds", d["setup_seconds"], "<=", SETUP_LIMIT_S)
    return outcome


def _report(
    outcome: Outcome,
    folder: Path,
    layout: MatLayout,
    patient: Patient,
    options: DemoOptions,
) -> None:
    from spinemat_bringup.pictures import report_extras
    from spinemat_bringup.reporting import PICTURE, report_after_run
    from spinemat_session.keeping import database_of
    from spinemat_sim.person import lie_down

    mat = options.mat_config or share("config", "mat.yaml")
    xacro = share("urdf", "mat.urdf.xacro")
    extra = report_extras(layout, mat, xacro, lie_down(patient), options.seed, folder / PICTURE)
    outcome.details["load_correlation"] = extra["pressure"]["correlation"]
    if "picture_missing" in extra:
        outcome.details["picture_missing"] = extra.pop("picture_missing")
    extra |= {"checks": outcome.as_dict()["checks"], "simulated": True}
    who = _who(patient, options.seed)
    database = database_of(str(folder.parent), options.database)
    outcome.details["report"] = str(report_after_run(folder, layout, who, extra, database))
