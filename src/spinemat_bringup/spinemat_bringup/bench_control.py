"""finger_actuation beside a bare echo of the same messages, both paced by the wall clock.

This process is the drive: it holds the plant and a real drive stage, which it grants permit and
hand. Each cycle's state goes to both nodes, to the second half a period after the first, so that
they do not compete for the processor; who comes first changes every `SWAP` cycles. As with real
drives nobody waits for an answer. finger_actuation's commands move the plant's fingers, the
echo's are only timed.
"""

from __future__ import annotations

import gc
import math
import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import rclpy
import yaml
from rclpy.action import ActionClient
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rclpy.task import Future

from spinemat.control import Array
from spinemat.drive import Category, DriveStage, Stage
from spinemat.layout import load_layout
from spinemat_bringup.client import MatClient, NoAnswer
from spinemat_bringup.demo import watch_deaths
from spinemat_bringup.graph import GraphOptions, NodeSpec, describe, share
from spinemat_bringup.processes import Processes
from spinemat_interfaces.action import Press
from spinemat_interfaces.msg import DriveCommand, DriveState
from spinemat_ros.codec import doubles, uint16s
from spinemat_ros.node import header, publisher, subscription
from spinemat_ros.spin import make_executor
from spinemat_sim.node import drive_state
from spinemat_sim.person import lie_down
from spinemat_sim.plant import Plant
from spinemat_sim.population import find_patient
from spinemat_sim.urdf import expand_urdf

NODE, ECHO = "finger_actuation", "drive_echo"
SWAP = 100  # cycles
START_WAIT = 90.0  # s of wall time from the first state to the rhythm …
ANSWER_WAIT = 0.2  # … and for each answer on the way
PRELOAD, AMPLITUDE, RHYTHM = 2.0, 3.0, 1.0  # N, N, Hz


@dataclass(frozen=True)
class Side:
    """What one node did while it was counted.

    Attributes:
        late: answers that did not come within one period.
        median_us, p99_us: round trip drive, node, drive of the answers that came, µs.
        cpu_s: processor time of the process, s.
    """

    late: int
    median_us: float
    p99_us: float
    cpu_s: float


@dataclass(frozen=True)
class Comparison:
    """The node and the echo, paced by the same drive.

    Attributes:
        rate: of the drive, Hz.
        cycles: counted.
        node, echo: what each did in them.
        in_rhythm: share of the cycles in which the fingers followed the rhythm.
        overruns: times that the drive itself was more than half a period behind.
        elsewhere: share of all processors' time that went into other processes.
        force_share: largest tissue force so far over the press limit of its finger.
    """

    rate: int
    cycles: int
    node: Side
    echo: Side
    in_rhythm: float
    overruns: int
    elsewhere: float
    force_share: float

    @property
    def late_share(self) -> float:
        """Share of late cycles beyond the echo's."""
        return (self.node.late - self.echo.late) / self.cycles

    @property
    def cpu(self) -> float:
        """Processor time over the echo's."""
        return self.node.cpu_s / self.echo.cpu_s

    @property
    def round_trip(self) -> float:
        """Median round trip over the echo's."""
        return self.node.median_us / self.echo.median_us


class _Link:
    """The drive's end of one namespace: states go out, commands come in, both are timed."""

    def __init__(self, space: str, heed: Callable[[DriveCommand], object]) -> None:
        self.node = Node("bench_drive", namespace=space)
        self._heed = heed
        self._states = publisher(self.node, "drive/state")
        self._sent: list[float] = []
        self.trips: list[float] = []  # s, one per cycle; infinite without an answer
        subscription(self.node, "drive/command", self._on_command)

    def send(self, msg: DriveState) -> None:
        self.trips.append(math.inf)
        self._sent.append(time.perf_counter())
        self._states.publish(msg)

    def _on_command(self, msg: DriveCommand) -> None:
        self.trips[msg.cycle - 1] = time.perf_counter() - self._sent[msg.cycle - 1]
        self._heed(msg)

    @property
    def answered(self) -> bool:
        """Whether the last state was answered."""
        return bool(self.trips) and math.isfinite(self.trips[-1])

    def side(self, cycles: int, period: float, cpu: float) -> Side:
        """Sum up the last `cycles`."""
        trips = np.array(self.trips[-cycles:])
        answered = trips[np.isfinite(trips)]
        median, p99 = np.percentile(answered, (50, 99)) if answered.size else (math.nan,) * 2
        late = int((trips > period).sum())
        return Side(late, 1e6 * float(median), 1e6 * float(p99), cpu)


