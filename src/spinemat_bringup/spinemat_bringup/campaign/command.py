"""`spinemat faults`: every fault at its moments, and every rule switched off, as figures."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict

import numpy as np

from spinemat.rules import RULES
from spinemat_bringup.campaign.cases import FAULTS, STOP
from spinemat_bringup.campaign.fault import RELEASE_LIMIT, Fault
from spinemat_bringup.campaign.run import FORCE_MARGIN, GRAPHS, Campaign, Result
from spinemat_bringup.outcome import Outcome

QUICK = {  # fault -> moment: what continuous integration runs, beside the stops it tries
    "drive/state twice": "peak",
    "force NaN": "contact",
    "drive/command late": "rising",
    "controller runs away": "peak",
    "drive/permit replayed": "peak",
    "safety_supervisor frozen": "rising",
    "a second controller runs away": "peak",
    "forged permits, then a stop": "peak",
    "finger jammed": "approach",
    "disk full, then a stop": "peak",
    "parameters changed under way": "peak",
}


def _meant(fault: Fault, only: Sequence[str]) -> bool:
    return not only or any(words in fault.name for words in only)


def cases(quick: bool, only: Sequence[str]) -> list[tuple[Fault, str]]:
    """Return the cases of a run, those on the same graph together."""
    chosen = [
        (fault, moment)
        for fault in FAULTS
        for moment in fault.moments
        if _meant(fault, only) and (not quick or QUICK.get(fault.name) == moment)
    ]
    return sorted(chosen, key=lambda case: list(GRAPHS).index(case[0].graph))


def faults(
    quick: bool,
    only: Sequence[str],
    mutations: bool,
    seed: int,
    say: Callable[[str], None],
    wanted: Callable[[], bool],
) -> Outcome:
    """Run the campaign.

    Args:
        quick: only the cases of QUICK.
        only: words in the names of the faults to run; empty: all.
        mutations: run the own case of every rule again with the rule switched off.
        seed: of person and plant.
        say: takes a line per case.
        wanted: false once the user asks to end.
    """
    started = time.monotonic()
    outcome = Outcome("faults")
    campaign = Campaign(seed)
    found: list[Result] = []
    mutants: list[Result] = []
    try:
        for fault, moment in cases(quick, only):
            if wanted():
                found.append(campaign.run(fault, moment))
                say(_words(found[-1]))
        for fault in FAULTS if mutations else ():
            if fault.rule and _meant(fault, only) and wanted():
                mutants.append(campaign.run(fault, fault.moments[0], fault.rule))
                say(f"without '{fault.rule}': {_words(mutants[-1])}")
    finally:
        campaign.end()
    _checks(outcome, found, mutants, not (quick or only) and wanted())
    outcome.details = {
        "seed": seed,
        "each": [asdict(r) for r in found],
        "without_its_rule": [asdict(r) for r in mutants],
    }
    outcome.seconds = time.monotonic() - started
    return outcome


def markdown(outcome: Outcome) -> str:
    """Return the figures of every case as the tables of a document."""
    found, mutants = outcome.details["each"], outcome.details["without_its_rule"]
    lines = [
        "| fault | moment | first cause | fingers under 1 N after, s | force over trip limit | |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for r in found:
        release = "goes on" if np.isnan(r["release"]) else f"{r['release']:.3f}"
        verdict = "; ".join(r["failed"]) or "pass"
        cause = r["cause"] or "none"
        cells = (r["fault"], r["moment"], cause, release, f"{r['force']:.2f}", verdict)
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "| rule switched off | its own case | first cause then |", "| --- | --- | --- |"]
    for r in mutants:
        cause = "none" if r["cause"] in STOP else r["cause"]
        lines.append(f"| {r['without']} | {r['fault']}, {r['moment']} | {cause} |")
    return "\n".join(lines) + "\n"


def _words(r: Result) -> str:
    what = f"{r.fault} / {r.moment}: {r.cause or 'goes on'}"
    figures = f"{r.release:.3f} s, {r.force:.2f} of a trip limit, {r.wall_seconds:.0f} s"
    again = f", begun again: {'; '.join(r.begun_again)}" if r.begun_again else ""
    return f"{what}, {figures}{again}" + (f" FAILED: {'; '.join(r.failed)}" if r.failed else "")


def _checks(
    outcome: Outcome, found: Sequence[Result], mutants: Sequence[Result], whole: bool
) -> None:
    def worst(values: list[float]) -> float:
        known = [value for value in values if not np.isnan(value)]
        return max(known, default=np.nan)

    outcome.check("cases_failed", sum(bool(r.failed) for r in found), "==", 0)
    outcome.check(
        "worst_force_over_trip_limit", worst([r.force for r in found]), "<=", FORCE_MARGIN
    )
    release = [r.release for r in found if r.software]
    outcome.check("worst_release_of_a_software_fault_s", worst(release), "<=", RELEASE_LIMIT)
    if mutants:
        outcome.check("mutants_unnoticed", sum(bool(r.failed) for r in mutants), "==", 0)
    if whole:
        outcome.check("cases", len(found), ">=", 60)
        tried = {fault.rule for fault in FAULTS if fault.rule}
        missing = sorted({rule.name for rule in RULES} - tried)
        outcome.check("rules_without_a_case", ", ".join(missing), "==", "")
