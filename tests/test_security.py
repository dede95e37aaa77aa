"""The policy for installations with SROS 2 is what the nodes need, and nothing more."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rclpy.action import (
    get_action_client_names_and_types_by_node,
    get_action_server_names_and_types_by_node,
)
from rclpy.node import Node, NodeNameNonExistentError

from graphs import Mat, running
from mats import MAT, ROOT
from spinemat_bringup.graph import MARKERS, NAMESPACE, GraphOptions, describe
from spinemat_bringup.processes import command

pytestmark = pytest.mark.graph

POLICY = ROOT / "config/sros2/mat.policy.xml"
Rights = dict[str, set[str]]
WAYS: dict[str, Callable[[Node, str], Any]] = {
    "topics publish": lambda n, name: n.get_publisher_names_and_types_by_node(name, NAMESPACE),
    "topics subscribe": lambda n, name: n.get_subscriber_names_and_types_by_node(name, NAMESPACE),
    "services reply": lambda n, name: n.get_service_names_and_types_by_node(name, NAMESPACE),
    "services request": lambda n, name: n.get_client_names_and_types_by_node(name, NAMESPACE),
    "actions execute": lambda n, name: get_action_server_names_and_types_by_node(
        n, name, NAMESPACE
    ),
    "actions call": lambda n, name: get_action_client_names_and_types_by_node(n, name, NAMESPACE),
}


def needed(node: Node, name: str) -> Rights:
    """What a running node uses."""
    used = {
        way: {used for used, _ in ask(node, name) if "/_action/" not in used}
        for way, ask in WAYS.items()
    }
    return {way: names for way, names in used.items() if names}


def allowed() -> dict[str, Rights]:
    """What the policy allows each node, names in full."""
    nodes: dict[str, Rights] = {}
    for enclave in ET.parse(POLICY).getroot().iter("enclave"):
        for profile in enclave.iter("profile"):
            ns, node = profile.attrib["ns"], profile.attrib["node"]
            assert enclave.attrib["path"] == f"{ns}/{node}"
            rights = nodes.setdefault(node, {})
            for entry in profile:
                ((way, rule),) = entry.attrib.items()
                assert rule == "ALLOW"
                names = {
                    text if text.startswith("/") else f"{ns}/{text.replace('~', node)}"
                    for text in (item.text or "" for item in entry)
                }
                if way == "subscribe":
                    names.discard(f"{ns}/clock")  # for use_sim_time alone, which is not set here
                rights.setdefault(f"{entry.tag} {way}", set()).update(names)
    return nodes


@pytest.fixture(scope="module")
def mat(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mat]:
    with running(tmp_path_factory.mktemp("security"), profile="all") as mat:
        mat.processes.add(replace(MARKERS, parameters={"mat_config": str(MAT)}))
        c = mat.client
        c.wait(lambda: c.count_publishers("markers") > 0, 60.0, "mat_markers")
        yield mat


def test_every_node_may_do_what_it_does_and_no_more(mat: Mat) -> None:
    policy = allowed()
    observer = mat.client._node
    nodes = [spec.name for spec in [*describe(GraphOptions(MAT)), MARKERS]]
    for name in nodes:
        found: Rights = {}

        def complete(name: str = name, found: Rights = found) -> bool:
            found.clear()
            with suppress(NodeNameNonExistentError):  # its endpoints may be known before it is
                found.update(needed(observer, name))
            return found == policy.get(name)

        try:
            mat.client.wait(complete, 10.0, name)  # discovery takes its time
        except Exception:
            assert found == policy.get(name), name
    assert policy.keys() == {*nodes, "spinemat_command_line"}


def test_nodes_are_started_in_the_enclaves_of_the_policy() -> None:
    paths = {e.attrib["path"] for e in ET.parse(POLICY).getroot().iter("enclave")}
    for spec in describe(GraphOptions(Path("mat.yaml"))):
        line = command(spec, NAMESPACE)
        assert line[line.index("--enclave") + 1] in paths
