"""`spinemat bench control` on the real nodes; how fast they are is no matter of a test."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spinemat_bringup import bench

pytestmark = pytest.mark.graph


def figures(details: Mapping[str, Any]) -> Iterator[float]:
    for value in details.values():
        if isinstance(value, Mapping):
            yield from figures(value)
        else:
            yield value


def processes(word: str) -> list[str]:
    """Command lines with `word` in them."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_text(encoding="utf-8", errors="replace"))
        except OSError:  # it has just ended
            continue
    return [line for line in lines if word in line]


def test_the_node_presses_beside_the_echo_and_both_are_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bench, "RATES", (250,))
    outcome = bench.control(seconds=2.0)
    checks = {check.name: check for check in outcome.checks}
    assert checks["fingers_pressing"].passed
    assert {"step_26_us", "cost_104_over_26", "late_share_over_echo_250_hz"} <= checks.keys()
    assert {"cpu_over_echo_250_hz", "round_trip_over_echo_250_hz"} <= checks.keys()
    values = [check.value for check in outcome.checks] + list(figures(outcome.details))
    assert np.isfinite(values).all(), outcome.as_dict()
    found = outcome.details["250_hz"]
    assert found["cycles"] == 500 and found["in_rhythm"] > 0.0
    assert 0.1 < found["force_share"] <= 1.0  # the fingers truly press, within their limits
    for side in (found["node"], found["echo"]):
        assert side["median_us"] > 0.0 and side["cpu_s"] > 0.0
    assert not processes(f"/bench_{os.getpid()}/")
