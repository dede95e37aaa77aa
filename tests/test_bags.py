"""Recordings: whole, cut short, damaged or foreign; read by us and by others."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import rclpy
from ament_index_python.packages import get_package_share_directory
from distributed import LocalCluster
from mcap.exceptions import EndOfFile
from mcap.reader import make_reader
from mcap.stream_reader import StreamReader
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.serialization import deserialize_message, serialize_message
from rclpy.signals import SignalHandlerOptions
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from rosbags.rosbag2.metadata import parse_qos
from rosbags.typesys import Stores, get_typestore
from std_msgs.msg import Header

import foxglove
from command_line import spinemat
from made_up_session import MadeUpSession
from mats import MAT, ROOT
from spinemat.analysis import (
    Bag,
    BagError,
    analyse,
    arrays,
    columns,
    compare,
    compare_levels,
    export,
    figures,
    find_bags,
    layout_of,
    rerun,
    table,
)
from spinemat.analysis.columns import flat_fields
from spinemat.analysis.mcap_records import scan
from spinemat.layout import load_layout
from spinemat.units import PARTS, UNITS, WORDS
from spinemat_interfaces.msg import Contour, DriveState, SafetyState, SessionState
from spinemat_recording.background import Background
from spinemat_recording.bag import BagTopic, Definitions, SessionFolder
from spinemat_recording.mending import mend
from spinemat_recording.node import Recorder, bag_topic, message_texts
from spinemat_recording.play import Busy, PlayOptions, _Player, play, reframed
from spinemat_recording.profiles import PROFILES
from spinemat_ros.codec import doubles, seconds, stamp
from spinemat_ros.topics import EVERY, TOPICS
from spinemat_sim.urdf import expand_urdf

LAYOUT = load_layout(MAT)
SECONDS = 12.0
ABOUT = {
    "software": "0.1.0",
    "mat": json.dumps({"fingers": LAYOUT.names, "file": MAT.read_text(encoding="utf-8")}),
    "person": json.dumps({"id": "p1", "sex": "male"}),
    "seed": "7",
}
NAMES = {
    "m": "m",
    "m/s": "m_per_s",
    "N": "n",
    "A": "a",
    "degC": "degc",
    "s": "s",
    "Hz": "hz",
    "rad": "rad",
    "N/m": "n_per_m",
    "J": "j",
}


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bags") / "made-up-1"
    MadeUpSession(LAYOUT, folder, SECONDS).write(about=dict(ABOUT))
    return folder


@pytest.fixture
def copy(session: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(session, tmp_path / "copy"))


def _drive_states(folder: SessionFolder, count: int, cycle: float = 0.004) -> None:
    topic = bag_topic("drive/state", "/mat/drive/state")
    for k in range(count):
        at = round(k * cycle * 1e9)
        m = DriveState(header=Header(stamp=stamp(at)), cycle=k, force=doubles(np.full(26, k)))
        folder.write(topic, at, serialize_message(m))


# ---- others read what we write -----------------------------------------------------------


def test_mcap_reads_it_with_definitions_checksums_and_what_it_is_about(session: Path) -> None:
    file = session / "bag" / "bag.mcap"
    with file.open("rb") as data:
        reader = make_reader(data, validate_crcs=True)
        summary = reader.get_summary()
        assert summary is not None and summary.statistics is not None
        about = {m.name: m.metadata for m in reader.iter_metadata()}
        count = sum(1 for _ in reader.iter_messages())
    assert count == summary.statistics.message_count == sum(Bag(session).counts.values())
    assert summary.statistics.metadata_count == 2
    assert about["spinemat"]["seed"] == "7" and "rosbag2" in about
    schemas = {schema.name: schema.data.decode() for schema in summary.schemas.values()}
    assert "MSG: std_msgs/Header" in schemas["spinemat_interfaces/msg/DriveState"]
    assert "# N, load cell" in schemas["spinemat_interfaces/msg/DriveState"]  # with its comments
    with file.open("rb") as data:
        records = list(StreamReader(data, validate_crcs=True).records)
    assert type(records[-1]).__name__ == "Footer"


def test_a_bare_file_knows_types_and_quality_of_its_topics(tmp_path: Path) -> None:
    """As rosbag2 has them in the channels; it opens a file without its folder by them."""
    folder = SessionFolder(tmp_path, Definitions(message_texts()))
    names = ("drive/state", "contour", "posture/imu")
    for name in names:
        folder.write(bag_topic(name, f"/mat/{name}"), 0, serialize_message(TOPICS[name].type()))
    folder.close()
    (tmp_path / "bag" / "bag.mcap").rename(tmp_path / "bare.mcap")
    with (tmp_path / "bare.mcap").open("rb") as data:
        summary = make_reader(data).get_summary()
    assert summary is not None
    found = {channel.topic: channel.metadata for channel in summary.channels.values()}
    definitions = Definitions(message_texts())
    for name in names:
        metadata, topic = found[f"/mat/{name}"], TOPICS[name]
        kind = bag_topic(name, name).type
        assert metadata["topic_type_hash"] == definitions.get(kind)[1]
        (offered,) = parse_qos(metadata["offered_qos_profiles"])
        assert (offered.depth, offered.reliability.name, offered.durability.name) == (
            topic.qos.depth, topic.qos.reliability.name, topic.qos.durability.name
        )  # fmt: skip
    place, _ = mend(Bag(tmp_path / "bare.mcap"), tmp_path / "mended")
    mended = Bag(place).topics
    assert {name: channel.qos for name, channel in mended.items()} == {
        name: metadata["offered_qos_profiles"] for name, metadata in found.items()
    }


def test_rosbags_reads_it_as_rosbag2(session: Path) -> None:
    with Reader(session / "bag") as bag:
        assert bag.message_count == sum(Bag(session).counts.values())
        assert bag.storage.metadata.custom == Bag(session).about
    with AnyReader([session / "bag"]) as bag:
        for connection, _, raw in bag.messages():
            if connection.topic == "/mat/drive/state":
                message: Any = bag.deserialize(raw, connection.msgtype)
                assert message.force.shape == (26,)
                break


def test_a_tool_of_others_converts_it(session: Path, tmp_path: Path) -> None:
    """`rosbags-convert` knows nothing of us: it needs the definitions in the bag."""
    tool = Path(sys.executable).with_name("rosbags-convert")
    line = [str(tool), "--src", str(session / "bag"), "--dst", str(tmp_path / "other")]
    line += ["--dst-storage", "sqlite3"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    other, own = Bag(tmp_path / "other"), Bag(session)
    assert other.counts == own.counts  # and a bag in SQLite is read by us
    np.testing.assert_array_equal(
        arrays(other, "drive/state", ["force"])["force"],
        arrays(own, "drive/state", ["force"])["force"],
    )


@pytest.mark.parametrize("limit", [{"split_seconds": 2.0}, {"split_bytes": 20_000}])
def test_a_split_bag_is_one_bag(tmp_path: Path, limit: dict[str, Any]) -> None:
    folder = SessionFolder(tmp_path, Definitions(message_texts()), **limit)
    _drive_states(folder, 2000)
    folder.close()
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "bag").glob("*.mcap")}
    assert set(sizes) == {f"bag_{k}.mcap" for k in range(len(sizes))} and len(sizes) >= 3
    with Reader(tmp_path / "bag") as bag:
        assert bag.message_count == 2000
    found = arrays(Bag(tmp_path), "drive/state", ["cycle"])["cycle"]
    np.testing.assert_array_equal(found, np.arange(2000))
    if "split_seconds" in limit:
        assert Bag(tmp_path / "bag" / "bag_1.mcap").seconds == pytest.approx(2.0, abs=0.5)
    else:  # a file ends with the block that fills it
        assert max(sizes.values()) < 2 * limit["split_bytes"]


def test_the_part_being_written_is_read_last(tmp_path: Path) -> None:
    """Also in `bag_2`, which a recorder makes where one has died."""
    (tmp_path / "bag").mkdir()
    folder = SessionFolder(tmp_path, Definitions(message_texts()), split_seconds=2.0)
    _drive_states(folder, 3000)
    place = folder.bag_path
    assert {"bag_2.mcap", "bag_2_2.mcap"} < {path.name for path in place.glob("*.mcap")}
    cycles = arrays(Bag(place), "drive/state", ["cycle"])["cycle"]
    np.testing.assert_array_equal(cycles, np.arange(cycles.size))
    folder.close()


# ---- tables ------------------------------------------------------------------------------


def test_arrays_and_tables_hold_what_was_published(session: Path) -> None:
    made_up, bag = MadeUpSession(LAYOUT, session, SECONDS), Bag(session)
    drive = arrays(bag, "drive/state", ["force", "boot_id"])
    np.testing.assert_array_equal(drive["force"], made_up.measured)
    np.testing.assert_allclose(drive["t"], made_up.t, atol=1e-9)
    assert set(drive["boot_id"]) == {"made-up"}
    tidy = table(bag, "drive/state", "fingers")
    assert list(tidy.columns[:4]) == ["t_s", "cycle", "finger", "position_m"]
    wide = tidy.pivot(index="t_s", columns="finger", values="force_n")
    np.testing.assert_array_equal(wide[list(LAYOUT.names)], made_up.measured)
    levels = table(bag, "stiffness", "levels")
    assert set(levels["side"]) == {"BOTH", "LEFT", "RIGHT"}
    assert set(table(bag, "session/state")["phase"]) >= {"SCAN", "TREAT", "IDLE"}
    joints = table(bag, "joint_states", "joints")
    assert list(joints["name"][: LAYOUT.n]) == list(LAYOUT.joint_names)
    with pytest.raises(BagError, match=r"no field 'forces'; it has .*force"):
        arrays(bag, "drive/state", ["forces"])
    with pytest.raises(BagError, match="'drive/stat' was not recorded; there are"):
        table(bag, "drive/stat")


def test_messages_of_one_length_and_several_shapes_keep_their_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store, kind = get_typestore(Stores.ROS2_JAZZY), "diagnostic_msgs/msg/KeyValue"
    keys = ["abcd", "abcde", "abcdef", "abcd", "k", "abcde"] * 3  # the first three fill 8 bytes
    raws = [
        bytes(store.serialize_cdr(store.types[kind](key=key, value=str(i % 10)), kind))
        for i, key in enumerate(keys)
    ]
    assert len({len(raw) for raw in raws}) == 2
    for shapes in (8, 1, 0):  # as a matrix, some of them, one by one
        monkeypatch.setattr(columns, "SHAPES", shapes)
        found = columns.Columns(store, kind, ["key", "value"])
        found.extend(raws)
        assert found.get()["key"].tolist() == keys
        assert found.get()["value"].tolist() == [str(i % 10) for i in range(len(keys))]


def test_units_are_those_of_the_message_definitions() -> None:
    share = Path(get_package_share_directory("spinemat_interfaces")) / "msg"
    own = {path.stem: path.read_text(encoding="utf-8") for path in share.glob("*.msg")}
    for kind, text in own.items():
        for line in text.splitlines():
            match = re.match(r"float64(?:\[\S*\])?\s+(\w+)\s+# ([\w/]+)", line)
            if not match or UNITS.get(kind, {}).get(match[1]) == "n_or_m":
                continue
            expected = NAMES.get(match[2], "")
            assert UNITS.get(kind, {}).get(match[1], "") == expected, f"{kind}.{match[1]}"
    for (kind, field), words in WORDS.items():
        constants = re.findall(r"^uint8 ([A-Z_]+)=(\d+)", own[kind], re.M)
        known = {name: int(value) for name, value in constants}
        if known and kind != "DriveState":
            assert [known[word] for word in words] == list(range(len(words))), (kind, field)


@pytest.mark.parametrize("file_format", ["parquet", "csv"])
def test_exported_tables_are_equal(session: Path, tmp_path: Path, file_format: str) -> None:
    bag = Bag(session)
    files = export(bag, tmp_path, file_format, ["fingers/state", "stiffness"])
    path = tmp_path / f"fingers_state_fingers.{file_format}"
    read = (
        pd.read_parquet(path)
        if file_format == "parquet"
        else pd.read_csv(path, float_precision="round_trip")
    )
    expected = table(bag, "fingers/state", "fingers")
    assert files[path] == len(read) == len(expected)
    np.testing.assert_array_equal(read["force_n"], expected["force_n"])
    assert list(read["finger"]) == list(expected["finger"])


def test_figures_and_two_bags_beside_each_other(session: Path, tmp_path: Path) -> None:
    found = figures(session)
    made_up = MadeUpSession(LAYOUT, session, SECONDS)
    assert found["person_id"] == "p1" and found["stops"] == 1
    assert found["peak_force_n"] == made_up.measured.max()
    assert found["treatment_s"] == pytest.approx(0.4 * SECONDS, abs=0.1)
    assert found["trunk_stiffness_after_n_per_m"] < found["trunk_stiffness_before_n_per_m"]
    MadeUpSession(LAYOUT, tmp_path, 3.0, stop=False).write()
    both = compare(Bag(session), Bag(tmp_path))
    assert both.loc["stops", "difference"] == -1
    levels = compare_levels(Bag(session), Bag(tmp_path))
    assert len(levels) == 16 + 2 and not levels["changed"].any()


# ---- what is not whole -------------------------------------------------------------------


def test_a_cut_bag_is_read_up_to_the_cut_and_mended(copy: Path) -> None:
    file = copy / "bag" / "bag.mcap"
    whole = Bag(copy)
    os.truncate(file, file.stat().st_size // 2)
    (copy / "bag" / "metadata.yaml").unlink()
    cut = Bag(copy)
    assert not cut.closed and len(cut.problems) == 1 and "cut short" in cut.problems[0]
    assert 0.3 * whole.seconds < cut.seconds < 0.7 * whole.seconds
    assert cut.about["seed"] == "7"
    count = sum(cut.counts.values())
    place, messages = mend(cut)
    assert place == copy / "bag" and messages == count
    with Reader(place) as bag:
        assert bag.message_count == count
    again = Bag(copy)
    assert again.closed and not again.problems and again.about["seed"] == "7"
    assert (copy / "bag.cut" / "bag.mcap").is_file()


def test_a_damaged_block_is_left_out_and_said(copy: Path) -> None:
    file = copy / "bag" / "bag.mcap"
    chunks = scan(file).chunks
    middle = chunks[len(chunks) // 2]
    with file.open("r+b") as data:
        data.seek(middle.at + middle.stored // 2)
        data.write(b"\xff" * 50)
    bag, whole = Bag(copy), sum(Bag(copy).counts.values())
    read = sum(1 for _ in bag.messages())
    assert whole * 0.9 < read < whole
    assert len(bag.problems) == 1 and "are left out" in bag.problems[0]


def _empty(folder: Path) -> Path:
    SessionFolder(folder, Definitions(message_texts())).close()
    return folder


def _file(folder: Path, name: str, content: bytes) -> Path:
    (folder / name).write_bytes(content)
    return folder / name


def _foreign(folder: Path) -> Path:
    with Writer(folder / "foreign", version=9, storage_plugin=StoragePlugin.MCAP) as bag:
        text = "string data\n"
        connection = bag.add_connection(
            "/chatter", "std_msgs/msg/String", msgdef=text, rihs01="RIHS01_" + 64 * "0"
        )
        bag.write(connection, 5, b"\0\1\0\0\3\0\0\0hi\0")
    return folder / "foreign"


def _cut_sqlite(folder: Path, session: Path, share: float) -> Path:
    """The session in SQLite, of which a share is there, with its metadata."""
    old = Bag(session)
    with Writer(folder / "old", version=9, storage_plugin=StoragePlugin.SQLITE3) as bag:
        found = {
            c.name: bag.add_connection(c.name, c.type, msgdef=c.definition, rihs01="RIHS01_0")
            for c in old.topics.values()
        }
        for channel, at, raw in old.messages():
            bag.write(found[channel.name], at, raw)
    (file,) = (folder / "old").glob("*.db3")
    os.truncate(file, int(share * file.stat().st_size))
    return folder / "old"


def test_a_cut_bag_in_sqlite_is_read_as_far_as_it_goes(session: Path, tmp_path: Path) -> None:
    place = _cut_sqlite(tmp_path, session, 0.6)
    status, said = spinemat("bag", "info", place)
    assert status == 0 and said.count("cut short or damaged") == 1
    cut = Bag(place)
    assert not cut.closed
    found, whole = (
        [(channel.name, at, bytes(raw)) for channel, at, raw in bag.messages()]
        for bag in (cut, Bag(session))
    )
    assert 0.3 * len(whole) < len(found) < 0.8 * len(whole)
    assert found == sorted(whole, key=lambda entry: entry[1])[: len(found)]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda f: f / "nowhere", "no such file"),
        (lambda f: f, "no recording in this folder"),
        (lambda f: _file(f, "x.mcap", b""), "an empty file"),
        (lambda f: _file(f, "x.mcap", b"#ROSBAG V2.0\n" * 9), "not an MCAP file"),
        (lambda f: _file(f, "x.db3", b"nothing of the kind"), "not a recording"),
        (lambda f: _file(f, "x.db3", b"SQLite format 3\0" + bytes(99)), "not a recording"),
        (lambda f: _file(f, "x.txt", b"text"), "not a recording; allowed"),
        (lambda f: _empty(f / "e"), "holds no message"),
        (lambda f: _foreign(f), "not a recording of a mat"),
    ],
)
def test_what_is_no_recording_gets_one_clear_line(tmp_path: Path, make: Any, words: str) -> None:
    with pytest.raises(BagError) as caught:
        figures(make(tmp_path))
    text = str(caught.value)
    assert words in text and "\n" not in text and str(tmp_path) in text


def test_a_foreign_bag_still_tells_what_is_in_it(tmp_path: Path) -> None:
    status, said = spinemat("bag", "info", _foreign(tmp_path))
    assert status == 0 and "/chatter" in said


def test_an_older_version_is_read_with_its_own_definitions(tmp_path: Path) -> None:
    """Without a field that came later, in SQLite, with metadata of an older version."""
    texts = message_texts()
    kind = "spinemat_interfaces/msg/SessionState"
    old = "\n".join(
        line for line in texts[kind].splitlines() if "strength" not in line and "level" not in line
    )
    definitions = Definitions({kind: old})
    text, digest = definitions.get(kind)
    with Writer(tmp_path / "old", version=8, storage_plugin=StoragePlugin.SQLITE3) as bag:
        connection = bag.add_connection("/mat/session/state", kind, msgdef=text, rihs01=digest)
        raw = serialize_message(SessionState(phase=3, session_id="s1", detail="words"))
        store = definitions._store
        message = store.types[kind](
            header=store.types["std_msgs/msg/Header"](
                stamp=store.types["builtin_interfaces/msg/Time"](sec=1, nanosec=0), frame_id=""
            ),
            **{f: 0.5 for f in ("progress", "time_left", "force")},
            phase=3, session_id="s1", folder="", programme="demo", detail="words",
        )  # fmt: skip
        older = store.serialize_cdr(message, kind).tobytes()
        assert older != raw
        bag.write(connection, 10**9, older)
    read = Bag(tmp_path / "old")
    rows = table(read, "session/state")
    assert rows.loc[0, "phase"] == "SCAN" and rows.loc[0, "detail"] == "words"
    assert "strength" not in rows
    assert figures(read)["programme"] == "demo"


@pytest.mark.parametrize("others", [3, 5000])
def test_messages_that_are_not_what_their_definition_says_are_left_out(
    tmp_path: Path, others: int
) -> None:
    """Of a tool that stored old messages with new definitions; no length in them is believed."""
    kind = "spinemat_interfaces/msg/Contour"
    text = message_texts()[kind].replace("float64 kyphosis ", "float64 fold\nfloat64 kyphosis ")
    assert "fold" in text
    wrong, right = Definitions({kind: text}), Definitions(message_texts())
    contour = Contour(kyphosis=0.4, method="felt " * 20, levels=["T1", "T12"])
    state = serialize_message(SessionState(phase=3, session_id="s1"))
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as bag:
        for topic, definitions, raw in (
            ("contour", wrong, serialize_message(contour)), ("session/state", right, state),
        ):  # fmt: skip
            of = kind if topic == "contour" else "spinemat_interfaces/msg/SessionState"
            msgdef, digest = definitions.get(of)
            to = bag.add_connection(f"/mat/{topic}", of, msgdef=msgdef, rihs01=digest)
            for i in range(others):
                bag.write(to, i * 10**7, raw)
    why = "contour: a message is not what its definition says"
    status, said = spinemat("bag", "export", tmp_path / "bag", "--out", tmp_path / "tables")
    assert status == 0 and why in said and "messages are left out" in said
    assert [path.stem for path in (tmp_path / "tables").iterdir()] == ["session_state"]
    with pytest.raises(BagError, match=why):
        arrays(Bag(tmp_path / "bag"), "contour")


def test_kill_9_costs_less_than_a_second(tmp_path: Path) -> None:
    code = """
