"""Malformed goals, requests and reports reach a real session node: it refuses and lives on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graphs import own_domain
from mats import MAT
from people import HEALTHY
from spinemat_bringup.client import MatClient
from spinemat_bringup.graph import NAMESPACE, GraphOptions, describe
from spinemat_bringup.processes import Processes
from spinemat_interfaces.action import RunSession
from spinemat_interfaces.msg import ComfortReport
from spinemat_interfaces.srv import Adjust, ConfirmPlan

pytestmark = [pytest.mark.graph, pytest.mark.fuzz]

NODE = "session_orchestrator"
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)
NUMBER = st.floats(width=64)
LIKELY = st.sampled_from(["", "male", "demo", "p1", "L4", "lumbar", "C8", "../../etc", "'; --"])


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[MatClient, Processes]]:
    """A session node without the rest of the mat."""
    folder = tmp_path_factory.mktemp("alone")
    nodes = [
        spec
        for spec in describe(GraphOptions(MAT, sessions_dir=folder / "sessions"))
        if spec.name == NODE
    ]
    with own_domain(), Processes(nodes, NAMESPACE, folder / "log") as processes:
        with MatClient(NAMESPACE) as client:
            client.wait(lambda: client.session is not None, 60.0, NODE)
            yield client, processes


def person(draw: st.DrawFn) -> str:
    """The text of a healthy person's record in which something is missing, odd or cut off."""
    data: dict[str, Any] = json.loads(json.dumps(HEALTHY))
    junk = st.one_of(NUMBER, TEXT, st.none(), st.lists(TEXT, max_size=3), st.just(10**400))
    for key in draw(st.lists(st.sampled_from(sorted(data)), max_size=3)):
        if isinstance(data[key], dict) and draw(st.booleans()):
            data[key][draw(st.sampled_from(sorted(data[key])))] = draw(junk)
        elif draw(st.booleans()):
            data[key] = draw(junk)
        else:
            data.pop(key, None)
            break
    text = json.dumps(data)
    return text[: draw(st.integers(0, len(text)))] if draw(st.booleans()) else text


@st.composite
def goals(draw: st.DrawFn) -> RunSession.Goal:
    word = st.one_of(LIKELY, TEXT)
    return RunSession.Goal(
        person=person(draw) if draw(st.booleans()) else draw(TEXT),
        person_id=draw(word), sex=draw(word), age=draw(NUMBER), stature=draw(NUMBER),
        mass=draw(NUMBER), confirm=draw(st.booleans()), override_by=draw(word),
        override_reason=draw(word), programme="no such programme",
    )  # fmt: skip


def refused_in_words(message: str) -> None:
    assert " is not allowed; allowed: " in message, message
    assert message.split(": ")[0] and "\n" not in message, message


@settings(suppress_health_check=list(HealthCheck))
@given(goals())
def test_a_malformed_goal_is_refused_with_field_value_and_range(
    alone: tuple[MatClient, Processes], goal: RunSession.Goal
) -> None:
    client, processes = alone
    result = client.run_session(goal, lambda _state: None, lambda: True)
    assert not result.success and not result.folder
    refused_in_words(result.message)
    assert not processes.dead(), processes.last_words(NODE)


@settings(suppress_health_check=list(HealthCheck))
@given(st.tuples(NUMBER, NUMBER, st.lists(TEXT | LIKELY, max_size=3), TEXT, NUMBER))
def test_malformed_requests_are_refused(
    alone: tuple[MatClient, Processes], asked: tuple[float, float, list[str], str, float]
) -> None:
    client, processes = alone
    strength, rate, places, who, factor = asked
    answer = client.call(
        Adjust, "adjust", Adjust.Request(strength=strength, rate=rate, regions=places)
    )
    assert not answer.success
    refused_in_words(answer.message)
    request = ConfirmPlan.Request(accept=True, by=who, reason=who, levels=places)
    request.factors = [factor]
    answer = client.call(ConfirmPlan, "confirm_plan", request)
    assert not answer.success
    refused_in_words(answer.message)
    assert not processes.dead(), processes.last_words(NODE)


@settings(suppress_health_check=list(HealthCheck))
@given(st.integers(0, 255), TEXT | LIKELY, TEXT)
def test_malformed_reports_of_pain_are_refused_with_an_event(
    alone: tuple[MatClient, Processes], pain: int, place: str, words: str
) -> None:
    client, processes = alone
    report = client.publisher("comfort")
    client.wait(lambda: report.get_subscription_count() > 0, 20.0, NODE)
    known = len(client.events)
    report.publish(ComfortReport(pain=pain, place=place, words=words))
    client.wait(lambda: len(client.events) > known, 20.0, "an event")
    event = client.events[-1]
    assert event.kind in ("refused", "comfort")
    if event.kind == "refused":
        refused_in_words(event.text.split(": ", 1)[1])
    else:
        assert pain <= 10
    client.withdraw(report)
    assert not processes.dead(), processes.last_words(NODE)
