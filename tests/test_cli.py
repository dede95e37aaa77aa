"""The command line as a user meets it: a real process each time.

Not marked `graph`: a mat in simulated time must also do its work on a machine that is busy.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

import foxglove
from spinemat.analysis import Bag, rerun
from spinemat.analysis.bags import about_json

pytestmark = pytest.mark.graph

ROOT = Path(__file__).parents[1]
SPINEMAT = [sys.executable, "-m", "spinemat_bringup"]
RERUN = ("body_pose", "breathing", "contour", "stiffness", "stiffness/running", "guarding",
         "presence", "pressure", "drive/permit", "safety/state")  # fmt: skip
SPEED = {"real_time_factor", "setup_seconds"}  # depend on the machine: reported, not asserted


def spinemat(*arguments: str, cwd: Path, timeout: float = 120.0) -> tuple[int, str]:
    done = subprocess.run(
        [*SPINEMAT, *arguments], cwd=cwd, timeout=timeout, capture_output=True, text=True
    )
    return done.returncode, done.stdout + done.stderr


def graph_processes() -> list[str]:
    """Command lines of nodes that belong to this test run's domain."""
    mine = f"ROS_DOMAIN_ID={os.environ['ROS_DOMAIN_ID']}".encode()
    found = []
    for folder in Path("/proc").iterdir():
        try:
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            if "/lib/spinemat_" in command and mine in (folder / "environ").read_bytes():
                found.append(command)
        except (OSError, UnicodeDecodeError):
            continue
    return found


def bad_mat(tmp_path: Path) -> Path:
    data = yaml.safe_load((ROOT / "config/mat.yaml").read_text())
    data["rows"][12]["x"] = 2.0
    path = tmp_path / "mat.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--mat", "mat.yaml"], ("rows[12].x", "2.0", "-0.55 to 0.85 m")),
        (["--mat", "none.yaml"], ("none.yaml", "No such file")),
        (["--programme", "nonsense"], ("programme", "nonsense", "demo")),
        (["--patient", "99999"], ("99999", "4853")),
    ],
)
def test_bad_input_is_one_line_and_starts_nothing(
    tmp_path: Path, arguments: list[str], words: tuple[str, ...]
) -> None:
    bad_mat(tmp_path)
    status, output = spinemat("demo", *arguments, cwd=tmp_path)
    assert status == 1
    for word in words:
        assert word in output
    assert len(output.strip().splitlines()) == 1
    assert not graph_processes()
    assert not (tmp_path / "sessions").exists()


def test_status_without_a_mat_says_so(tmp_path: Path) -> None:
    status, output = spinemat("status", "--namespace", "/nobody", cwd=tmp_path)
    assert status == 1
    assert "safety_supervisor in /nobody" in output


def test_the_demo_is_a_whole_session_that_the_truth_confirms(tmp_path: Path) -> None:
    """With one short set of presses between its scans."""
    programme = yaml.safe_load((ROOT / "config/programmes/demo.yaml").read_text())
    scan, lumbar, *_, rescan = programme["phases"]
    programme |= {
        "name": "short",
        "minutes": 2,
        "phases": [scan, lumbar | {"duration": 4}, rescan],
    }
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/short.yaml").write_text(yaml.safe_dump(programme))
    status, output = spinemat(
        "demo", "--programmes", "mine", "--programme", "short", "--json", "out.json",
        cwd=tmp_path, timeout=900.0,
    )  # fmt: skip
    figures = json.loads((tmp_path / "out.json").read_text())
    failed = {c["name"] for c in figures["checks"] if not c["pass"]}
    assert failed <= SPEED, output
    assert status == (1 if failed else 0)
    assert {"command", "version", "environment", "seconds", "checks"} <= figures.keys()
    for name in (
        "completed", "sim_seconds", "wall_seconds", "real_time_factor", "setup_seconds", "nodes",
        "fingers", "control_rate_hz", "late_cycles", "contour_rmse_mm", "stiffness_error_pct",
        "peak_tissue_force_n", "force_limit_n", "stops", "report",
    ):  # fmt: skip
        assert figures[name] is not None, name
    assert figures["control_rate_hz"] == pytest.approx(250.0, rel=0.01)
    assert figures["press_excess_n"] <= 0.0, "no force above a press limit"
    report = Path(figures["report"]).read_text()
    assert "Stiffness, level by level" in report
    assert (Path(figures["folder"]) / "events.jsonl").is_file()
    assert not graph_processes()
    bag = Bag(figures["folder"])
    names = [
        p for p in foxglove.paths(foxglove.layout()) if foxglove.split(p)[0] not in foxglove.LIVE
    ]
    assert len(names) > 20 and foxglove.wrong_paths(bag, names) == []
    again = rerun(bag)  # the nodes' code over what the nodes got
    assert again.equal and not again.notes, again
    for name in RERUN:
        assert again.comparisons[name].compared > 0, name


def test_ctrl_c_ends_safely_and_leaves_no_process(tmp_path: Path) -> None:
    with subprocess.Popen(
        [*SPINEMAT, "demo"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        output = ""
        for line in process.stdout:
            output += line
            if "scan" in line:
                break
        process.send_signal(signal.SIGINT)
        output += process.stdout.read()
        assert process.wait(60) == 130, output
    assert "the fingers release and retract" in output
    assert "cancelled" in output
    assert not graph_processes()
    assert list(tmp_path.glob("sessions/*/bag/*.mcap"))


@contextmanager
def without_a_drive_stage(tmp_path: Path, *options: str) -> Iterator[None]:
    """A mat that is up, but for its drive stage; Ctrl-C ends it in the end, with status 0."""
    with subprocess.Popen(
        [*SPINEMAT, "up", "--sim", "none", *options],
        cwd=tmp_path,
        env=os.environ | {"XDG_STATE_HOME": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "STARTING" in line:
                break
        try:
            yield
        finally:
            process.send_signal(signal.SIGINT)
            process.stdout.read()
        assert process.wait(60) == 0


def test_a_mat_without_a_drive_stage_says_so_and_is_recorded(
    tmp_path: Path,
) -> None:
    with without_a_drive_stage(tmp_path, "--namespace", "/bare"):
        status, output = spinemat("status", "--namespace", "/bare", cwd=tmp_path)
        record = ("record", "bag", "--seconds", "2", "--out", "kept", "--namespace", "/bare")
        recorded, words = spinemat(*record, cwd=tmp_path)
    assert status == 1
    assert "waiting for drive data: no drive state seen" in output
    assert recorded == 0, words
    bag = Bag(tmp_path / "kept")
    assert bag.closed and bag.counts["/bare/safety/state"] >= 1
    parameters = about_json(bag, "parameters")
    assert parameters is not None and "safety_supervisor" in parameters, words
    assert not graph_processes()


def test_a_mat_is_up_without_a_recorder(tmp_path: Path) -> None:
    with without_a_drive_stage(tmp_path, "--record", "none", "--namespace", "/quiet"):
        running = graph_processes()
    assert any("safety_supervisor" in command for command in running)
    assert not any("recorder" in command for command in running)
    assert not list(tmp_path.rglob("*.mcap")) and not graph_processes()
