"""Recorder, reader and evaluation: what was published is what is read back."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rclpy
import yaml
from ament_index_python.packages import get_package_share_directory
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.serialization import deserialize_message, serialize_message
from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from std_msgs.msg import Header

from made_up_session import MadeUpSession
from spinemat.layout import MatLayout, load_layout
from spinemat_interfaces.msg import DriveState, Event, SessionState
from spinemat_recording.bag import Definitions, SessionFolder
from spinemat_recording.evaluation import evaluate, stiffness_errors
from spinemat_recording.node import bag_topic, message_texts
from spinemat_recording.record import RecordError, SessionRecord
from spinemat_recording.session_record import read_session
from spinemat_ros.codec import doubles, stamp, uint16s
from spinemat_ros.spin import make_executor
from spinemat_ros.topics import TOPICS

pytestmark = pytest.mark.graph

LAYOUT = load_layout(Path(__file__).parents[1] / "config" / "mat.yaml")
PATIENCE = 30.0  # s, never waited for unless something is broken


class Graph:
    """A recorder in a process of its own and a node that plays the rest of the mat."""

    def __init__(self) -> None:
        rclpy.init()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "spinemat_recording.node", "--ros-args", "-r", "__ns:=/mat"],
            stderr=subprocess.PIPE,
            text=True,
        )
        self.node = Node("others", namespace="mat")
        self.executor = make_executor(self.node)
        self.events: list[Event] = []
        self.node.create_subscription(Event, "events", self.events.append, TOPICS["events"].qos)
        self.publishers = {
            name: self.node.create_publisher(topic.type, name, _deep(topic.qos))
            for name, topic in TOPICS.items()
            if topic.recorded
        }
        self.until(lambda: all(p.get_subscription_count() for p in self.others()))

    def others(self) -> list[Any]:
        """Return the publishers of all topics but `events`, which this node hears as well."""
        return [p for name, p in self.publishers.items() if name != "events"]

    def until(self, condition: Callable[[], Any]) -> None:
        """Turn the executor until `condition` holds."""
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, "nothing happened"
            assert self.process.poll() is None, self.process.stderr.read()
            self.executor.spin_once(timeout_sec=0.05)

    def publish(self, name: str, message: Any) -> None:
        """Publish and let arrived events through."""
        self.publishers[name].publish(message)
        self.executor.spin_once(timeout_sec=0)

    def recorded(self, folder: Path) -> dict[str, Any]:
        """Wait for the event that the session in `folder` is recorded; return its data."""

        def found() -> list[dict[str, Any]]:
            data = [json.loads(e.data) for e in self.events if e.kind == "recorded"]
            return [d for d in data if d["folder"] == str(folder)]

        self.until(found)
        return found()[0]

    def session(self, phase: str, folder: Path, at: float) -> None:
        """Publish a session state."""
        message = SessionState(
            header=Header(stamp=stamp(round(at * 1e9))),
            phase=getattr(SessionState, phase),
            session_id=folder.name,
            folder=str(folder),
        )
        self.publish("session/state", message)

    def drive(self, at: float) -> None:
        """Publish a drive state of 26 zeros."""
        zeros = doubles(np.zeros(26))
        self.publish(
            "drive/state",
            DriveState(
                header=Header(stamp=stamp(round(at * 1e9)), frame_id="mat"),
                cycle=round(at * 250),
                period=0.004,
                position=zeros,
                velocity=zeros,
                force=zeros,
                current=zeros,
                temperature=zeros,
                status=uint16s(np.zeros(26)),
            ),
        )

    def play(self, made_up: MadeUpSession) -> dict[str, list[str]]:
        """Publish a session as fast as it goes, but nothing before it is being recorded.

        Topics overtake each other. Returns what was sent, by topic.
        """
        sent: dict[str, list[str]] = {}
        begun = False
        for _, name, message in made_up.messages():
            sent.setdefault(name, []).append(repr(message))
            self.publish(name, message)
            if name == "session/state" and not begun:
                self.until(lambda: _written(made_up.folder / "events.jsonl"))
                begun = True
        for k in range(1, 60):
            self.drive(made_up.t[-1] + 0.004 * k)
        return sent

    def close(self) -> None:
        """End both."""
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(PATIENCE)
        self.process.stderr.close()
        self.executor.shutdown()  # it would keep the node's publishers, as long as a failed test
        self.node.destroy_node()
        rclpy.try_shutdown()


@pytest.fixture
def graph(ros_domain: int) -> Iterator[Graph]:
    running = Graph()
    yield running
    running.close()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("session") / "made-up-1"
    MadeUpSession(LAYOUT, folder, 12.0).write()
    return folder


@pytest.fixture(scope="module")
def record(written: Path) -> SessionRecord:
    return read_session(written)


# ---- the node ----------------------------------------------------------------------------


def test_everything_published_is_in_the_bag(graph: Graph, tmp_path: Path) -> None:
    folder = tmp_path / "made-up-1"
    made_up = MadeUpSession(LAYOUT, folder, 3.2)
    sent: dict[str, list[str]] = {}
    for name, message in made_up.before():
        sent.setdefault(name, []).append(repr(message))
        graph.publish(name, message)
    for name, messages in graph.play(made_up).items():
        sent.setdefault(name, []).extend(messages)
    data = graph.recorded(folder)
    assert data["dropped"] == 0
    with Reader(folder / "bag") as bag:
        got: dict[str, list[str]] = {}
        times = []
        for connection, at, raw in bag.messages():
            times.append(at)
            name = connection.topic.removeprefix("/mat/")
            got.setdefault(name, []).append(repr(deserialize_message(raw, TOPICS[name].type)))
            assert connection.msgdef.data
        assert bag.message_count == data["messages"] == len(times)
    assert times == sorted(times)
    assert times[0] >= 2_000_000_000  # drive time, and nothing from before the session
    assert set(got) == set(sent)
    assert got["drive/state"][0] in sent["drive/state"][:2]  # one was sent before the session
    for name in sent:
        kept = [message for message in got[name] if message in set(sent[name])]
        assert kept == sent[name][-len(kept) :], name
        assert len(kept) >= len(sent[name]) - (name == "drive/state"), name
    for name in ("contour", "stiffness", "truth/contour", "truth/stiffness", "truth/pressure"):
        assert got[name] == sent[name], name
    lines = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    assert set(lines[0]) == {"t", "source", "severity", "kind", "text", "data"}
    phases = [entry["data"]["to"] for entry in lines if entry["kind"] == "session_phase"]
    assert phases == [*(name for name, _, _ in made_up.phases), "IDLE"]
    assert "STOPPED" in [e["data"]["to"] for e in lines if e["kind"] == "safety_state"]
    assert [e["severity"] for e in lines if e["kind"] == "stop"] == ["stop"]
    assert lines[-1]["kind"] == "recorded"
    read = read_session(folder)
    assert len(read.contours) == len(read.stiffness) == 2
    assert read.session_id == "made-up-1"


def test_a_busy_recorder_keeps_the_session_to_its_end(graph: Graph, tmp_path: Path) -> None:
    folder = tmp_path / "busy"
    graph.drive(2.0)
    graph.session("INTAKE", folder, 2.0)
    graph.until(lambda: _written(folder / "events.jsonl"))
    graph.process.send_signal(signal.SIGSTOP)  # what piles up meanwhile is read in turns
    for k in range(1, 400):
        graph.drive(2.0 + 0.004 * k)
    graph.session("IDLE", folder, 2.0 + 0.004 * 400)
    for k in range(400, 460):
        graph.drive(2.0 + 0.004 * k)
    graph.process.send_signal(signal.SIGCONT)
    data = graph.recorded(folder)
    assert data["dropped"] == data["missed_cycles"] == 0
    assert read_session(folder).counts["drive/state"] >= 449  # 0.2 s after the end, and no more


def test_unwritable_folder_abort_and_signal(graph: Graph, tmp_path: Path) -> None:
    blocked = tmp_path / "file" / "session"
    blocked.parent.write_text("not a folder")
    graph.drive(1.0)
    graph.session("INTAKE", blocked, 1.0)
    graph.until(lambda: [e for e in graph.events if e.kind == "recording_failed"])
    graph.session("IDLE", blocked, 1.1)
    for k in range(80):
        graph.drive(1.1 + 0.004 * k)
    data = graph.recorded(blocked)
    assert data["messages"] == 0 and data["dropped"] > 0
    warnings = [e for e in graph.events if e.kind == "recording_failed"]
    assert len(warnings) == 1 and str(blocked.parent) in warnings[0].text

    aborted = tmp_path / "aborted"
    graph.session("INTAKE", aborted, 2.0)
    for k in range(300):
        if k == 10:
            graph.session("ABORTED", aborted, 2.04)
        graph.drive(2.0 + 0.004 * k)
    assert graph.recorded(aborted)["dropped"] == 0
    read = read_session(aborted)
    assert read.end - 2.04 == pytest.approx(1.0, abs=0.1)
    assert [name for name, _, _ in read.phases] == ["INTAKE", "ABORTED"]

    cut = tmp_path / "cut"
    graph.session("INTAKE", cut, 4.0)
    graph.until(lambda: _written(cut / "events.jsonl"))
    graph.process.send_signal(signal.SIGINT)
    assert graph.process.wait(PATIENCE) == 0
    assert read_session(cut).counts["session/state"] == 1


def test_full_disk_keeps_what_was_complete(graph: Graph, tmp_path: Path) -> None:
    folder = tmp_path / "full"
    made_up = MadeUpSession(LAYOUT, folder, 3.2)
    size = 150_000
    resource.prlimit(graph.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    graph.play(made_up)
    data = graph.recorded(folder)
    assert graph.process.poll() is None
    assert data["dropped"] > 0
    assert [e.kind for e in graph.events].count("recording_failed") == 1


# ---- the writer --------------------------------------------------------------------------


def test_full_disk_closes_a_valid_bag(tmp_path: Path) -> None:
    said: list[str] = []
    folder = SessionFolder(
        tmp_path / "s", Definitions(message_texts()), compress=False, on_failure=said.append
    )
    topic = bag_topic("session/state", "/mat/session/state")
    message = serialize_message(SessionState(phase=1, detail="x" * 1000))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_500_000, hard))
    try:
        for k in range(4000):
            folder.write(topic, k, message)
        folder.line({"t": 0.0})
        folder.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    folder.close_lines()
    assert len(said) == 1 and str(tmp_path / "s" / "bag") in said[0]
    assert folder.messages + folder.dropped == 4000
    assert folder.messages > 1000
    with Reader(tmp_path / "s" / "bag") as bag:
        times = [at for _, at, _ in bag.messages()]
    assert times == list(range(folder.messages))
    assert not list((tmp_path / "s" / "bag").glob(".*"))


def test_definitions_carry_the_hashes_of_rosidl() -> None:
    share = Path(get_package_share_directory("spinemat_interfaces")) / "msg"
    definitions = Definitions(message_texts())
    for name in message_texts():
        described = json.loads((share / f"{name.split('/')[-1]}.json").read_text())
        hashes = {h["type_name"]: h["hash_string"] for h in described["type_hashes"]}
        assert definitions.get(name)[1] == hashes[name], name


def test_metadata_are_those_of_rosbags_itself(tmp_path: Path) -> None:
    definitions = Definitions(message_texts())
    topics = [bag_topic(name, f"/mat/{name}") for name in ("drive/state", "events")]
    folder = SessionFolder(tmp_path, definitions, about={"person": "p1"})
    with Writer(tmp_path / "own", version=9, storage_plugin=StoragePlugin.MCAP) as own:
        own.set_custom_data("person", "p1")
        for topic in topics:
            text, digest = definitions.get(topic.type)
            connection = own.add_connection(
                topic.name,
                topic.type,
                msgdef=text,
                rihs01=digest,
                offered_qos_profiles=[topic.qos],
            )
            own.write(connection, 5, b"\0" * 40)
            folder.write(topic, 5, b"\0" * 40)
    folder.close()
    folder.close_lines()
    read = []
    for path in (folder.bag_path, tmp_path / "own"):
        with Reader(path) as bag:
            profiles = [connection.ext for connection in bag.connections]
        data = yaml.safe_load((path / "metadata.yaml").read_text(encoding="utf-8"))
        found = data["rosbag2_bagfile_information"]
        assert found.pop("relative_file_paths") == [file.pop("path") for file in found["files"]]
        found.pop("ros_distro")
        read.append((found, profiles))
    assert read[0] == read[1]


def test_a_second_recorder_keeps_the_first_part(tmp_path: Path) -> None:
    definitions = Definitions(message_texts())
    first = SessionFolder(tmp_path, definitions)
    second = SessionFolder(tmp_path, definitions)
    assert (first.bag_path.name, second.bag_path.name) == ("bag", "bag_2")
    assert not second.failure


# ---- the reader --------------------------------------------------------------------------


def test_arrays_read_back_equal(record: SessionRecord) -> None:
    made_up = MadeUpSession(LAYOUT, record.folder, 12.0)
    np.testing.assert_allclose(record.drive.t, made_up.t, atol=1e-9)
    np.testing.assert_array_equal(record.drive.cycle, made_up.cycle)
    np.testing.assert_array_equal(record.drive.force, made_up.measured)
    np.testing.assert_array_equal(record.drive.position, made_up.position)
    np.testing.assert_array_equal(record.truth.force, made_up.force)
    np.testing.assert_array_equal(record.fingers.set_point, made_up.set_point[::5])
    np.testing.assert_array_equal(record.commands.cycle, made_up.cycle)
    assert record.permits.granted.dtype == bool and not record.permits.granted.all()
    assert record.fingers.contact.any() and not record.fingers.clamped.any()
    assert [name for name, _, _ in record.phases] == [*(n for n, _, _ in made_up.phases), "IDLE"]
    assert record.programme == "low_back"
    assert len(record.contours) == 2  # the one of the session before is not among them
    assert record.stiffness[0].get("L3").value == pytest.approx(1.06 * 11.5e3)
    assert record.stiffness[1].get("T1").reason


def test_a_stream_that_changes_its_texts_is_read(tmp_path: Path) -> None:
    """Texts of changing length move the fields behind them; the arrays must not notice."""
    folder = SessionFolder(tmp_path, Definitions(message_texts()))
    topic = bag_topic("drive/state", "/drive/state")
    for k in range(50):
        m = DriveState(cycle=k, stage=k % 4, boot_id="b" * (1 + k // 25))
        m.stage_reason = "no permit" if k % 3 else ""
        m.force = doubles([k, 2.0 * k])
        folder.write(topic, k, serialize_message(m))
    folder.close()
    drive = read_session(tmp_path).drive
    np.testing.assert_array_equal(drive.force[:, 1], 2.0 * np.arange(50))
    np.testing.assert_array_equal(drive.stage, np.arange(50) % 4)
    assert drive.position.shape == (50, 0)


def test_no_truth_is_fine(tmp_path: Path) -> None:
    MadeUpSession(LAYOUT, tmp_path, 3.0, truth=False, stop=False).write()
    read = read_session(tmp_path)
    assert read.truth is read.truth_contour is read.truth_stiffness is read.truth_pressure is None
    judged = evaluate(read, LAYOUT)
    for name in ("contour_rmse_mm", "stiffness_error_pct", "peak_tissue_force_n", "late_cycles"):
        assert math.isnan(judged[name])
    assert judged["stops"] == 0
    assert judged["control_rate_hz"] == pytest.approx(250.0)


def _cut(bag: Path) -> None:
    os.truncate(bag / "bag.mcap", (bag / "bag.mcap").stat().st_size // 2)


def _scribble(bag: Path) -> None:
    with (bag / "bag.mcap").open("r+b") as data:
        data.seek(3000)
        data.write(b"\xff" * 4000)


@pytest.mark.parametrize(
    ("damage", "file", "words"),
    [
        (_cut, "bag.mcap", "not a complete recording"),
        (_scribble, "bag.mcap", ""),
        (lambda bag: (bag / "metadata.yaml").unlink(), "metadata.yaml", "cut short"),
        (lambda bag: (bag / "bag.mcap").unlink(), "bag.mcap", ""),
        (lambda bag: (bag / "metadata.yaml").write_text("{"), "bag", ""),
        (lambda bag: bag.rename(bag.with_name("gone")), "bag", "no recording"),
    ],
)
def test_a_damaged_record_gets_one_clear_line(
    tmp_path: Path, damage: Callable[[Path], Any], file: str, words: str
) -> None:
    MadeUpSession(LAYOUT, tmp_path, 1.0, truth=False).write()
    damage(tmp_path / "bag")
    with pytest.raises(RecordError) as caught:
        read_session(tmp_path)
    text = str(caught.value)
    assert "\n" not in text and file in text and words in text


def test_events_cut_in_the_last_line_are_read_and_elsewhere_named(tmp_path: Path) -> None:
    MadeUpSession(LAYOUT, tmp_path, 1.0, truth=False).write()
    lines = tmp_path / "events.jsonl"
    count = len(read_session(tmp_path).events)
    lines.write_text(lines.read_text()[:-30])
    assert len(read_session(tmp_path).events) == count - 1
    lines.write_text("oops\n" + lines.read_text())
    with pytest.raises(RecordError, match=r"events\.jsonl: line 1"):
        read_session(tmp_path)


# ---- the judgement -----------------------------------------------------------------------


def test_evaluate_on_known_data(record: SessionRecord) -> None:
    judged = evaluate(record, LAYOUT)
    x = record.truth_contour.x
    expected = 1e3 * np.sqrt(np.mean((5e-4 * np.sin(40 * x)) ** 2))
    assert judged["contour_rmse_mm"] == pytest.approx(expected, rel=1e-6)
    assert judged["stiffness_error_pct"] == pytest.approx(6.0)
    assert judged["stiffness_levels_valid"] == 16
    assert judged["late_cycles"] == 2
    assert judged["sim_seconds"] == pytest.approx(12.0)
    assert judged["control_rate_hz"] == pytest.approx(250.0)
    assert judged["answered_share"] == 1.0 and judged["missing_cycles"] == 0
    assert judged["stops"] == 1 and judged["stop_causes"] == ["hand_control"]
    assert 0.0 < judged["released_after_stop_s"][0] < 0.2
    assert judged["static_holds"] == 0
    assert judged["over_limit"] is False
    i = LAYOUT.index(judged["force_finger"])
    peak = record.truth.peak_force.max(axis=0)
    assert judged["peak_tissue_force_n"] == peak[i]
    assert judged["force_ratio"] == (peak / LAYOUT.trip_limit).max()


def test_evaluate_sees_what_is_wrong(record: SessionRecord) -> None:
    truth = record.truth
    peak = truth.peak_force.copy()
    peak[100, 25] = 15.5  # a neck finger, trip limit 15 N
    force = truth.force.copy()
    force[:, 3] = 0.0
    force[: round(6 / LAYOUT.cycle), 3] = 10.5
    force[record.truth.t > 7.0, 4] = 1.5
    wrong = dataclasses.replace(
        record, truth=dataclasses.replace(truth, peak_force=peak, force=force)
    )
    judged = evaluate(wrong, LAYOUT)
    assert judged["over_limit"] is True
    assert (judged["force_finger"], judged["peak_tissue_force_n"]) == ("r13_right", 15.5)
    assert judged["press_excess_n"] == 5.5
    assert judged["static_holds"] == 1
    assert judged["longest_hold_s"] == pytest.approx(6.0)
    assert judged["hold_finger"] == "r02_right"
    assert judged["released_after_stop_s"] == [math.inf]


def test_a_missing_or_invalid_level_counts_as_wrong(record: SessionRecord) -> None:
    truth, estimate = record.truth_stiffness, record.stiffness[0]
    kept = tuple(e for e in estimate.levels if e.level != "L4")
    errors = stiffness_errors(dataclasses.replace(estimate, levels=kept), truth)
    assert errors["L4"] == errors["T1"] == 1.0
    assert errors["L3"] == pytest.approx(0.06)
    assert len(errors) == 17


def test_another_mat_is_refused(record: SessionRecord) -> None:
    small: MatLayout = dataclasses.replace(LAYOUT, rows=LAYOUT.rows[:5])
    with pytest.raises(RecordError, match="26 fingers were recorded"):
        evaluate(record, small)


def _written(file: Path) -> bool:
    return file.is_file() and file.stat().st_size > 0


def _deep(qos: QoSProfile) -> QoSProfile:
    """Return the profile with room for a whole test session: these tests publish unpaced."""
    return QoSProfile(
        history=qos.history,
        depth=qos.depth if qos.depth == 1 else 5000,
        reliability=qos.reliability,
        durability=qos.durability,
    )
