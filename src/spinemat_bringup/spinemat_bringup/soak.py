"""`spinemat bench soak`: session after session on the real graph; nothing stops, nothing grows."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spinemat_bringup.client import MatClient
from spinemat_bringup.demo import private_domain, watch_deaths
from spinemat_bringup.graph import NAMESPACE, GraphOptions, describe, share
from spinemat_bringup.outcome import Outcome
from spinemat_bringup.processes import Processes
from spinemat_interfaces.action import RunSession
from spinemat_interfaces.msg import SafetyState
from spinemat_sim.population import find_patient

EARLY, LATE = (0.2, 0.4), (0.8, 1.0)  # parts of the time whose memory is compared
GROWTH_LIMIT = 0.02
LOOK = 2.0  # s of wall time between two looks at memory


def _memory(pid: int) -> int:
    """Memory that a process has in use, bytes."""
    pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _last_of_each(group: NDArray[np.int_], values: list[int]) -> NDArray[np.int_]:
    """Last of the values in each group of neighbours."""
    ends = np.flatnonzero(np.diff(group, append=group[-1:] + 1))
    return np.array(values)[ends]


def soak(
    minutes: float, seed: int, say: Callable[[str], None], wanted: Callable[[], bool]
) -> Outcome:
    """Run sessions for so many minutes of drive time.

    Args:
        minutes: of drive time.
        seed: of person and plant.
        say: told of every session.
        wanted: false once the user asks to end.

    Raises:
        NodeDied, NoAnswer: the graph does not come up, or breaks.
    """
    started = time.monotonic()
    private_domain()
    patient = find_patient("", seed)
    goal = RunSession.Goal(
        sex=patient.sex,
        age=float(patient.age),
        stature=float(patient.stature),
        mass=float(patient.mass),
        programme="daily_5",
    )
    sessions, broken, stops = 0, 0, -1
    times: list[float] = []
    memory: dict[str, list[int]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        nodes = describe(
            GraphOptions(
                share("config", "mat.yaml"),
                seed=seed,
                sessions_dir=folder / "sessions",
                state_dir=folder,
            )
        )
        with Processes(nodes, NAMESPACE, folder / "log") as processes:
            with MatClient(NAMESPACE) as client:
                client.check = watch_deaths(processes)
                client.bring_up(nodes)
                client.wait_ready()

                def minute() -> float:
                    stamp = client.safety.header.stamp if client.safety else None
                    return stamp.sec / 60.0 if stamp else 0.0

                look = 0.0

                def on_safety(_msg: SafetyState) -> None:
                    nonlocal look
                    if time.monotonic() - look < LOOK:
                        return
                    look = time.monotonic()
                    times.append(minute())
                    for node, pid in processes.pids.items():
                        memory.setdefault(node, []).append(_memory(pid))

                client.listen("safety/state", on_safety)
                while minute() < minutes and wanted():
                    # the ledger lets nobody come twice in an hour
                    goal.person_id = f"p{sessions + broken + 1}"
                    result = client.run_session(goal, lambda _state: None, wanted)
                    sessions += result.success
                    broken += not result.success and wanted()
                    say(f"{minute():.1f} min: {result.message or 'completed'}")
                    if result.stops or not result.success:
                        break
                stops = client.safety.stops if client.safety else -1  # between sessions as well
    outcome = Outcome("bench soak", time.monotonic() - started)
    outcome.check("drive_minutes", times[-1] if times else 0.0, ">=", minutes)
    outcome.check("false_stops", stops, "==", 0)
    outcome.check("sessions", sessions, ">=", 1)
    outcome.check("sessions_not_completed", broken, "==", 0)
    at = np.array(times) / max(times[-1], 1e-9) if times else np.zeros(0)
    used: dict[str, dict[str, float]] = {}
    for node, values in memory.items():
        early, late = (
            float(np.median(np.array(values)[(at >= low) & (at <= high)]))
            for low, high in (EARLY, LATE)
        )
        used[node] = {
            "early_mb": 1e-6 * early,
            "late_mb": 1e-6 * late,
            "end_mb": 1e-6 * values[-1],
        }
        outcome.check(f"memory_growth_{node}", late / early - 1.0, "<=", GROWTH_LIMIT)
    minute_of = np.floor(times).astype(int)
    series = {
        node: [round(1e-6 * v, 1) for v in _last_of_each(minute_of, values)]
        for node, values in memory.items()
    }
    outcome.details = {"seed": seed, "memory": used, "mb_at_the_end_of_each_minute": series}
    return outcome
