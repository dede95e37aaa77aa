"""Evaluations that take long, with as little as they can do."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from command_line import spinemat
from spinemat_bringup import evaluate_record
from spinemat_session.record.server import NoServer


@pytest.fixture
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise NoServer("PostgreSQL is left out")

    monkeypatch.setattr(evaluate_record, "LocalServer", missing)


def test_gated_presses_of_one_person_are_judged_by_the_true_breath(tmp_path: Path) -> None:
    file = tmp_path / "gated.json"
    few = ("--people", 1, "--sets", 1, "--jobs", 1)
    status, said = spinemat("evaluate", "gated", *few, "--json", file)
    assert status == 0, said
    (one,) = json.loads(file.read_text())["each"]
    assert one["presses"] > 5 and one["expiring"] >= 0.9 * one["presses"] and one["held"] == 0.0


def test_sessions_are_broken_only_where_a_disk_can_be_mounted(
    no_server: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    status, said = spinemat("evaluate", "record", "--trials", 1)
    assert status == 1 and "needs the right to mount one (root)" in said


@pytest.mark.graph
def test_a_session_that_is_killed_is_in_the_record(
    no_server: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"mount: {error}")
    subprocess.run(["umount", str(tmp_path)], check=True)
    monkeypatch.setattr(evaluate_record, "SPAN", (5.0, 6.0))
    said: list[str] = []
    outcome = evaluate_record.record(1, 0, said.append, lambda: True)
    assert outcome.passed, said
    assert "killed in SCAN" in said[-1]
