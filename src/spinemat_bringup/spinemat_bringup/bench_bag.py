"""What recording costs, and how fast recordings are read, exported, run again and analysed.

Everything starts from a real session: one that is given, or one of the demo that is recorded
first. Its messages, with new stamps, are what the recorder gets in real time, and what the bag of
ten minutes is made of.
"""

from __future__ import annotations

import os
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import rclpy
from rclpy.node import Node
from rich.console import Console

from spinemat.analysis import Bag, analyse, export, layout_of, rerun
from spinemat.analysis.bags import SECOND, Channel
from spinemat.errors import InvalidInput
from spinemat_bringup.demo import DemoOptions, private_domain, run_demo
from spinemat_bringup.outcome import Outcome
from spinemat_recording.bag import Definitions, SessionFolder
from spinemat_recording.node import bag_topic, message_texts
from spinemat_ros.spin import make_executor
from spinemat_ros.topics import TOPICS

CPU_LIMIT = 0.15  # of a core
EXPORT_LIMIT = 5.0  # s for ten minutes
ESTIMATORS_LIMIT, SAFETY_LIMIT = 5.0, 20.0  # times real time
SHARE_LIMIT = 0.6  # of one core's time, on two
KILL_LIMIT = 1.0  # s that kill -9 may cost
CYCLE = 4_000_000  # ns
LONG = 600.0  # s of the bag that is exported
BAGS, SLICE = 100, 60.0  # how many are analysed, s of each
ROUNDS = 3  # of one core and two
VARIANTS = 1000  # recorded messages per topic that the recorder gets in turn
PERIODS = {  # drive cycles between messages; heartbeats: four nodes
    "drive/state": 1,
    "drive/command": 1,
    "truth/state": 1,
    "drive/permit": 2,
    "heartbeat": 2.5,
    "hand_control": 5,
    "fingers/state": 5,
    "joint_states": 5,
    "safety/state": 25,
    "session/state": 25,
    "breathing": 25,
    "guarding": 25,
    "presence": 25,
    "pressure": 25,
    "stiffness/running": 250,
    "truth/pressure": 250,
}
RECORDER = (
    sys.executable, "-m", "spinemat_recording.node", "--ros-args", "-r", "__ns:=/mat"
)  # fmt: skip
_STAMP = struct.Struct("<iI")
_LENGTH = struct.Struct("<I")
_CYCLE = struct.Struct("<Q")


def bag_bench(
    source: Path | None,
    seconds: float,
    console: Console,
    wanted: Callable[[], bool] = lambda: True,
) -> Outcome:
    """Measure everything.

    Args:
        source: a recorded session; None: one of the demo is recorded first.
        seconds: of recording in real time.
        console: where to say what happens.
        wanted: false once the user asks to end.
    """
    outcome = Outcome("bench bag")
    begun = time.monotonic()
    with TemporaryDirectory(prefix="spinemat-bench-") as name:
        work = Path(name)
        source = source or _session(work, console, wanted)
        bag = Bag(source)
        outcome.details |= {"source_seconds": bag.seconds, "recorded_seconds": seconds}
        for words, measure in (
            (f"recording everything at 250 Hz for {seconds:g} s", _record),
            ("ending the recorder by kill -9", _kill),
            ("estimators and rules again", _rerun),
            ("tables of ten minutes", _export),
            (f"analysing {BAGS} recordings", _many),
        ):
            if not wanted():
                break
            console.print(words)
            measure(outcome, bag, work, seconds)
    outcome.seconds = time.monotonic() - begun
    return outcome


def _session(work: Path, console: Console, wanted: Callable[[], bool]) -> Path:
    console.print("recording a session of the demo")
    outcome = run_demo(DemoOptions(out=work / "sessions"), console, lambda _state: None, wanted)
    return Path(outcome.details["folder"])


# ---- recording ---------------------------------------------------------------------------


@dataclass
class _Sent:
    """What was published, and what the recorder's process used meanwhile."""

    counts: dict[str, int]
    last: int  # ns, stamp of the last drive state
    cpu: float  # share of a core
    late: float  # s, the latest that a cycle was published