class _Drive:
    """A drive stage with a person on it."""

    def __init__(self, mat: Path) -> None:
        self.layout = load_layout(mat)
        self.person = lie_down(find_patient(""))
        urdf = expand_urdf(share("urdf", "mat.urdf.xacro"), mat)
        self.plant = Plant(self.layout, self.person, urdf)
        self.stage = DriveStage(self.layout)
        self.cycle = 0
        self.force_share = 0.0

    def step(self, node: Node) -> DriveState:
        """Measure and move on by one cycle; return what was measured."""
        self.cycle += 1
        now = round(1e9 * self.cycle * self.layout.cycle)
        msg = drive_state(header(node, now), self.cycle, "bench", self.plant, self.stage)
        self.stage.hand(True)
        order = self.stage.step(self.cycle, self.plant.measure().position)
        self.plant.step(order.velocity, order.low, order.high)
        self.stage.permit(self.cycle, True, Category.RELEASE_AND_RETRACT, "bench")
        share = self.plant.truth().peak_force / self.layout.press_limit
        self.force_share = max(self.force_share, float(share.max()))
        return msg

    def heed(self, msg: DriveCommand) -> None:
        self.stage.command(msg.cycle, msg.velocity, msg.force_ceiling)


class _Rhythm:
    """A rhythm on all fingers, begun again whenever it has ended."""

    def __init__(self, node: Node, drive: _Drive) -> None:
        layout = drive.layout
        self._client = ActionClient(node, Press, "fingers/press")
        self._goal = Press.Goal(
            waveform=Press.Goal.RAISED_COSINE,
            fingers=uint16s(np.arange(layout.n)),
            preload=doubles(np.full(layout.n, PRELOAD)),
            amplitude=doubles(np.full(layout.n, AMPLITUDE)),
            phase=doubles(np.linspace(0.0, 2.0 * np.pi, layout.n)),
            rate=RHYTHM,
            duration=120.0,
            mass=drive.person.patient.mass,
            approach_speed=0.02,
            expected_contact=doubles(drive.plant.contour(layout.x)),
        )
        self._going = self.running = False
        self.message = ""

    def keep(self) -> None:
        """Begin if nothing goes on; the drive stage has to be running."""
        if not self._going and self._client.server_is_ready():
            self._going = True
            sent = self._client.send_goal_async(self._goal, feedback_callback=self._on_feedback)
            sent.add_done_callback(
                lambda f: f.result().get_result_async().add_done_callback(self._on_end)
            )

    def close(self) -> None:
        self._client.destroy()

    def _on_feedback(self, msg: Any) -> None:
        self.running = self._going and msg.feedback.phase == Press.Feedback.RHYTHM

    def _on_end(self, future: Future) -> None:
        self._going = self.running = False
        self.message = future.result().result.message


class _Pace:
    """The drive, turned at its own rate with both nodes listening."""

    def __init__(self, drive: _Drive, spaces: Sequence[str]) -> None:
        self.drive = drive
        self.node = _Link(spaces[0], drive.heed)
        self.echo = _Link(spaces[1], lambda _msg: None)
        self._executor = make_executor(self.node.node)
        self._executor.add_node(self.echo.node)
        self.rhythm = _Rhythm(self.node.node, drive)
        self.period = drive.layout.cycle
        self.overruns = 0
        self._order = [self.node, self.echo]
        self._deadline = time.perf_counter()

    def cycle(self) -> None:
        """Send one state to both nodes, half a period apart, and hear what comes back."""
        if self.drive.cycle % SWAP == 0:
            self._order.reverse()
            self._deadline += 0.5 * self.period
        msg = self.drive.step(self.node.node)
        for link in self._order:
            link.send(msg)
            self._deadline += 0.5 * self.period
            now = time.perf_counter()
            self.overruns += now > self._deadline
            self._deadline = max(self._deadline, now)
            self.turn(self._deadline)
        if self.drive.stage.stage is Stage.RUNNING:
            self.rhythm.keep()

    def hear(self) -> None:
        """Wait until the node has answered the last state, but not for long."""
        end = time.perf_counter() + ANSWER_WAIT
        while not self.node.answered and (left := end - time.perf_counter()) > 0.0:
            self._executor.spin_once(timeout_sec=left)

    def turn(self, until: float) -> None:
        while (left := until - time.perf_counter()) > 0.0:
            self._executor.spin_once(timeout_sec=left)

    def close(self) -> None:
        self._executor.shutdown()
        self.rhythm.close()
        for link in (self.node, self.echo):
            link.node.destroy_node()