import sys
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.serialization import serialize_message
from rclpy.signals import SignalHandlerOptions
from std_msgs.msg import Header
from spinemat_interfaces.msg import DriveState
from spinemat_recording.bag import Definitions, SessionFolder
from spinemat_recording.node import bag_topic, message_texts
from spinemat_ros.codec import stamp
folder = SessionFolder(sys.argv[1], Definitions(message_texts()))
topic = bag_topic("drive/state", "/mat/drive/state")
for k in range(1000):
    message = DriveState(header=Header(stamp=stamp(4_000_000 * k)), cycle=k)
    folder.write(topic, 4_000_000 * k, serialize_message(message))
print("ready", flush=True)
sys.stdin.read()
"""
    line = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(
        line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGKILL)
    bag = Bag(tmp_path)
    cycles = arrays(bag, "drive/state", ["cycle"])["cycle"]
    assert (np.diff(cycles) == 1).all() and cycles[0] == 0
    assert 0 < (999 - cycles[-1]) * 0.004 <= 1.0
    assert "cut short" in bag.problems[0]
    with (tmp_path / "bag" / "bag.mcap").open("rb") as data:  # and `mcap`'s reader of streams
        kinds: list[str] = []
        with pytest.raises(EndOfFile):
            kinds.extend(type(r).__name__ for r in StreamReader(data, validate_crcs=True).records)
    assert kinds.count("Message") == cycles.size


def test_what_is_said_while_drive_time_stands_still_is_in_the_file_soon(tmp_path: Path) -> None:
    """Such as why the mat stopped: the process may be killed right after it."""
    made = Background(lambda say: SessionFolder(tmp_path, Definitions(message_texts())))
    topic = bag_topic("safety/state", "/mat/safety/state")
    begun = time.monotonic()
    for _ in range(3):
        made.write(topic, 0, serialize_message(SafetyState(cause="drive silent")))
    file = tmp_path / "bag" / "bag.mcap"
    while not file.exists() or not scan(file).chunks:
        assert time.monotonic() - begun < 10.0, "nothing is in the file"
    assert Bag(tmp_path).counts == {"/mat/safety/state": 3}  # while the writer lives
    folder = made.close()
    assert folder is not None and folder.messages == 3 and not folder.failure


# ---- a slow disk, profiles ---------------------------------------------------------------


def test_a_slow_disk_drops_with_a_count_and_closes_cleanly(tmp_path: Path) -> None:
    gate = threading.Event()

    class Slow(SessionFolder):
        def write(self, topic: BagTopic, time: int, data: bytes) -> None:
            gate.wait()
            super().write(topic, time, data)

    made = Background(lambda say: Slow(tmp_path, Definitions(message_texts())), room=100_000)
    topic = bag_topic("drive/state", "/mat/drive/state")
    for k in range(500):  # never waits, whatever the disk does
        made.write(topic, k, serialize_message(DriveState(force=doubles(np.zeros(26)))))
    news = made.news()
    assert len(news) == 1 and "too slow" in news[0]
    gate.set()
    folder = made.close()
    assert folder is not None and not folder.failure
    assert folder.messages > 0 and folder.messages + made.dropped[topic.name] == 500
    with Reader(tmp_path / "bag") as bag:
        assert bag.message_count == folder.messages


def test_a_recorder_that_is_told_to_end_again_still_closes_its_bag(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second signal comes while it waits for the bag."""
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "OFF")  # nobody turns it nor meets it
    rclpy.init(args=["--ros-args", "-p", f"folder:={tmp_path}"])
    recorder = Recorder()
    try:
        assert recorder._folder is not None
        with monkeypatch.context() as patch, pytest.raises(SystemExit):
            patch.setattr(recorder._folder, "close", lambda: sys.exit(130))
            recorder.close()
        recorder.close()
    finally:
        recorder.destroy_node()
        rclpy.try_shutdown()
    assert (tmp_path / "bag" / "metadata.yaml").is_file()


