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
from std_srvs.srv import SetBool

from spinemat.drive import Stage
from spinemat.layout import MatLayout, load_layout
from spinemat_bringup.client import MatClient, NoAnswer, Sent
from spinemat_bringup.demo import private_domain
from spinemat_bringup.graph import NAMESPACE, GraphOptions, NodeSpec, describe, share
from spinemat_bringup.outcome import Outcome
from spinemat_bringup.processes import Processes
from spinemat_interfaces.action import Press
from spinemat_interfaces.msg import PlantTruth, SafetyState
from spinemat_ros.codec import doubles, uint16s
from spinemat_ros.topics import EVERY
from spinemat_sim.control_trials import PRELOAD, strongest
from spinemat_sim.population import find_patient

ROWS = ("r04", "r07", "r09", "r12")  # lumbar, thoracic twice, neck
RATE = 1.0  # Hz
MOMENT = (0.2, 1.2)  # turns of the rhythm between which the cause comes
DOWN = -0.008  # m: a tip below has retracted
SETTLED = 25  # cycles down without a break: springs drop a tip, and it bounces once by 2 mm
FREE = 1.0  # N: a finger under it has let go
FELT = 0.3  # N, true force at which a finger has touched
STRONG = 5.0  # N: below it a rate of unloading says little
WATCH = 100  # cycles with permit after a stop in which nothing may move
TIME_LIMIT = 5.0  # s of drive time: a stop that takes longer has failed
WALL_LIMIT = 60.0  # s of wall time: something hangs
REPEATS = 0.1  # share of runs for which press or graph may be begun again
CANCEL_LIMIT, STOP_LIMIT, UNLOAD_LIMIT = 0.5, 0.4, 0.1  # s
RATE_LIMIT = 400.0  # N/s


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


class Disturbed(RuntimeError):
    """The press ended before the cause came; the message says why."""


class Held(NoAnswer):
    """A stop did not release the fingers in time."""


