"""`spinemat bench stops`: every way to a stop, judged by the simulator's truth in drive time.

Simulator and supervisor run on between the runs of a path; only a killed controller starts again.
Cycles of the truth are those of the drive: truth N is how cycle N ended, with what the drive did
in it.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from spinemat.drive import Stage
from spinemat_bringup.client import NoAnswer, Sent
from spinemat_bringup.graph import GraphOptions, NodeSpec, describe, share
from spinemat_bringup.outcome import Outcome
from spinemat_bringup.rig import DOWN, FREE, WALL_LIMIT, WATCH, Disturbed, Held, Rig, mat
from spinemat_interfaces.msg import DrivePermit
from spinemat_sim.population import find_patient

MOMENT = (0.2, 1.2)  # turns of the rhythm between which the cause comes
STRONG = 5.0  # N: below it a rate of unloading says little
REPEATS = 0.1  # share of runs for which press or graph may be begun again
CANCEL_LIMIT, STOP_LIMIT, UNLOAD_LIMIT = 0.5, 0.4, 0.1  # s
RATE_LIMIT = 400.0  # N/s
SERVICE_LIMIT = 1.5  # times a bare service call


class Run(NamedTuple):
    """One stop.

    Attributes:
        stop: from the cause to all fingers under 1 N, s. The cause's cycle is the last that the
            benchmark had heard of when it acted, so this is an upper bound; where drive states
            are lost, which begins later than it is asked for, the last that was sent.
        unload: from the moment at which the drive acts to all fingers under 1 N, s; NaN: it does
            not act on its own, the controller unloads.
        force: largest true force of any finger at that moment, N.
        rate: (that force - 1 N) over the time until that finger is under 1 N, interpolated
            between two cycles, N/s.
        over: largest true force over a press limit in the whole run, N.
        highest: highest tip after all were down, until the next goal, m.
        missed: cycles of which no truth arrived.
    """

    stop: float
    unload: float
    force: float
    rate: float
    over: float
    highest: float
    missed: int


class Bench(Rig):
    """A mat on which every way to a stop is gone."""

    def run(self, path: StopPath, turns: float) -> Run:
        """One stop, and back to READY.

        Raises:
            Disturbed: the press ended by itself; the mat is READY again.
            Held: the fingers are not let go of.
            NoAnswer: the mat does not come back.
        """
        try:
            sent = self.pressed(turns)
        except Disturbed:
            self.prepare()
            raise
        since = self.cycle
        path.cause(self, sent)
        self.released()
        down = self.cycle
        path.mend(self)
        if path.stops:
            self.client.wait(self.stopped, WALL_LIMIT, "STOPPED")
        self.prepare()
        return self._judge(path, since, down)

    def _judge(self, path: StopPath, since: int, down: int) -> Run:
        dt = self.layout.cycle
        cycle = np.array([m.cycle for m in self.truth])
        if path.silence:
            late = np.array([m.late_cycles for m in self.truth])
            before = late[np.flatnonzero(cycle == since)[0]]
            # late_cycles tells of the cycle before; the last state was heard one earlier still
            since = max(since, int(cycle[late > before][0]) - 2)
        force = np.array([m.force for m in self.truth])
        after = cycle > since
        loaded = (force >= FREE).any(axis=1)
        free = int(cycle[after & loaded].max(initial=since)) + 1
        unload = largest = rate = math.nan
        if path.stops:
            stage = np.array([m.stage for m in self.truth])
            acts = int(np.flatnonzero(after & (stage != Stage.RUNNING))[0])
            begin = acts - 1  # the end of the cycle before is the moment at which the drive acts
            unload = (free - cycle[begin]) * dt
            finger = int(force[begin].argmax())
            largest = float(force[begin, finger])
            mine = force[begin:, finger]
            let_go = int(np.flatnonzero(mine < FREE)[0])  # cycles later
            part = (mine[let_go - 1] - FREE) / (mine[let_go - 1] - mine[let_go])
            rate = (largest - FREE) / ((let_go - 1 + part) * dt) if let_go else math.nan
        peak = np.array([m.peak_force for m in self.truth]) - self.layout.press_limit
        height = np.array([m.position for m in self.truth])
        return Run(
            (free - since) * dt,
            float(unload),
            largest,
            float(rate),
            float(peak.max()),
            float(height[cycle >= down].max()),
            int(cycle[-1] - cycle[0] + 1 - len(cycle)),
        )


class StopPath(NamedTuple):
    """A way to a stop: what causes it, what is mended before the reset."""

    cause: Callable[[Bench, Sent], object]
    mend: Callable[[Bench], object] = lambda _bench: None
    stops: bool = True  # the drive lets go by itself and the supervisor latches
    limit: float = STOP_LIMIT  # s, from cause to release
    silence: bool = False  # it begins with the first cycle that nobody answers


def _thaw(bench: Bench) -> None:
    bench.processes.thaw("finger_actuation")
    bench.cycles(WATCH)


PATHS = {
    "cancel": StopPath(lambda _bench, sent: sent.cancel(), stops=False, limit=CANCEL_LIMIT),
    "permit withdrawn": StopPath(lambda bench, _sent: bench.client.trigger("stop")),
    "process killed": StopPath(
        lambda bench, _sent: bench.processes.kill("finger_actuation"),
        lambda bench: bench.restart("finger_actuation"),
    ),
    "process frozen": StopPath(
        lambda bench, _sent: bench.processes.freeze("finger_actuation"), _thaw
    ),
    "drive state lost": StopPath(
        lambda bench, _sent: bench.lose(True), lambda bench: bench.lose(False), silence=True
    ),
}


@contextmanager
def _bench(seed: int, *more: NodeSpec, real_time: bool = False) -> Iterator[Bench]:
    """Start drive stage, supervisor and controller, and no more but these."""
    with tempfile.TemporaryDirectory() as folder:
        options = GraphOptions(
            share("config", "mat.yaml"), seed=seed, answer_wait=0.5, state_dir=Path(folder)
        )
        changed: dict[str, dict[str, Any]] = {
            "mat_simulator": {"stiffness_truth": False, "real_time": real_time},
            "safety_supervisor": {"required_nodes": ["finger_actuation"]},
            "finger_actuation": {},
        }
        nodes = list(more)
        nodes += [
            replace(spec, parameters=dict(spec.parameters) | changed[spec.name])
            for spec in describe(options)
            if spec.name in changed
        ]
        with mat(nodes, Path(folder) / "log") as (client, processes):
            bench = Bench(client, processes, nodes, find_patient("", seed).mass)
            bench.learn()
            yield bench


def stops(
    runs: int,
    paths: Sequence[str],
    seed: int,
    say: Callable[[str], None],
    wanted: Callable[[], bool],
) -> Outcome:
    """Measure `runs` stops of each path.

    Args:
        runs: of each path.
        paths: names in PATHS; empty: all.
        seed: of the person, the plant and the moments.
        say: takes a line per path.
        wanted: false once the user asks to end; a path that is not complete is left out.

    Raises:
        Held: the fingers are not let go of.
        NoAnswer: presses or graphs had to be begun again too often.
    """
    started = time.monotonic()
    outcome = Outcome("bench stops", details={"runs": runs, "seed": seed, "paths": {}})
    for name in paths or PATHS:
        begun = time.monotonic()
        rng = np.random.default_rng([seed, list(PATHS).index(name)])
        found: list[Run] = []
        stuck: list[str] = []
        disturbed: list[str] = []
        while len(found) < runs and wanted():
            try:
                _measure(PATHS[name], runs, seed, rng, found, disturbed, wanted)
            except Held:
                raise
            except NoAnswer as error:  # let go of everything, but did not come back
                stuck.append(str(error))
            if len(stuck) + len(disturbed) > 1 + REPEATS * runs:
                raise NoAnswer(f"{name}: begun again too often: {[*stuck, *disturbed][-1]}")
        if len(found) < runs:
            break
        figures = _check(outcome, name, PATHS[name], found)
        outcome.details["paths"][name] = figures | {
            "graphs_stuck": stuck,
            "begun_again": disturbed,
            "wall_seconds": time.monotonic() - begun,
            "each": [r._asdict() for r in found],
        }
        say(
            f"{name}: {runs} runs, {time.monotonic() - begun:.0f} s; begun again:"
            f" {len(disturbed)} presses, {len(stuck)} graphs"
        )
    outcome.seconds = time.monotonic() - started
    return outcome


def _measure(
    path: StopPath,
    runs: int,
    seed: int,
    rng: np.random.Generator,
    found: list[Run],
    disturbed: list[str],
    wanted: Callable[[], bool],
) -> None:
    """Add runs on a graph of their own until there are `runs`, or too many were disturbed."""
    with _bench(seed) as bench:
        while len(found) < runs and len(disturbed) <= 1 + REPEATS * runs and wanted():
            try:
                found.append(bench.run(path, rng.uniform(*MOMENT)))
            except Disturbed as error:
                disturbed.append(str(error))


def _check(outcome: Outcome, name: str, path: StopPath, found: list[Run]) -> dict[str, float]:
    """Add the checks of one path and return its medians."""
    stop, unload, force, rate, over, highest, missed = np.array(found).T
    median = {"stop_median_s": float(np.median(stop)), "missed_cycles": float(missed.sum())}
    outcome.check(f"{name}: stop_median_s", median["stop_median_s"], "<=", path.limit)
    outcome.check(f"{name}: stop_worst_s", float(stop.max()), "<=", path.limit)
    if path.stops:
        strong = rate[force >= STRONG]
        median["unload_median_s"] = float(np.median(unload))
        median["unload_rate_median_n_per_s"] = float(np.median(strong)) if strong.size else np.nan
        slowest = float(strong.min()) if strong.size else np.nan
        outcome.check(f"{name}: unload_worst_s", float(unload.max()), "<=", UNLOAD_LIMIT)
        outcome.check(f"{name}: unload_rate_worst_n_per_s", slowest, ">=", RATE_LIMIT)
        median["runs_with_rate"] = float(strong.size)
    outcome.check(f"{name}: over_limit_n", max(float(over.max()), 0.0), "<=", 0.0)
    outcome.check(
        f"{name}: highest_tip_afterwards_mm", 1e3 * float(highest.max()), "<=", 1e3 * DOWN
    )
    return median


def stop_service(
    runs: int, seed: int, say: Callable[[str], None], wanted: Callable[[], bool]
) -> Outcome:
    """Measure how soon the stop service withdraws the permit, beside a bare service call.

    In real time, under a press: a bare call of a node that does nothing else, then `stop`, from
    the call until the withdrawn permit arrives here. The release is counted in drive time.

    Args:
        runs: stops.
        seed: of the person, the plant and the moments.
        say: told of runs that had to be begun again.
        wanted: false once the user asks to end.

    Raises:
        NoAnswer: a call is not answered, or the fingers are not let go of.
    """
    started = time.monotonic()
    rng = np.random.default_rng([seed, len(PATHS)])
    bare: list[float] = []
    withdrawn: list[float] = []
    release: list[float] = []
    echo = NodeSpec("service_echo", "spinemat_bringup", "service_echo")
    with _bench(seed, echo, real_time=True) as bench:
        refusals: list[float] = []

        def on_permit(permit: DrivePermit) -> None:
            if not permit.granted:
                refusals.append(time.perf_counter())

        bench.client.listen("drive/permit", on_permit)
        while len(release) < runs and wanted():
            try:
                bench.pressed(rng.uniform(*MOMENT))
            except Disturbed as error:
                say(f"begun again: {error}")
                bench.prepare()
                continue
            called = time.perf_counter()
            bench.client.trigger("echo")
            bare.append(time.perf_counter() - called)
            refusals.clear()
            since, called = bench.cycle, time.perf_counter()
            bench.client.trigger("stop")
            bench.client.wait(lambda: bool(refusals), WALL_LIMIT, "a withdrawn permit")
            withdrawn.append(refusals[0] - called)
            bench.released()
            loaded = [m.cycle for m in bench.truth if m.cycle > since and max(m.force) >= FREE]
            release.append((max(loaded, default=since) + 1 - since) * bench.layout.cycle)
            bench.prepare()
    outcome = Outcome("bench stop-service", time.monotonic() - started)
    over = float(np.median(withdrawn) / np.median(bare)) if bare else math.nan
    outcome.check("permit_withdrawn_over_bare_call", over, "<=", SERVICE_LIMIT)
    outcome.check("release_median_s", float(np.median(release)), "<=", STOP_LIMIT)
    outcome.check("release_worst_s", max(release, default=math.nan), "<=", STOP_LIMIT)
    outcome.details = {
        "runs": len(release),
        "seed": seed,
        "bare_call_median_us": 1e6 * float(np.median(bare)),
        "bare_call_worst_us": 1e6 * max(bare, default=math.nan),
        "permit_withdrawn_median_us": 1e6 * float(np.median(withdrawn)),
        "permit_withdrawn_worst_us": 1e6 * max(withdrawn, default=math.nan),
    }
    return outcome