def test_profiles_hold_each_other() -> None:
    assert PROFILES["minimal"] < PROFILES["clinical"] < PROFILES["all"]
    assert PROFILES["all"] == {name for name, topic in TOPICS.items() if topic.recorded}
    assert not any(name.startswith("drive/") for name in PROFILES["clinical"])


# ---- again, and many ---------------------------------------------------------------------


def test_a_rerun_tells_what_differs(session: Path) -> None:
    """Invented data: no supervisor has ever judged them, and the rerun says so."""
    bag = Bag(session)
    found = rerun(bag, layout_of(bag))
    assert found.comparisons["safety/state"].compared > 100
    assert not found.equal and found.comparisons["drive/permit"].differing > 0
    assert any("scans are not run again" in note for note in found.notes)
    assert found.speed("safety") > 0.0
    MadeUpSession(LAYOUT, session.with_name("bare"), 1.0).write()
    status, said = spinemat("bag", "rerun", session.with_name("bare"))
    assert status == 1 and "this bag carries none (--mat)" in said


def test_many_bags_by_dask_equal_one_process(session: Path, tmp_path: Path) -> None:
    for k in range(3):
        shutil.copytree(session, tmp_path / f"s{k}")
    _file(tmp_path, "bad.mcap", b"nothing")
    paths = find_bags([tmp_path])
    assert [p.name for p in paths] == ["bad.mcap", "s0", "s1", "s2"]
    told: list[int] = []
    alone = analyse(paths, jobs=1)
    together = analyse(paths, jobs=2, progress=lambda done, total: told.append(done))
    assert told[-1] == len(paths)
    pd.testing.assert_frame_equal(alone, together)
    assert (alone["error"] != "").sum() == 1
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster:
        pd.testing.assert_frame_equal(alone, analyse(paths, address=cluster.scheduler_address))


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "nonsense"])
def test_a_cluster_that_does_not_answer_is_one_line(
    session: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setattr("spinemat.analysis.many.ANSWER", "1s")
    status, said = spinemat("bag", "analyse", session, "--address", address)
    (line,) = said.strip().splitlines()
    assert status == 1 and f"--address: '{address}'" in line


# ---- played ------------------------------------------------------------------------------


def test_a_namespace_takes_in_every_topic_and_frame(session: Path) -> None:
    bag, replay = Bag(session), PlayOptions(namespace="/room/replay/")
    assert "/diagnostics" in bag.topics  # absolute, as the table of topics has it
    assert {replay.target(bag, name) for name in bag.topics} == {
        f"/room/replay/{bag.relative(name).lstrip('/')}" for name in bag.topics
    }
    assert {PlayOptions().target(bag, name) for name in bag.topics} == set(bag.topics)
    raw = {channel.name: raw for channel, _, raw in bag.messages()}
    for name in ("/mat/contour", "/mat/drive/state", "/diagnostics"):
        kind = TOPICS[bag.relative(name)].type
        before = deserialize_message(raw[name], kind)
        after = deserialize_message(reframed(raw[name], kind, "mat/", "room/replay/"), kind)
        assert (before.header.frame_id, after.header.frame_id) == ("mat/mat", "room/replay/mat")
        after.header.frame_id = "mat/mat"
        assert after == before
        assert reframed(raw[name], kind, "mat/", "mat/") is raw[name]
        assert reframed(raw[name], kind, "bed/", "x/") is raw[name]


class Wire:
    """In the place of node and executor: what is published, by topic, and who else publishes."""

    def __init__(self, *others: str) -> None:
        self.said: dict[str, list[Any]] = {}
        self._others = others

    def create_publisher(self, kind: Any, topic: str, _qos: Any) -> Any:
        heard = self.said.setdefault(topic, [])
        return SimpleNamespace(
            msg_type=kind,
            publish=heard.append,
            get_subscription_count=lambda: 1,
            wait_for_all_acked=lambda _limit: True,
        )

    def count_publishers(self, topic: str) -> int:
        return (topic in self.said) + (topic in self._others)

    def count_subscribers(self, _topic: str) -> int:
        return 1

    def spin_once(self, timeout_sec: float) -> None:
        """Nothing arrives."""

    def destroy_node(self) -> None: ...

    def shutdown(self) -> None: ...


def played(bag: Bag, options: PlayOptions, wire: Any) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("spinemat_recording.play.LOOK_ROUND", 0.0)
        player = _Player(bag, options, wire, wire, None)
        return player.run(lambda: True, lambda _seconds: None)


def test_a_bag_is_played_in_its_namespace_beside_another_robot(
    session: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which tells `/diagnostics`, as everybody does."""
    profiles: list[str] = []
    monkeypatch.setattr(
        "spinemat_recording.play.parse_qos", lambda text: profiles.append(text) or parse_qos(text)
    )
    bag, wire = Bag(session), Wire("/diagnostics", "/mat/drive/state")
    start = bag.seconds - 1.1
    sent = played(bag, PlayOptions(100.0, start=start, clock=True, namespace="/replay"), wire)
    clock = wire.said.pop("/replay/clock")  # where nodes that are started here look for it
    assert len(clock) >= 100
    assert len(profiles) <= 2 * len(bag.topics)  # it takes 3 ms: not for every message
    assert set(wire.said) == {
        f"/replay/{bag.relative(name).lstrip('/')}" for name, count in bag.counts.items() if count
    }
    assert sum(len(messages) for messages in wire.said.values()) == sent
    state = deserialize_message(wire.said["/replay/drive/state"][-1], DriveState)
    assert state.header.frame_id == "replay/mat"
    for space, other in (("", "/mat/safety/state"), ("replay", "/replay/diagnostics")):
        with pytest.raises(Busy, match=f"{other} is published already"):
            played(bag, PlayOptions(namespace=space), Wire(other))


def test_the_clock_is_offered_where_others_look_for_it(session: Path) -> None:
    """`/clock` belongs to all: nobody else's is disturbed."""
    bag, wire = Bag(session), Wire()
    options = PlayOptions(100.0, start=bag.seconds - 1.1, clock=True, clock_topic="/clock")
    played(bag, options, wire)
    assert len(wire.said["/clock"]) >= 100 and "/mat/clock" not in wire.said
    with pytest.raises(Busy, match=r"/clock is published already.*--clock-topic"):
        played(bag, options, Wire("/clock"))
    for field in ("clock-topic", "namespace"):
        status, said = spinemat("bag", "play", session, f"--{field}", "not a name")
        assert status == 1 and f"{field.replace('-', '_')}: 'not a name' is not allowed" in said


class Listener:
    """Hears the topics of a mat, in a thread."""

    def __init__(self, *topics: str) -> None:
        self.heard: dict[str, list[Any]] = {topic: [] for topic in topics}
        self._context = Context()
        rclpy.init(context=self._context, signal_handler_options=SignalHandlerOptions.NO)
        self.node = Node("listener", namespace="replay", context=self._context)
        for topic in topics:
            kind, qos = TOPICS[topic].type, EVERY if TOPICS[topic].recorded else 10
            self.node.create_subscription(kind, topic, self.heard[topic].append, qos)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._executor.spin)

    def __enter__(self) -> Listener:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown()
        self._thread.join()
        self.node.destroy_node()
        rclpy.shutdown(context=self._context)


@pytest.mark.graph
def test_a_played_bag_is_heard_as_it_was(session: Path) -> None:
    made_up = MadeUpSession(LAYOUT, session, SECONDS)
    bag = Bag(session)
    start = 9.0
    options = PlayOptions(
        rate=4.0, start=start, topics=("drive/state", "stiffness"), clock=True, namespace="/replay"
    )
    with Listener("drive/state", "stiffness", "clock") as listener:
        sent = play(bag, options)
        states, maps = listener.heard["drive/state"], listener.heard["stiffness"]
        end = time.monotonic() + 10.0
        while len(states) + len(maps) < sent and time.monotonic() < end:
            time.sleep(0.05)
    expected = made_up.t >= bag.span[0] * 1e-9 + start - 1e-9
    got = np.array([m.force for m in states])
    np.testing.assert_array_equal(got, made_up.measured[expected])
    assert len(maps) == 2  # the one before the start comes first, as for a late joiner
    assert {m.header.frame_id for m in [*states, *maps]} == {"replay/mat"}
    clocks = [seconds(m.clock) for m in listener.heard["clock"]]
    assert clocks == sorted(clocks) and clocks[-1] == pytest.approx(made_up.t[-1], abs=0.02)


@pytest.mark.graph
def test_nothing_is_played_beside_a_mat_that_is_up(session: Path) -> None:
    with Listener() as listener:
        listener.node.create_publisher(DriveState, "drive/state", 10)
        with pytest.raises(Busy, match=r"/replay/drive/state is published already"):
            play(Bag(session), PlayOptions(namespace="replay"))


# ---- the command line, the layout, the notebook ------------------------------------------


def test_commands_say_what_they_did(session: Path, tmp_path: Path) -> None:
    status, said = spinemat("bag", "info", session, "--json", tmp_path / "info.json")
    assert status == 0 and "/mat/drive/state" in said and "id p1" in said
    assert json.loads((tmp_path / "info.json").read_text())["problems"] == []
    line = ("--out", tmp_path / "t", "--topic", "events", "--format", "csv")
    status, said = spinemat("bag", "export", session, *line)
    assert status == 0 and "1 tables" in said
    status, said = spinemat("bag", "export", session, "--topic", "event")
    assert status == 1 and "'event' is not allowed" in said
    status, said = spinemat("bag", "analyse", session, "--jobs", 1, "--out", tmp_path / "a.csv")
    assert status == 0 and len(pd.read_csv(tmp_path / "a.csv")) == 1
    status, said = spinemat("bag", "report", session / "bag" / "bag.mcap", "--out", tmp_path / "r")
    assert status == 0, said
    assert (tmp_path / "r" / "report.html").stat().st_size > 100_000
    status, said = spinemat("bag", "play", session, "--rate", "0")
    assert status == 1 and "rate: 0.0 is not allowed; allowed: 0.01 to 100" in said


def test_a_report_deletes_nothing_but_its_own_copy(
    session: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a recording without a session, as `record bag` leaves it."""
    monkeypatch.setattr("spinemat_recording.report.write_report", lambda folder, *_: folder)
    kept = tmp_path / "kept"
    shutil.copytree(session / "bag", kept / "bag")
    content = (kept / "bag/bag.mcap").read_bytes()
    (kept / "bag").rename(kept / "bag_2")  # and where the folder is another part of it
    shutil.copytree(kept / "bag_2", kept / "bag")
    for source in (kept, kept / "bag", kept / "bag/bag.mcap", kept / "bag_2"):
        status, said = spinemat("bag", "report", source, "--out", kept)
        assert status == 1 and f"out: '{kept}' is not allowed" in said
    os.symlink(kept, tmp_path / "link")
    status, said = spinemat("bag", "report", kept, "--out", tmp_path / "link")
    assert status == 1 and "is not allowed" in said
    assert (kept / "bag/bag.mcap").read_bytes() == content
    assert (kept / "bag_2/bag.mcap").is_file()
    for _ in range(2):  # a report made anew takes the place of the old one
        status, said = spinemat("bag", "report", kept, "--out", tmp_path / "report")
        assert status == 0, said
    assert Bag(tmp_path / "report").counts == Bag(session).counts
    work = tmp_path / "bag.work"
    (kept / "bag").rename(work)  # what mending works in must not be the recording either
    status, said = spinemat("bag", "mend", work, "--out", tmp_path / "bag")
    assert status == 1 and "a place where nothing is" in said
    assert (work / "bag.mcap").read_bytes() == content


def test_two_recordings_are_compared(session: Path, tmp_path: Path) -> None:
    MadeUpSession(LAYOUT, tmp_path / "b", 3.0, stop=False).write()
    line = ("bag", "compare", session, tmp_path / "b", "--json", tmp_path / "c.json")
    status, said = spinemat(*line)
    assert status == 0 and "difference" in said and "L4" in said
    found = json.loads((tmp_path / "c.json").read_text())
    assert found["figures"]["stops"] == {"a": 1, "b": 0, "difference": -1}
    assert len(found["levels"]) == 16 + 2
    status, said = spinemat("bag", "compare", session, tmp_path / "nowhere")
    assert status == 1 and "no such file" in said and "Traceback" not in said


def test_a_cut_recording_is_mended_and_a_whole_one_left_alone(copy: Path, tmp_path: Path) -> None:
    status, said = spinemat("bag", "mend", copy)
    assert status == 0 and "is whole: nothing to do" in said
    file = copy / "bag" / "bag.mcap"
    os.truncate(file, file.stat().st_size // 2)
    status, said = spinemat("bag", "mend", copy, "--out", tmp_path / "new")
    assert status == 0 and f"messages: {tmp_path / 'new'}" in said and "cut short" in said
    with Reader(tmp_path / "new") as bag:
        assert f"{bag.message_count} messages" in said
    status, said = spinemat("bag", "mend", copy, "--out", tmp_path / "new")
    assert status == 1 and "is not allowed" in said
    status, said = spinemat("bag", "mend", copy)
    assert status == 0 and (copy / "bag.cut" / "bag.mcap").is_file()
    assert Bag(copy).closed


def test_a_recording_is_played_in_a_loop_until_ctrl_c(
    session: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(list[Any]):
        """Ctrl-C comes with the first message of the third time."""

        def append(self, message: Any) -> None:
            super().append(message)
            if len(self) == 2 * once + 1:
                signal.raise_signal(signal.SIGINT)

    bag, wire = Bag(session), Wire()
    states = wire.said.setdefault("/x/drive/state", Interrupted())
    start = bag.seconds - 0.5
    once = sum(
        at >= bag.span[0] + round(start * 1e9) for _, at, _ in bag.messages({"/mat/drive/state"})
    )
    monkeypatch.setattr(wire, "count_publishers", lambda _topic: 0)
    for name, value in {
        "LOOK_ROUND": 0.0, "Node": lambda *_, **__: wire, "make_executor": lambda _node: wire,
        "rclpy.init": lambda **_: None, "rclpy.try_shutdown": lambda: None,
    }.items():  # fmt: skip
        monkeypatch.setattr(f"spinemat_recording.play.{name}", value)
    options = ("--loop", "--rate", 20, "--start", start, "--topic", "drive/state")
    status, said = spinemat("bag", "play", session, *options, "--namespace", "/x")
    assert status == 130 and f"{len(states)} messages published" in said
    assert len(states) == 2 * once + 1
    first, again = (deserialize_message(states[k], DriveState) for k in (0, once))
    assert first == again


def test_the_layout_for_foxglove_names_what_bags_hold(session: Path) -> None:
    """By the types of the topics; the test of the demo looks into what it recorded."""
    layout = foxglove.layout()
    bag = Definitions(message_texts())
    panels = set(layout["configById"])
    used = set(re.findall(r'"([A-Za-z0-9]+!\w+)"', json.dumps(layout["layout"])))
    assert used == panels
    found = list(foxglove.paths(layout["configById"]))
    assert len(found) > 20
    for path in found:
        topic, steps = foxglove.split(path)
        name = topic.removeprefix("/mat/")
        assert name in PROFILES["all"] or topic in foxglove.LIVE, path
        if steps:
            kind = bag_topic(name, name).type
            bag.get(kind)
            assert steps[0][0] in flat_fields(bag._store, kind), path
    recorded = Bag(session)
    there = [path for path in found if foxglove.split(path)[0] in recorded.topics]
    assert len(there) > 20 and foxglove.wrong_paths(recorded, there) == []
    wrong = [
        "/mat/contour.zz[:]",
        "/mat/fingers/state.force[26]",
        "/mat/fingers/state.force",
        "/x",
    ]
    assert foxglove.wrong_paths(recorded, wrong) == wrong


def test_the_mat_in_foxglove_stands_where_the_messages_say() -> None:
    """Its model's links, with the prefix of the layer, are the frames of the messages."""
    panel = foxglove.layout()["configById"]["3D!mat"]
    model = ElementTree.fromstring(expand_urdf(ROOT / "urdf/mat.urdf.xacro", MAT))
    links = {panel["layers"]["mat"]["framePrefix"] + e.attrib["name"] for e in model.iter("link")}
    assert panel["followTf"] in links
    joints = {e.attrib["name"] for e in model.iter("joint")}
    assert joints >= set(LAYOUT.joint_names)


def test_the_notebook_runs(session: Path) -> None:
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    from jupyter_client.kernelspec import NoSuchKernel

    notebook = nbformat.read(ROOT / "notebooks/session.ipynb", 4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPINEMAT_BAG", str(session))
        patch.delenv("MPLBACKEND", raising=False)
        try:
            nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
        except NoSuchKernel:
            pytest.skip("there is no Jupyter kernel for this Python")
    outputs = [o for cell in notebook.cells for o in cell.get("outputs", [])]
    assert sum("image/png" in o.get("data", {}) for o in outputs) == 2
    assert "messages" in outputs[0]["text"]


def test_every_part_names_fields_that_exist() -> None:
    texts = message_texts()
    for kind, parts in PARTS.items():
        text = texts.get(f"spinemat_interfaces/msg/{kind}")
        for part in parts if text else ():
            for field in part.fields:
                assert re.search(rf"\s{field}\b", text or ""), (kind, field)
