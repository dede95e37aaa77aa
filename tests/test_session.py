"""The session orchestrator alone, in this process: nothing is spun, nobody else is there."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import rclpy

from graphs import session_goal
from mats import MAT
from planning import FOLDER
from spinemat_interfaces.msg import SessionState
from spinemat_session.node import SessionOrchestrator


@pytest.fixture
def node(tmp_path: Path) -> Iterator[SessionOrchestrator]:
    given = {"mat_config": MAT, "programmes": FOLDER, "sessions_dir": tmp_path / "sessions"}
    words = [w for name, value in given.items() for w in ("-p", f"{name}:={value}")]
    rclpy.init(args=["--ros-args", "-r", "__ns:=/mat", *words])
    made = SessionOrchestrator()
    try:
        yield made
    finally:
        made.destroy_node()
        rclpy.try_shutdown()


def begin(node: SessionOrchestrator, **fields: Any) -> list[SessionState]:
    """Begin a session; returns where all that it tells of itself from then on is found."""
    told: list[SessionState] = []

    def tell(feedback: Any) -> None:
        told.append(copy(feedback.state))

    goal = session_goal(**fields)
    node._goal = SimpleNamespace(request=goal, is_cancel_requested=False, publish_feedback=tell)
    node._begin(goal, *node._check(goal))
    return told


def test_a_session_of_a_trial_tells_no_arm(node: SessionOrchestrator) -> None:
    told = begin(node, programme="sham", allocation="sham")
    assert told and told[-1].phase == SessionState.INTAKE
    assert {(s.programme, s.detail) for s in told} == {("(trial)", "(trial)")}
    told = begin(node, programme="sham")
    assert told[-1].programme == "sham" and told[-1].detail == "Contact without dose"