class _Source:
    """Recorded messages of every topic, in turn, with stamps and cycles of now."""

    def __init__(self, bag: Bag) -> None:
        self.kept: dict[str, list[bytes]] = {name: [] for name in PERIODS}
        names = {bag.full(name): name for name in PERIODS}
        for channel, _, raw in bag.messages(set(names)):
            self.kept[names[channel.name]].append(raw)
        for name, raws in self.kept.items():
            middle = max(0, len(raws) // 2 - VARIANTS // 2)  # while a rhythm runs
            self.kept[name] = raws[middle : middle + VARIANTS]
        self._turns = dict.fromkeys(PERIODS, 0)

    def due(self, cycle: int) -> Iterator[str]:
        """Yield the topics of a drive cycle."""
        for name, period in PERIODS.items():
            if self.kept[name]:
                times = int((cycle + 1) / period) - int(cycle / period)
                yield from [name] * times

    def next(self, name: str, cycle: int) -> bytes:
        """Return the next message of a topic, as of a drive cycle."""
        raws = self.kept[name]
        raw = bytearray(raws[self._turns[name] % len(raws)])
        self._turns[name] += 1
        _STAMP.pack_into(raw, 4, *divmod(cycle * CYCLE, SECOND))
        if name == "drive/state":
            (length,) = _LENGTH.unpack_from(raw, 12)
            _CYCLE.pack_into(raw, 4 + (12 + length + 7) // 8 * 8, cycle)
        return bytes(raw)


def _record(outcome: Outcome, bag: Bag, work: Path, seconds: float) -> None:
    folder = work / "recorded"
    sent = _drive(bag, folder, seconds, signal.SIGINT)
    counts = Bag(folder).counts
    missing = {n: k - counts.get(f"/mat/{n}", 0) for n, k in sent.counts.items()}
    outcome.details |= {
        "messages_per_s": sum(sent.counts.values()) / seconds,
        "missing_by_topic": {n: k for n, k in missing.items() if k},
        "latest_cycle_s": sent.late,
        "recorded_bytes_per_s": Bag(folder).size / seconds,
    }
    outcome.check("recorder_share_of_a_core", sent.cpu, "<=", CPU_LIMIT)
    outcome.check("messages_dropped", sum(max(0, k) for k in missing.values()), "==", 0)


def _kill(outcome: Outcome, bag: Bag, work: Path, _seconds: float) -> None:
    folder = work / "killed"
    sent = _drive(bag, folder, 8.0, signal.SIGKILL)
    left = Bag(folder)
    lost = (sent.last - left.span[1]) / SECOND
    outcome.details["killed_messages_read"] = sum(left.counts.values())
    outcome.check("lost_by_kill_9_s", lost, "<=", KILL_LIMIT)


def _drive(bag: Bag, folder: Path, seconds: float, end: signal.Signals) -> _Sent:
    """Publish in real time to a recorder in a process of its own, and end that by a signal."""
    private_domain()
    source = _Source(bag)
    rclpy.init(args=[])
    node = Node("bench", namespace="mat", use_global_arguments=False)
    executor = make_executor(node)
    recorder = subprocess.Popen(
        [*RECORDER, "-p", f"folder:={folder}"],
        stderr=subprocess.DEVNULL,
    )
    try:
        publishers = {
            name: node.create_publisher(TOPICS[name].type, name, TOPICS[name].qos)
            for name, raws in source.kept.items()
            if raws
        }
        while not all(p.get_subscription_count() for p in publishers.values()):
            executor.spin_once(timeout_sec=0.05)
            if recorder.poll() is not None:
                raise RuntimeError("the recorder ended")
        cycles = round(seconds * SECOND / CYCLE)
        sent = _Sent(dict.fromkeys(publishers, 0), 0, 0.0, 0.0)
        start, used = time.monotonic(), _cpu(recorder.pid)
        for cycle in range(1, cycles + 1):
            left = start + cycle * CYCLE / SECOND - time.monotonic()
            if left > 0.0:
                time.sleep(left)
            sent.late = max(sent.late, -left)
            for name in source.due(cycle):
                publishers[name].publish(source.next(name, cycle))
                sent.counts[name] += 1
        took = time.monotonic() - start
        sent.cpu = (_cpu(recorder.pid) - used) / took
        sent.last = cycles * CYCLE
        if end != signal.SIGKILL:
            for publisher in publishers.values():
                publisher.wait_for_all_acked(rclpy.duration.Duration(seconds=10.0))
        recorder.send_signal(end)
        recorder.wait(30.0)
        return sent
    finally:
        if recorder.poll() is None:
            recorder.kill()
            recorder.wait()
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown()


def _cpu(pid: int) -> float:
    """Processor time of a process so far, s."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# ---- reading -----------------------------------------------------------------------------


def _rerun(outcome: Outcome, bag: Bag, _work: Path, _seconds: float) -> None:
    layout = layout_of(bag)
    whole = rerun(bag, layout)
    alone = rerun(bag, layout, ("safety",))
    differing = {n: c.differing for n, c in whole.comparisons.items() if c.differing}
    outcome.details |= {
        "compared": {n: c.compared for n, c in whole.comparisons.items()},
        "differing": differing,
        "notes": whole.notes,
    }
    # by processor time: other work on the machine makes it no slower than it is
    used = whole.cpu_seconds["estimators"], alone.cpu_seconds["safety"]
    outcome.details |= {
        "estimators_times_real_time_by_the_clock": whole.speed("estimators"),
        "safety_rules_times_real_time_by_the_clock": alone.speed("safety"),
    }
    outcome.check("estimators_times_real_time", bag.seconds / used[0], ">=", ESTIMATORS_LIMIT)
    outcome.check("safety_rules_times_real_time", bag.seconds / used[1], ">=", SAFETY_LIMIT)
    outcome.check("equal_to_the_last_digit", whole.equal, "==", True)


def _export(outcome: Outcome, bag: Bag, work: Path, _seconds: float) -> None:
    long = Bag(_lengthened(bag, work / "long", LONG))
    took = []
    for run in range(3):
        begun = time.perf_counter()
        files = export(long, work / f"tables_{run}")
        took.append(time.perf_counter() - begun)
        shutil.rmtree(work / f"tables_{run}")
    outcome.details |= {
        "export_seconds": took,
        "exported_bag_seconds": long.seconds,
        "exported_rows": sum(files.values()),
        "exported_bag_bytes": long.size,
    }
    outcome.check("export_of_ten_minutes_s", statistics.median(took), "<=", EXPORT_LIMIT)


def _lengthened(bag: Bag, folder: Path, seconds: float) -> Path:
    """Write a bag's messages again and again, one later than the other, until it is long."""
    definitions = Definitions(message_texts())
    writer = SessionFolder(folder, definitions, about=dict(bag.about))
    topics: dict[str, Any] = {}
    first, last = bag.span
    turn = 0
    while turn * (last - first) < seconds * SECOND:
        shift = turn * (last - first)
        for channel, at, raw in bag.messages():
            if at - first + shift > seconds * SECOND:
                break
            name = bag.relative(channel.name)
            if name not in topics:
                topics[name] = bag_topic(name, channel.name) if name in TOPICS else None
                if topics[name] is not None:
                    _same_definition(definitions, bag, channel)
            if topics[name] is not None:
                writer.write(topics[name], at + shift, _shifted(raw, shift) if shift else raw)
        turn += 1
    writer.close()
    writer.close_lines()
    return folder


def _same_definition(definitions: Definitions, bag: Bag, channel: Channel) -> None:
    if definitions.get(channel.type)[0] != channel.definition:
        allowed = f"a session recorded with the messages of today; {channel.type} was another"
        raise InvalidInput("source", str(bag.path), allowed)


def _shifted(raw: bytes, shift: int) -> bytes:
    """Return a message with its header's stamp moved by `shift` ns; Empty has none."""
    if len(raw) < 16:
        return raw
    sec, nanosec = _STAMP.unpack_from(raw, 4)
    later = bytearray(raw)
    _STAMP.pack_into(later, 4, *divmod(sec * SECOND + nanosec + shift, SECOND))
    return bytes(later)


def _many(outcome: Outcome, bag: Bag, work: Path, _seconds: float) -> None:
    one = _lengthened(bag, work / "slice", SLICE)
    paths = []
    for number in range(BAGS):
        place = work / "many" / f"{number:03d}"
        shutil.copytree(one, place, copy_function=os.link)
        paths.append(place)
    rounds = []
    for _ in range(ROUNDS):  # one beside the other: a machine's speed changes in a minute
        took = {}
        for jobs in (1, 2):
            begun = time.perf_counter()
            rows = analyse(paths, jobs=jobs)
            took[jobs] = time.perf_counter() - begun
            if (rows["error"] != "").any():
                raise RuntimeError(rows["error"].max())
        rounds.append(took)
    outcome.details["analysis_seconds"] = rounds
    share = statistics.median(took[2] / took[1] for took in rounds)
    outcome.check("two_cores_over_one", share, "<=", SHARE_LIMIT)
