"""`spinemat evaluate gated`: peaks of gated programmes beside the true breath, in the plant."""

from __future__ import annotations

import time
from functools import partial

from spinemat.layout import load_layout
from spinemat.session_programme import Mobilise, Programme, load_programmes
from spinemat_bringup.evaluate import eligible
from spinemat_bringup.graph import share
from spinemat_bringup.outcome import Outcome
from spinemat_bringup.processes import in_processes
from spinemat_sim.gated import Gated, press_gated
from spinemat_sim.volunteers import volunteers

EXPIRING = 0.9  # share of the peaks, at least


def gated(people: int, seed: int, sets: int, jobs: int | None) -> Outcome:
    """Press the gated sets of people who get the shipped gated programmes by turns.

    Args:
        people: drawn from the survey.
        seed: of people, sensors and drives.
        sets: of each gated phase at most.
        jobs: processes; None: one per core.
    """
    started = time.monotonic()
    layout = load_layout(share("config", "mat.yaml"))
    programmes = [
        p for p in load_programmes(share("config", "programmes")).values() if is_gated(p)
    ]
    who = volunteers(eligible(people, seed), seed)
    found: list[Gated] = in_processes(
        partial(press_gated, layout, sets=sets),
        (
            [programmes[i % len(programmes)] for i in range(people)],
            [v.patient for v in who],
            [v.record for v in who],
            range(seed, seed + people),
        ),
        jobs,
    )
    presses = sum(g.presses for g in found)
    pressing = sum(g.pressing for g in found)
    outcome = Outcome("evaluate gated", time.monotonic() - started)
    outcome.check("people_pressed", sum(g.presses > 0 for g in found), ">=", 1)
    expiring = sum(g.expiring for g in found) / max(presses, 1)
    outcome.check("peaks_in_expiration_share", expiring, ">=", EXPIRING)
    held = sum(g.held for g in found) / max(pressing, 1.0)
    outcome.check("static_hold_share", held, "==", 0.0)
    outcome.details = {
        "seed": seed,
        "sets": sets,
        "programmes": [p.name for p in programmes],
        "presses": presses,
        "falling_share": sum(g.falling for g in found) / max(presses, 1),
        "each": [g._asdict() for g in found],
    }
    return outcome


def is_gated(programme: Programme) -> bool:
    """Whether a programme has a gated phase."""
    phases = (p for p in programme.phases if isinstance(p, Mobilise))
    return any(phase.breathing == "gated" for phase in phases)
