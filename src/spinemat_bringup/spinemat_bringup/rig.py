"""A running mat to try things on: one strong press at a time, and the truth since it was sent."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from std_srvs.srv import SetBool

from spinemat.drive import Stage
from spinemat.layout import MatLayout, load_layout
from spinemat_bringup.client import MatClient, NoAnswer, Sent
from spinemat_bringup.demo import private_domain
from spinemat_bringup.graph import NAMESPACE, NodeSpec, share
from spinemat_bringup.processes import Processes
from spinemat_interfaces.action import Press
from spinemat_interfaces.msg import PlantTruth, SafetyState
from spinemat_ros.codec import doubles, uint16s
from spinemat_ros.topics import EVERY
from spinemat_sim.control_trials import PRELOAD, strongest

ROWS = ("r04", "r07", "r09", "r12")  # lumbar, thoracic twice, neck
RATE = 1.0  # Hz
DOWN = -0.008  # m: a tip below has retracted
SETTLED = 25  # cycles down without a break: springs drop a tip, and it bounces once by 2 mm
FREE = 1.0  # N: a finger under it has let go
FELT = 0.3  # N, true force at which a finger has touched
WATCH = 100  # cycles with permit after a stop in which nothing may move
TIME_LIMIT = 5.0  # s of drive time: a stop that takes longer has failed
WALL_LIMIT = 60.0  # s of wall time: something hangs
MOMENT_LIMIT = 240.0  # s of wall time until a moment comes: a session scans first


class Disturbed(RuntimeError):
    """The press ended before the cause came; the message says why."""


class Missed(Disturbed):
    """The cause came after the moment that it was meant for: nothing can be said of it."""


class Held(NoAnswer):
    """A stop did not release the fingers in time."""


class Rig:
    """A running mat, its client, and the truth since the last press was sent."""

    def __init__(
        self, client: MatClient, processes: Processes, nodes: Sequence[NodeSpec], mass: float
    ) -> None:
        self.client, self.processes, self.nodes, self.mass = client, processes, nodes, mass
        self.layout: MatLayout = load_layout(share("config", "mat.yaml"))
        self.truth: list[PlantTruth] = []
        self._down = self._still = 0  # cycles for which all fingers have been down; under power
        client.listen("truth/state", self._on_truth, EVERY)
        rows = [row.name for row in self.layout.rows]
        first = [2 * rows.index(name) for name in ROWS]
        self.fingers = np.array([i + side for i in first for side in (0, 1)])
        self.client.wait(lambda: bool(self.truth), WALL_LIMIT, "truth")
        self.goal = Press.Goal()

    @property
    def cycle(self) -> int:
        """Last cycle of which the truth is known."""
        return int(self.truth[-1].cycle)

    def _on_truth(self, msg: PlantTruth) -> None:
        self.truth.append(msg)
        low = max(msg.force) < FREE and max(msg.position) < DOWN
        self._down = self._down + 1 if low else 0
        self._still = self._still + 1 if low and msg.stage == Stage.RUNNING else 0

    def down(self) -> bool:
        """Whether all fingers are truly released and retracted, and at rest."""
        return self._down >= SETTLED

    def released(self) -> None:
        """Wait for release and retraction, in drive time.

        Raises:
            Held: it does not happen.
        """
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

    def learn(self) -> None:
        """Touch the back once, slowly; from then on `goal` is the strongest that is allowed.

        Raises:
            NoAnswer: not all fingers touched.
        """
        k = len(self.fingers)
        goal = Press.Goal(
            waveform=Press.Goal.CONTACT,
            fingers=uint16s(self.fingers),
            preload=doubles(np.full(k, PRELOAD)),
            amplitude=doubles(np.zeros(k)),
            rate=RATE,
            duration=0.1,
            mass=self.mass,
            approach_speed=0.005,
        )
        self.prepare()
        self.goal = goal
        result = self.press()
        self.client.wait(lambda: result.done, WALL_LIMIT, "first contact")
        force = np.array([m.force for m in self.truth])[:, self.fingers]
        if not (force > FELT).any(axis=0).all():
            raise NoAnswer(f"first contact: {result.result.message or 'not with all fingers'}")
        height = np.array([m.position for m in self.truth])[:, self.fingers]
        goal.expected_contact = doubles(height[(force > FELT).argmax(axis=0), np.arange(k)])
        goal.waveform = Press.Goal.RAISED_COSINE
        goal.amplitude = doubles(strongest(self.layout, self.fingers, RATE, self.mass))
        goal.duration = 20.0
        goal.approach_speed = 0.03

    def press(self, feedback: Callable[..., None] = lambda _f: None) -> Sent:
        """Send the goal; the truth is kept from now on."""
        del self.truth[:-1]
        return self.client.send(Press, "fingers/press", self.goal, feedback)

    def pressed(self, turns: float) -> Sent:
        """Press, and return when the rhythm has made `turns`.

        Raises:
            Disturbed: the press ended before.
        """
        moment: list[float] = []

        def feedback(f: Press.Feedback) -> None:
            if f.phase == Press.Feedback.RHYTHM and not moment:
                moment.append(f.cycle + (turns - f.turn) / (RATE * self.layout.cycle))

        sent = self.press(feedback)
        self.until(sent, lambda: bool(moment) and self.cycle >= moment[0])
        return sent

    def until(self, sent: Sent, moment: Callable[[], bool]) -> None:
        """Wait for a moment of what was sent.

        Raises:
            Disturbed: it ended before.
        """
        self.client.wait(lambda: sent.done or moment(), MOMENT_LIMIT, "the moment")
        if sent.done:
            raise Disturbed(sent.result.message)

    def stopped(self) -> bool:
        """Whether the supervisor has latched."""
        s = self.client.safety
        return s is not None and s.state == SafetyState.STOPPED

    def prepare(self) -> None:
        """Come back to where a goal is taken: every finger down and still for WATCH cycles.

        A busy machine may stop the mat again on the way; it is reset again.

        Raises:
            NoAnswer: the mat does not come back.
        """
        message, end = "the fingers are not still", time.monotonic() + WALL_LIMIT
        while self._still < WATCH:
            if time.monotonic() > end:
                raise NoAnswer(f"back to READY: {message}")
            if self.stopped():
                _, message = self.client.reset("trial", "all fingers are down")
            self.cycles(10)

    def set(self, node: str, name: str, value: Any) -> None:
        """Set a parameter.

        Raises:
            NoAnswer: it is refused.
        """
        taken, why = self.client.set_parameter(node, name, value)
        if not taken:
            raise NoAnswer(f"{node} refuses {name} = {value}: {why}")

    def restart(self, name: str) -> None:
        """Bring a node back that has ended."""
        self.processes.restart(name)
        self.client.bring_up([spec for spec in self.nodes if spec.name == name])

    def lose(self, lost: bool) -> None:
        """Lose the drive's states on their way, or no more."""
        name = "mat_simulator/lose_drive_state"
        self.client.call(SetBool, name, SetBool.Request(data=lost), repeat=True)


@contextmanager
def mat(nodes: Sequence[NodeSpec], log_dir: Path) -> Iterator[tuple[MatClient, Processes]]:
    """Start a graph of its own, and wait until the supervisor grants permission."""
    private_domain()
    with Processes(nodes, NAMESPACE, log_dir) as processes, MatClient(NAMESPACE) as client:
        client.bring_up(nodes)
        client.wait_ready()
        yield client, processes