def beside_echo(rate: int, seconds: float) -> Comparison:
    """Run finger_actuation and the echo beside each other for `seconds` of a rhythm.

    Raises:
        NodeDied, NoAnswer: a node ends, or the fingers do not come to press.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="spinemat-bench-")))
        mat = folder / "mat.yaml"
        config = yaml.safe_load(share("config", "mat.yaml").read_text(encoding="utf-8"))
        mat.write_text(yaml.safe_dump(config | {"cycle": 1.0 / rate}), encoding="utf-8")
        node = next(spec for spec in describe(GraphOptions(mat)) if spec.name == NODE)
        specs = (node, NodeSpec(ECHO, "spinemat_bringup", "drive_echo"))
        spaces = [f"/bench_{os.getpid()}/{spec.name}" for spec in specs]
        drive = _Drive(mat)
        running = [
            stack.enter_context(Processes([spec], space, folder))
            for spec, space in zip(specs, spaces, strict=True)
        ]
        checks = [watch_deaths(processes) for processes in running]

        def check() -> None:
            for each in checks:
                each()

        with MatClient(spaces[0]) as client:
            client.check = check
            client.bring_up([node])
        rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
        stack.callback(rclpy.try_shutdown)
        pace = _Pace(drive, spaces)
        stack.callback(pace.close)
        gc.collect()
        gc.freeze()  # as in every node
        stack.callback(gc.unfreeze)
        pids = [pid for processes in running for pid in processes.pids.values()]
        return _compare(pace, pids, seconds, check)


def _compare(
    pace: _Pace, pids: Sequence[int], seconds: float, check: Callable[[], None]
) -> Comparison:
    """Count cycles for `seconds`, from the begin of the rhythm on."""

    def times() -> Array:
        used = [_processor_time(pid) for pid in (*pids, os.getpid())]
        return np.array([*used, _all_processors(), time.monotonic()])

    latest = time.monotonic() + START_WAIT
    while not (pace.rhythm.running and pace.echo.answered):
        pace.cycle()
        pace.hear()  # nothing is measured yet: a slow machine may take its time
        check()
        if time.monotonic() > latest:
            raise NoAnswer(f"no rhythm within {START_WAIT:g} s: {pace.rhythm.message}")
    cycles, in_rhythm, pace.overruns = round(seconds / pace.period), 0, 0
    before = times()
    for _ in range(cycles):
        pace.cycle()
        in_rhythm += pace.rhythm.running
    node_cpu, echo_cpu, own_cpu, busy, elapsed = (times() - before).tolist()
    pace.turn(time.perf_counter() + pace.period)
    check()
    return Comparison(
        rate=round(1.0 / pace.period),
        cycles=cycles,
        node=pace.node.side(cycles, pace.period, node_cpu),
        echo=pace.echo.side(cycles, pace.period, echo_cpu),
        in_rhythm=in_rhythm / cycles,
        overruns=pace.overruns,
        elsewhere=(busy - node_cpu - echo_cpu - own_cpu) / (elapsed * (os.cpu_count() or 1)),
        force_share=pace.drive.force_share,
    )


def _processor_time(pid: int) -> float:
    """User and system time of a process so far, s."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _all_processors() -> float:
    """Time that all processors have worked so far, s."""
    line = Path("/proc/stat").read_text(encoding="utf-8").partition("\n")[0]
    user, nice, system, _idle, _wait, *interrupts = (int(field) for field in line.split()[1:9])
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")
