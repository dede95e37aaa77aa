"""One session's folder on disk: `bag/` (rosbag2, MCAP) and `events.jsonl`.

`SessionFolder` never raises into its caller. The first failure to write (disk full, folder not
writable) ends the bag: what was complete is closed properly, everything later is counted as
dropped, and the reason stays in `failure`. No ROS in here: messages arrive serialized.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import yaml
from rosbags.interfaces import (
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2.metadata import dump_qos_v9
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from spinemat_recording.mcap_file import McapFile

BAG_VERSION = 9  # of the metadata, as ROS 2 Jazzy writes it
RESERVE = 4 << 20  # bytes kept free for the bag's index when the disk runs full: two hours
HELD = 0.8  # s of steady time that messages may wait in a block (engineering choice)
SPLIT_BYTES = 2 << 30  # a new file begins then …
SPLIT_SECONDS = 7200.0  # … or then (engineering choices: longer than any session)
_FOREVER = QosTime(0, 0)
_NEXT_TYPE = "=" * 80 + "\nMSG: "


@dataclass(frozen=True)
class BagTopic:
    """Name and type of a topic as they are written into a bag."""

    name: str  # absolute, such as /mat/drive/state
    type: str  # such as spinemat_interfaces/msg/DriveState
    depth: int
    latched: bool
    relative: str = ""  # its name in the table of topics
    best_effort: bool = False  # else reliable

    @property
    def qos(self) -> Qos:
        """The offered quality of service in the words of rosbag2."""
        return Qos(
            history=QosHistory.KEEP_LAST,
            depth=self.depth,
            reliability=(
                QosReliability.BEST_EFFORT if self.best_effort else QosReliability.RELIABLE
            ),
            durability=QosDurability.TRANSIENT_LOCAL if self.latched else QosDurability.VOLATILE,
            deadline=_FOREVER,
            lifespan=_FOREVER,
            liveliness=QosLiveliness.AUTOMATIC,
            liveliness_lease_duration=_FOREVER,
            avoid_ros_namespace_conventions=False,
        )


class Definitions:
    """Message definitions and their hashes, as a bag embeds them.

    Args:
        messages: text of each `.msg` file that is not part of ROS 2 Jazzy itself, by type name;
            it is embedded as it is, with its comments on units and frames.
    """

    def __init__(self, messages: Mapping[str, str]) -> None:
        self._texts = messages
        self._store = get_typestore(Stores.ROS2_JAZZY)
        types: dict[str, Any] = {}
        for name, text in messages.items():
            types.update(get_types_from_msg(text, name))
        self._store.register(types)
        self._cache: dict[str, tuple[str, str]] = {}

    def get(self, name: str) -> tuple[str, str]:
        """Return the full definition of the type `name` and its RIHS01 hash."""
        if name not in self._cache:
            text, _ = self._store.generate_msgdef(name, ros_version=2)
            first, *others = text.split(_NEXT_TYPE)
            parts = [self._texts.get(name, first)]
            for other in others:
                short, _, body = other.partition("\n")
                package, _, kind = short.partition("/")
                own = self._texts.get(f"{package}/msg/{kind.removeprefix('msg/')}", body)
                parts.append(f"{short}\n{own}")
            whole = _NEXT_TYPE.join(part if part.endswith("\n") else part + "\n" for part in parts)
            self._cache[name] = (whole, self._store.hash_rihs01(name))
        return self._cache[name]


@dataclass(frozen=True)
class Part:
    """One file of a bag that is closed."""

    path: Path
    start: int  # ns
    end: int
    counts: Mapping[str, int]  # by topic


class SessionFolder:
    """Writer of one session's folder. Not thread-safe; made for one thread.

    Args:
        folder: the session's folder; made when it is missing.
        definitions: where message definitions come from.
        about: what the bag is about, by any keys: in a metadata record at the beginning of every
            file, and in `metadata.yaml`. May grow until the bag is closed.
        compress: compress the bag's chunks with zstd.
        split_bytes, split_seconds: size on disk and drive time after which a new file begins.
        on_failure: called once, with one line for people, when writing fails for the first time.

    Attributes:
        messages: messages in the bag.
        dropped: messages and events that could not be written.
        failure: what went wrong first; empty while all is well.
    """

    def __init__(
        self,
        folder: str | Path,
        definitions: Definitions,
        *,
        about: dict[str, str] | None = None,
        compress: bool = True,
        split_bytes: int = SPLIT_BYTES,
        split_seconds: float = SPLIT_SECONDS,
        on_failure: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.folder = Path(folder)
        self.messages = 0
        self.dropped = 0
        self.failure = ""
        self.bag_path = self.folder / "bag"
        self.about = about if about is not None else {}
        self._compress = compress
        self._split = split_bytes, round(split_seconds * 1e9)
        self._on_failure = on_failure
        self._definitions = definitions
        self._topics: dict[str, BagTopic] = {}
        self._channels: dict[str, int] = {}
        self._file: McapFile | None = None
        self._parts: list[Part] = []
        self._lines: IO[str] | None = None
        self._last = 0  # ns, time of the newest message in the bag
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lines = (self.folder / "events.jsonl").open("a", encoding="utf-8")
        except OSError as error:
            self._fail(f"cannot write {self.folder / 'events.jsonl'}: {_reason(error)}")
        try:
            self._open_bag()
        except Exception as error:
            self._rescue()
            self._fail(f"cannot write {self.bag_path}: {_reason(error)}")

    @property
    def size(self) -> int:
        """Bytes of the bag's data files on disk."""
        with contextlib.suppress(OSError):
            return sum(file.stat().st_size for file in self.bag_path.glob("*.mcap"))
        return 0

    def write(self, topic: BagTopic, time: int, data: bytes) -> None:
        """Append one serialized message at `time` (ns of drive time, never going back)."""
        if self._file is None:
            self.dropped += 1
            return
        self._last = time = max(time, self._last)
        self.messages += 1
        try:
            channel = self._channels.get(topic.name) or self._connect(topic)
            if self._file.write(channel, time, data):
                self._maybe_split()
        except Exception as error:  # whatever the storage raises must not reach the session
            self._rescue()
            self._fail(f"cannot write {self.bag_path}: {_reason(error)}")

    def hand_over(self) -> None:
        """Write a block that has waited for long; call it often: drive time may stand still."""
        if self._file is None or self._file.waiting < HELD:
            return
        try:
            self._file.flush()
            self._maybe_split()
        except Exception as error:
            self._rescue()
            self._fail(f"cannot write {self.bag_path}: {_reason(error)}")

    def line(self, entry: Mapping[str, Any]) -> None:
        """Append one JSON object to `events.jsonl`, handed over when this returns."""
        if self._lines is None:
            self.dropped += 1
            return
        try:
            self._lines.write(json.dumps(entry, ensure_ascii=False) + "\n")
            self._lines.flush()
        except (OSError, ValueError) as error:
            self.dropped += 1
            with contextlib.suppress(OSError):
                self._lines.close()
            self._lines = None
            self._fail(f"cannot write {self.folder / 'events.jsonl'}: {_reason(error)}")

    def close(self) -> None:
        """Close the bag; may be called again. `events.jsonl` stays open until `close_lines`."""
        if self._file is None:
            return
        self._release_reserve()
        try:
            self._end_file()
            self._write_metadata()
        except Exception as error:
            self._rescue()
            self._fail(f"cannot close {self.bag_path}: {_reason(error)}")

    def close_lines(self) -> None:
        """Close `events.jsonl`."""
        lines, self._lines = self._lines, None
        if lines is not None:
            with contextlib.suppress(OSError):
                lines.close()

    def _open_bag(self) -> None:
        number = 1
        while self.bag_path.exists():  # an earlier recorder died in this session: keep its part
            number += 1
            self.bag_path = self.folder / f"bag_{number}"
        self.bag_path.mkdir(parents=True)
        self._begin_file()
        with contextlib.suppress(OSError), self._reserve.open("wb") as reserve:
            os.posix_fallocate(reserve.fileno(), 0, RESERVE)

    def _begin_file(self) -> None:
        self._channels.clear()
        path = self.bag_path / f"{self.bag_path.name}.mcap"
        self._file = McapFile(path, "spinemat", self.about, self._compress)
        for topic in self._topics.values():
            self._channels[topic.name] = self._channel(topic)

    def _maybe_split(self) -> None:
        assert self._file is not None
        size, span = self._split
        if self._file.size >= size or self._file.end - self._file.start >= span:
            self._end_file(more=True)
            self._begin_file()

    def _end_file(self, more: bool = False) -> None:
        """Close the file; as soon as there are several, each has its number in its name."""
        assert self._file is not None
        file = self._file
        file.flush()
        file.note("rosbag2", {"serialized_metadata": _yaml(self._metadata([self._part(file)]))})
        file.finish()
        self._file = None
        path = file.path
        if more or self._parts:
            path = path.with_stem(f"{path.stem}_{len(self._parts)}")
            file.path.rename(path)
            file.path = path
        self._parts.append(self._part(file))

    def _part(self, file: McapFile) -> Part:
        names = {number: name for name, number in self._channels.items()}
        counts = {names[number]: count for number, count in file.counts.items()}
        return Part(file.path, file.start if any(counts.values()) else 0, file.end, counts)

    def _write_metadata(self) -> None:
        text = _yaml({"rosbag2_bagfile_information": self._metadata(self._parts)})
        new = self.bag_path / "metadata.yaml.tmp"
        new.write_text(text, encoding="utf-8")
        new.replace(self.bag_path / "metadata.yaml")

    def _metadata(self, parts: list[Part]) -> dict[str, Any]:
        """Return what rosbag2 keeps in its metadata about some files."""
        full = [part for part in parts if any(part.counts.values())]
        start = min((part.start for part in full), default=0)
        end = max((part.end for part in full), default=0)
        return {
            "version": BAG_VERSION,
            "storage_identifier": "mcap",
            "relative_file_paths": [part.path.name for part in parts],
            "duration": {"nanoseconds": end - start},
            "starting_time": {"nanoseconds_since_epoch": start},
            "message_count": sum(sum(part.counts.values()) for part in parts),
            "topics_with_message_count": [
                {
                    "topic_metadata": {
                        "name": topic.name,
                        "type": topic.type,
                        "serialization_format": "cdr",
                        "offered_qos_profiles": dump_qos_v9([topic.qos]),
                        "type_description_hash": self._definitions.get(topic.type)[1],
                    },
                    "message_count": sum(part.counts.get(topic.name, 0) for part in parts),
                }
                for topic in self._topics.values()
            ],
            "compression_format": "",
            "compression_mode": "",
            "files": [
                {
                    "path": part.path.name,
                    "starting_time": {"nanoseconds_since_epoch": part.start},
                    "duration": {"nanoseconds": max(0, part.end - part.start)},
                    "message_count": sum(part.counts.values()),
                }
                for part in parts
            ],
            "custom_data": dict(self.about) or None,
            "ros_distro": "jazzy",
        }

    @property
    def _reserve(self) -> Path:
        return self.bag_path / ".reserve"

    def _release_reserve(self) -> None:
        with contextlib.suppress(OSError):
            self._reserve.unlink()

    def _connect(self, topic: BagTopic) -> int:
        self._topics[topic.name] = topic
        self._channels[topic.name] = self._channel(topic)
        return self._channels[topic.name]

    def _channel(self, topic: BagTopic) -> int:
        assert self._file is not None
        text, digest = self._definitions.get(topic.type)
        qos = _yaml(dump_qos_v9([topic.qos])).strip()
        about = {"offered_qos_profiles": qos, "topic_type_hash": digest}  # as rosbag2 has them
        return self._file.channel(topic.name, topic.type, text, about)

    def _rescue(self) -> None:
        """Cut the file back to its last complete chunk and close it as a valid bag."""
        file = self._file
        self._release_reserve()
        kept = sum(sum(part.counts.values()) for part in self._parts)
        try:
            if file is not None:
                file.cut()
                kept += sum(file.counts.values())
                self._end_file()
            if self._parts:
                self._write_metadata()
        except Exception:  # nothing more can be saved; the first reason is the one to tell
            if file is not None:
                file.abandon()
        self._file = None
        self.dropped += self.messages - kept
        self.messages = kept

    def _fail(self, text: str) -> None:
        if not self.failure:
            self.failure = text
            self._on_failure(text)


def _yaml(data: Any) -> str:
    """Return YAML, made by libyaml where PyYAML has it: in pure Python it takes 0.2 s."""
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    return yaml.dump(data, Dumper=dumper, default_flow_style=False, sort_keys=False)


def _reason(error: BaseException) -> str:
    """Return the part of an error that a person needs, on one line."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()) or type(error).__name__