class Bench:
    """A running mat with one press at a time on it, and the truth since the press was sent."""

    def __init__(
        self, client: MatClient, processes: Processes, nodes: Sequence[NodeSpec], mass: float
    ) -> None:
        self.client, self.processes = client, processes
        self.layout: MatLayout = load_layout(share("config", "mat.yaml"))
        self._controller = next(spec for spec in nodes if spec.name == "finger_actuation")
        self._mass = mass
        self._truth: list[PlantTruth] = []
        self._down = self._still = 0  # cycles for which all fingers have been down; under power
        client.listen("truth/state", self._on_truth, EVERY)
        rows = [row.name for row in self.layout.rows]
        first = [2 * rows.index(name) for name in ROWS]
        self._fingers = np.array([i + side for i in first for side in (0, 1)])
        self._goal = self._learn()

    # -- what the truth says ---------------------------------------------------------------

    @property
    def cycle(self) -> int:
        """Last cycle of which the truth is known."""
        return int(self._truth[-1].cycle)

    def _on_truth(self, msg: PlantTruth) -> None:
        self._truth.append(msg)
        low = max(msg.force) < FREE and max(msg.position) < DOWN
        self._down = self._down + 1 if low else 0
        self._still = self._still + 1 if low and msg.stage == Stage.RUNNING else 0

    def down(self) -> bool:
        """Whether all fingers are truly released and retracted, and at rest."""
        return self._down >= SETTLED

    def _released(self) -> None:
        """Wait for release and retraction, in drive time."""
        end = self.cycle + TIME_LIMIT / self.layout.cycle
        what = "release and retraction"
        try:
            self.client.wait(lambda: self.down() or self.cycle > end, WALL_LIMIT, what)
        except NoAnswer as error:
            raise Held(str(error)) from error
        if not self.down():
            raise Held(f"{what}: not within {TIME_LIMIT:g} s of drive time")

    def cycles(self, count: int) -> None:
        """Let `count` more cycles pass."""
        end = self.cycle + count
        self.client.wait(lambda: self.cycle >= end, WALL_LIMIT, "drive cycles")

    # -- the press -------------------------------------------------------------------------

    def _learn(self) -> Press.Goal:
        """Touch the back once, slowly, and return the strongest goal that knows where it is."""
        k = len(self._fingers)
        goal = Press.Goal(
            waveform=Press.Goal.CONTACT,
            fingers=uint16s(self._fingers),
            preload=doubles(np.full(k, PRELOAD)),
            amplitude=doubles(np.zeros(k)),
            rate=RATE,
            duration=0.1,
            mass=self._mass,
            approach_speed=0.005,
        )
        self.client.wait(lambda: bool(self._truth), WALL_LIMIT, "truth")
        self._prepare()
        result = self._press(goal)
        self.client.wait(lambda: result.done, WALL_LIMIT, "first contact")
        force = np.array([m.force for m in self._truth])[:, self._fingers]
        if not (force > FELT).any(axis=0).all():
            raise NoAnswer(f"first contact: {result.result.message or 'not with all fingers'}")
        height = np.array([m.position for m in self._truth])[:, self._fingers]
        goal.expected_contact = doubles(height[(force > FELT).argmax(axis=0), np.arange(k)])
        goal.waveform = Press.Goal.RAISED_COSINE
        goal.amplitude = doubles(strongest(self.layout, self._fingers, RATE, self._mass))
        goal.duration = 20.0
        goal.approach_speed = 0.03
        return goal

    def _press(self, goal: Press.Goal, feedback: Callable[..., None] = lambda _f: None) -> Sent:
        del self._truth[:-1]
        return self.client.send(Press, "fingers/press", goal, feedback)

    def _pressed(self, turns: float) -> Sent:
        """Press, and return when the rhythm has made `turns`."""
        moment: list[float] = []

        def feedback(f: Press.Feedback) -> None:
            if f.phase == Press.Feedback.RHYTHM and not moment:
                moment.append(f.cycle + (turns - f.turn) / (RATE * self.layout.cycle))

        sent = self._press(self._goal, feedback)
        self.client.wait(
            lambda: sent.done or (bool(moment) and self.cycle >= moment[0]), WALL_LIMIT, "press"
        )
        if sent.done:
            raise Disturbed(sent.result.message)
        return sent

    def run(self, path: StopPath, turns: float) -> Run:
        """One stop, and back to READY.

        Raises:
            Disturbed: the press ended by itself; the mat is READY again.
            Held: the fingers are not let go of.
            NoAnswer: the mat does not come back.
        """
        try:
            sent = self._pressed(turns)
        except Disturbed:
            self._prepare()
            raise
        since = self.cycle
        path.cause(self, sent)
        self._released()
        down = self.cycle
        path.mend(self)
        if path.stops:
            self.client.wait(self._stopped, WALL_LIMIT, "STOPPED")
        self._prepare()
        return self._judge(path, since, down)

    def _stopped(self) -> bool:
        s = self.client.safety
        return s is not None and s.state == SafetyState.STOPPED

    def _prepare(self) -> None:
        """Come back to where a goal is taken: every finger down and still for WATCH cycles.

        A busy machine may stop the mat again on the way; it is reset again.
        """
        message, end = "the fingers are not still", time.monotonic() + WALL_LIMIT
        while self._still < WATCH:
            if time.monotonic() > end:
                raise NoAnswer(f"back to READY: {message}")
            if self._stopped():
                _, message = self.client.reset("bench stops", "all fingers are down")
            self.cycles(10)

    def restart(self) -> None:
        """Bring the controller's process back."""
        self.processes.restart(self._controller.name)
        self.client.bring_up([self._controller])

    def lose(self, lost: bool) -> None:
        """Lose the drive's states on their way, or no more."""
        name = "mat_simulator/lose_drive_state"
        self.client.call(SetBool, name, SetBool.Request(data=lost), repeat=True)

    def _judge(self, path: StopPath, since: int, down: int) -> Run:
        dt = self.layout.cycle
        cycle = np.array([m.cycle for m in self._truth])
        if path.silence:
            late = np.array([m.late_cycles for m in self._truth])
            before = late[np.flatnonzero(cycle == since)[0]]
            # late_cycles tells of the cycle before; the last state was heard one earlier still
            since = max(since, int(cycle[late > before][0]) - 2)
        force = np.array([m.force for m in self._truth])
        after = cycle > since
        loaded = (force >= FREE).any(axis=1)
        free = int(cycle[after & loaded].max(initial=since)) + 1
        unload = largest = rate = math.nan
        if path.stops:
            stage = np.array([m.stage for m in self._truth])
            acts = int(np.flatnonzero(after & (stage != Stage.RUNNING))[0])
            begin = acts - 1  # the end of the cycle before is the moment at which the drive acts
            unload = (free - cycle[begin]) * dt
            finger = int(force[begin].argmax())
            largest = float(force[begin, finger])
            mine = force[begin:, finger]
            let_go = int(np.flatnonzero(mine < FREE)[0])  # cycles later
            part = (mine[let_go - 1] - FREE) / (mine[let_go - 1] - mine[let_go])
            rate = (largest - FREE) / ((let_go - 1 + part) * dt) if let_go else math.nan
        peak = np.array([m.peak_force for m in self._truth]) - self.layout.press_limit
        height = np.array([m.position for m in self._truth])
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
        lambda bench, _sent: bench.processes.kill("finger_actuation"), Bench.restart
    ),
    "process frozen": StopPath(
        lambda bench, _sent: bench.processes.freeze("finger_actuation"), _thaw
    ),
    "drive state lost": StopPath(
        lambda bench, _sent: bench.lose(True), lambda bench: bench.lose(False), silence=True
    ),
}


@contextmanager
def _bench(seed: int) -> Iterator[Bench]:
    """Start drive stage, supervisor and controller, no more."""
    private_domain()
    with tempfile.TemporaryDirectory() as folder:
        options = GraphOptions(
            share("config", "mat.yaml"), seed=seed, answer_wait=0.5, state_dir=Path(folder)
        )
        changed: dict[str, dict[str, Any]] = {
            "mat_simulator": {"stiffness_truth": False},
            "safety_supervisor": {"required_nodes": ["finger_actuation"]},
            "finger_actuation": {},
        }
        nodes = [
            replace(spec, parameters=dict(spec.parameters) | changed[spec.name])
            for spec in describe(options)
            if spec.name in changed
        ]
        with Processes(nodes, NAMESPACE, Path(folder) / "log") as processes:
            with MatClient(NAMESPACE) as client:
                client.bring_up(nodes)
                client.wait_ready()
                yield Bench(client, processes, nodes, find_patient("", seed).mass)


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
