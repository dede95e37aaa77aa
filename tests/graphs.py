"""A running graph of real processes, as the tests use it."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import rclpy
from rclpy.node import Node

from mats import MAT
from spinemat.layout import load_layout
from spinemat_bringup.client import MatClient, NoAnswer, Sent
from spinemat_bringup.graph import NAMESPACE, GraphOptions, describe
from spinemat_bringup.processes import Processes
from spinemat_interfaces.action import Press, RunSession
from spinemat_interfaces.msg import PlantTruth, SafetyState
from spinemat_ros.codec import doubles, uint16s
from spinemat_ros.topics import EVERY

LAYOUT = load_layout(MAT)
PAIR = [10, 11]  # r06_left, r06_right
RELEASED = 1.0  # N
DOWN = -0.008  # m
SETTLED = 25  # cycles down without a break: a dropped tip bounces once
STRIP = [0.0, 0.15, 0.3, 0.45]  # m, sensors of a posture strip
_GRAPHS = itertools.count()
N = TypeVar("N", bound=Node)


@contextmanager
def lone(kind: Callable[[], N], **parameters: Any) -> Iterator[N]:
    """A node in this process with parameters of its own; nothing is spun, nobody else is there."""
    words = [w for name, value in parameters.items() for w in ("-p", f"{name}:={value}")]
    rclpy.init(args=["--ros-args", "-r", f"__ns:={NAMESPACE}", *words])
    try:
        made = kind()
        try:
            yield made
        finally:
            made.destroy_node()
    finally:
        rclpy.try_shutdown()


def press_goal(**fields: Any) -> Press.Goal:
    """A press of a pair in the thorax; `fields` replace those of the goal."""
    values: dict[str, Any] = {
        "waveform": Press.Goal.RAISED_COSINE,
        "fingers": uint16s(PAIR),
        "preload": doubles([2.0, 2.0]),
        "amplitude": doubles([8.0, 8.0]),
        "rate": 0.5,
        "duration": 60.0,
        "approach_speed": 0.005,
    }
    return Press.Goal(**(values | fields))


def session_goal(**fields: Any) -> RunSession.Goal:
    values: dict[str, Any] = {
        "person_id": "p1",
        "sex": "male",
        "age": 41.0,
        "stature": 1.756,
        "mass": 81.9,
        "programme": "demo",
    }
    return RunSession.Goal(**(values | fields))


class Mat:
    """A running graph, a client of it, and the truth so far."""

    def __init__(self, client: MatClient, processes: Processes) -> None:
        self.client = client
        self.processes = processes
        self.truth: list[PlantTruth] = []
        self._down = 0
        client.listen("truth/state", self._on_truth, EVERY)
        client.wait(lambda: bool(self.truth), 30.0, "truth")

    def _on_truth(self, msg: PlantTruth) -> None:
        self.truth.append(msg)
        low = max(msg.position) < DOWN and max(msg.force) < RELEASED
        self._down = self._down + 1 if low else 0

    @property
    def force(self) -> np.ndarray:
        """True tissue force on every finger now, N."""
        return np.array(self.truth[-1].force)

    @property
    def height(self) -> np.ndarray:
        """True height of every finger now, m."""
        return np.array(self.truth[-1].position)

    def loaded(self, force: float = 5.0) -> bool:
        """Whether the pair truly carries `force`."""
        return bool((self.force[PAIR] > force).all())

    def cycles(self, count: int) -> None:
        """Let `count` drive cycles pass."""
        end = self.truth[-1].cycle + count
        self.client.wait(lambda: self.truth[-1].cycle > end, 30.0, "cycles")

    def retracted(self) -> None:
        """Wait until all fingers are truly released, down and at rest."""
        self.client.wait(lambda: self._down >= SETTLED, 30.0, "retraction")

    def press(
        self,
        wanted: Callable[[], bool] = lambda: True,
        feedback: Callable[[Any], None] = lambda _f: None,
        **fields: Any,
    ) -> Press.Result:
        """Press to the end, or until it is no longer wanted."""
        goal = press_goal(**fields)
        return self.client.act(Press, "fingers/press", goal, feedback, wanted)

    def begin(self, feedback: Callable[[Any], None] = lambda _f: None, **fields: Any) -> Sent:
        """Begin a press."""
        return self.client.send(Press, "fingers/press", press_goal(**fields), feedback)

    def stopped(self) -> None:
        """Wait until the supervisor has latched."""
        c = self.client
        c.wait(lambda: c.safety.state == SafetyState.STOPPED, 30.0, "STOPPED")

    def safe(self) -> None:
        """Come back to READY with all fingers down, whatever was before."""
        c = self.client
        c.wait(lambda: c.safety is not None, 30.0, "safety")
        if c.safety.state == SafetyState.STOPPED:
            self.retracted()
            c.wait(self._reset, 30.0, "reset")
        c.wait_ready()
        self.cycles(5)  # the controller knows some cycles later

    def _reset(self) -> bool:
        """Refused as long as a node that has to live has not been heard."""
        done = self.client.reset("test", "all fingers are down")[0]
        if not done:
            self.cycles(25)
        return done


@contextmanager
def own_domain() -> Iterator[None]:
    """A DDS domain of its own, so that nothing is left of the graph before."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(
            "ROS_DOMAIN_ID", str(1 + (int(os.environ["ROS_DOMAIN_ID"]) + next(_GRAPHS)) % 100)
        )
        yield


@contextmanager
def running(
    tmp_path: Path,
    namespace: str = NAMESPACE,
    broken: tuple[str, ...] = (),
    profile: str = "minimal",
) -> Iterator[Mat]:
    """Run a graph that starts anew; `profile` is what its recorder records."""
    others = {
        "mat_simulator": {"stiffness_truth": False},
        "spine_contour": {"posture_strip": STRIP},
    }
    nodes = [
        replace(spec, parameters=spec.parameters | others.get(spec.name, {}))
        for spec in describe(
            GraphOptions(
                MAT,
                broken=broken,
                sessions_dir=tmp_path / "sessions",
                state_dir=tmp_path,
                profile=profile,
            )
        )
    ]
    with (
        own_domain(),
        Processes(nodes, namespace, tmp_path / "log") as processes,
        MatClient(namespace) as c,
    ):
        try:
            c.bring_up(nodes)
            c.wait_ready()
        except NoAnswer:
            for name in processes.pids:  # pytest shows this with the failure
                print(name, "ended:", processes.dead().get(name), processes.last_words(name))
            raise
        yield Mat(c, processes)
