"""The layout for Foxglove, which itself cannot be run here: its paths, looked up in messages."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from mats import ROOT
from spinemat.analysis import Bag

LIVE = {"/mat/markers", "/mat/robot_description"}  # of what shows a running mat: never recorded


def layout() -> Any:
    return json.loads((ROOT / "config/foxglove/spinemat.json").read_text(encoding="utf-8"))


def paths(node: Any) -> Iterator[str]:
    """Every topic, and path into a topic, of a part of the layout."""
    if isinstance(node, dict):
        for key, value in node.items():
            named = key in ("value", "topicPath", "topic", "jointStatesTopic")
            if named and isinstance(value, str) and value.startswith("/"):
                yield value
            elif key == "topics":
                yield from value
            else:
                yield from paths(value)
    elif isinstance(node, list):
        for value in node:
            yield from paths(value)


def split(path: str) -> tuple[str, list[tuple[str, str]]]:
    """A path's topic, and its steps: a field, or what stands in brackets."""
    topic, dot, rest = path.partition(".")
    return topic, re.findall(r"\.(\w+)|\[([^\]]*)\]", dot + rest)


def wrong_paths(bag: Bag, names: Iterator[str] | list[str]) -> list[str]:
    """Paths that lead to no number in the last message that the bag has of their topic."""
    last = {channel.name: (channel, raw) for channel, _, raw in bag.messages()}
    wrong = []
    for path in names:
        topic, steps = split(path)
        try:
            value = bag.decode(*last[topic])
            for field, index in steps:
                chosen = 0 if index == ":" else int(index or 0)
                value = getattr(value, field) if field else value[chosen]
            good = not steps or isinstance(value, (int, float, np.number, np.bool_))
        except (KeyError, AttributeError, IndexError, TypeError, ValueError):
            good = False
        if not good:
            wrong.append(path)
    return wrong
