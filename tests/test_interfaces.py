"""docs/interfaces.md says what the nodes have, and the nodes have what the graph gives them."""

from __future__ import annotations

import os
import re
from dataclasses import replace

import pytest

from mats import MAT, ROOT
from spinemat_bringup import interfaces
from spinemat_bringup.graph import DRIVE_STAGES, MARKERS, GraphOptions, describe
from spinemat_ros.topics import TOPICS

LAUNCHING = (ROOT / "src/spinemat_bringup/spinemat_bringup/launching.py").read_text()
PAGE = ROOT / "docs/interfaces.md"


@pytest.fixture(scope="module")
def offers() -> list[interfaces.Offer]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROS_DOMAIN_ID", str(1 + (int(os.environ["ROS_DOMAIN_ID"]) + 50) % 100))
        return interfaces.offers()


def test_the_page_is_what_the_code_says(offers: list[interfaces.Offer]) -> None:
    assert PAGE.read_text(encoding="utf-8") == interfaces.page(offers), (
        "run: python -m spinemat_bringup.interfaces > docs/interfaces.md"
    )


def test_every_topic_in_use_is_in_the_table_with_its_type(offers: list[interfaces.Offer]) -> None:
    used = {**{k: v for o in offers for k, v in {**o.publishes, **o.subscribes}.items()}}
    assert used.keys() == TOPICS.keys()
    for name, kind in used.items():
        table = TOPICS[name].type
        assert kind == f"{table.__module__.split('.')[0]}/msg/{table.__name__}"
        assert TOPICS[name].rate, name


def test_the_page_names_what_the_launch_files_start_of_others() -> None:
    rows = {line.split("|")[1].strip(" `"): line for line in PAGE.read_text().splitlines()
            if line.startswith("| `")}  # fmt: skip
    for helper in interfaces.helpers():
        assert helper.name in rows
        assert f'"{helper.name}"' in LAUNCHING, "the launch files start it by this name"
        for name, kind in helper.publishes.items():
            assert f"`{helper.name}`" in rows[name], name
            if name in TOPICS:
                table = TOPICS[name].type
                assert kind == f"{table.__module__.split('.')[0]}/msg/{table.__name__}"
            else:
                assert name in interfaces.FOREIGN
    for name in TOPICS:
        if not TOPICS[name].recorded or name == "drive/hand_input":
            sender, receiver = rows[name].split("|")[5:7]
            assert sender.strip() and receiver.strip(), name


def test_the_graph_gives_only_parameters_that_nodes_have(offers: list[interfaces.Offer]) -> None:
    known = {offer.name: offer for offer in offers}
    for sim in (*DRIVE_STAGES, "none"):
        for spec in describe(GraphOptions(MAT, sim=sim)):
            assert spec.parameters.keys() <= known[spec.name].parameters.keys()
            assert spec.lifecycle == known[spec.name].managed
    marked = replace(MARKERS, parameters={"mat_config": str(MAT)})
    assert marked.parameters.keys() <= known[MARKERS.name].parameters.keys()


def test_every_parameter_and_field_is_explained(offers: list[interfaces.Offer]) -> None:
    for offer in offers:
        for name, parameter in offer.parameters.items():
            assert parameter.descriptor.description, f"{offer.name}: {name}"
    rows = re.findall(r"^\| `(\w+)` \| `[^`]*float64[^`]*` \| (.*) \|$", PAGE.read_text(), re.M)
    assert len(rows) > 100
    unexplained = [name for name, meaning in rows if not meaning]
    assert not unexplained
