"""One session's folder on disk: `bag/` (rosbag2, MCAP) and `events.jsonl`.

`SessionFolder` never raises into its caller. The first failure to write (disk full, folder not
writable) ends the bag: what was complete is closed properly, everything later is counted as
dropped, and the reason stays in `failure`. No ROS in here: messages arrive serialized.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import rosbags.rosbag2.writer
import yaml
from rosbags.interfaces import (
    Connection,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

BAG_VERSION: Literal[9] = 9  # the metadata version that ROS 2 Jazzy writes
RESERVE = 256 * 1024  # bytes kept free for the bag's index when the disk runs full
_CHECKSUM: dict[int, int] = {zstd.CompressionParameter.checksum_flag: 1}
_FOREVER = QosTime(0, 0)


class _Yaml:
    """What rosbags' writer asks of ruamel.yaml, done by libyaml where PyYAML has it.

    In pure Python a bag's metadata take 0.2 s of computing, in which every message has to wait:
    what piles up meanwhile stays with the middleware as memory that it never gives back.
    """

    def __init__(self, typ: str) -> None:
        self.default_flow_style = False

    def dump(self, data: Any, stream: IO[str]) -> None:
        """Write `data`."""
        dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
        yaml.dump(data, stream, Dumper=dumper, default_flow_style=self.default_flow_style)


rosbags.rosbag2.writer.YAML = _Yaml  # type: ignore[assignment,misc]


@dataclass(frozen=True)
class BagTopic:
    """Name and type of a topic as they are written into a bag."""

    name: str  # absolute, such as /mat/drive/state
    type: str  # such as spinemat_interfaces/msg/DriveState
    depth: int
    latched: bool

    @property
    def qos(self) -> Qos:
        """The offered quality of service in the words of rosbag2."""
        return Qos(
            history=QosHistory.KEEP_LAST,
            depth=self.depth,
            reliability=QosReliability.RELIABLE,
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
        messages: text of each `.msg` file that is not part of ROS 2 Jazzy itself, by type name.
    """

    def __init__(self, messages: Mapping[str, str]) -> None:
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
            self._cache[name] = (text, self._store.hash_rihs01(name))
        return self._cache[name]


class SessionFolder:
    """Writer of one session's folder. Not thread-safe; made for one executor thread.

    Args:
        folder: the session's folder; made when it is missing.
        definitions: where message definitions come from.
        compress: compress the bag's chunks with zstd.
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
        compress: bool = True,
        on_failure: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.folder = Path(folder)
        self.messages = 0
        self.dropped = 0
        self.failure = ""
        self.bag_path = self.folder / "bag"
        self._on_failure = on_failure
        self._definitions = definitions
        self._connections: dict[str, Connection] = {}
        self._writer: Writer | None = None
        self._lines: IO[str] | None = None
        self._last = 0  # ns, time of the newest message in the bag
        self._chunks = 0  # chunks that are complete on disk …
        self._good_size = 0  # … the size of the file up to there …
        self._good_counts: dict[int, int] = {}  # … and the messages in them, by connection
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lines = (self.folder / "events.jsonl").open("a", encoding="utf-8")
        except OSError as error:
            self._fail(f"cannot write {self.folder / 'events.jsonl'}: {_reason(error)}")
        try:
            self._open_bag(compress)
        except Exception as error:
            self._rescue()
            self._fail(f"cannot write {self.bag_path}: {_reason(error)}")

    @property
    def size(self) -> int:
        """Bytes of the bag's data file on disk."""
        try:
            return (self.bag_path / f"{self.bag_path.name}.mcap").stat().st_size
        except OSError:
            return 0

    def write(self, topic: BagTopic, time: int, data: bytes) -> None:
        """Append one serialized message at `time` (ns of drive time, never going back)."""
        if self._writer is None:
            self.dropped += 1
            return
        self._last = time = max(time, self._last)
        try:
            connection = self._connections.get(topic.name) or self._connect(topic)
            self.messages += 1
            self._writer.write(connection, time, data)
            storage: Any = self._writer.storage
            if len(storage.chunks) != self._chunks:
                self._mark()
        except Exception as error:  # whatever the storage raises must not reach the session
            self._rescue()
            self._fail(f"cannot write {self.bag_path}: {_reason(error)}")

    def line(self, entry: Mapping[str, Any]) -> None:
        """Append one JSON object to `events.jsonl`, on disk when this returns."""
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
        if self._writer is None:
            return
        writer, self._writer = self._writer, None
        self._release_reserve()
        try:
            writer.close()
        except Exception as error:
            self._writer = writer
            self._rescue()
            self._fail(f"cannot close {self.bag_path}: {_reason(error)}")

    def close_lines(self) -> None:
        """Close `events.jsonl`."""
        lines, self._lines = self._lines, None
        if lines is not None:
            with contextlib.suppress(OSError):
                lines.close()

    def _open_bag(self, compress: bool) -> None:
        number = 1
        while self.bag_path.exists():  # an earlier recorder died in this session: keep its part
            number += 1
            self.bag_path = self.folder / f"bag_{number}"
        writer = Writer(self.bag_path, version=BAG_VERSION, storage_plugin=StoragePlugin.MCAP)
        if compress:
            writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        writer.open()
        self._writer = writer
        if compress:
            storage: Any = writer.storage
            storage.compressor = _compress  # with a checksum: damage is noticed when reading
        self._mark()
        with self._reserve.open("wb") as reserve:
            os.posix_fallocate(reserve.fileno(), 0, RESERVE)

    @property
    def _reserve(self) -> Path:
        return self.bag_path / ".reserve"

    def _release_reserve(self) -> None:
        with contextlib.suppress(OSError):
            self._reserve.unlink()

    def _connect(self, topic: BagTopic) -> Connection:
        assert self._writer is not None
        text, digest = self._definitions.get(topic.type)
        connection = self._writer.add_connection(
            topic.name,
            topic.type,
            msgdef=text,
            rihs01=digest,
            offered_qos_profiles=[topic.qos],
        )
        self._connections[topic.name] = connection
        return connection

    def _mark(self) -> None:
        """Remember that everything in the file so far is complete."""
        assert self._writer is not None
        storage: Any = self._writer.storage
        storage.bio.flush()
        self._chunks = len(storage.chunks)
        self._good_size = storage.bio.tell()
        self._good_counts = dict(storage.channel_stats)

    def _rescue(self) -> None:
        """Cut the file back to its last complete chunk and close it as a valid bag."""
        writer, self._writer = self._writer, None
        storage: Any = writer.storage if writer is not None else None
        self._release_reserve()
        kept = sum(self._good_counts.values())
        self.dropped += self.messages - kept
        self.messages = kept
        if writer is None or storage is None:
            return
        try:
            broken = storage.bio
            storage.bio = (writer.storage.path).open("r+b")  # type: ignore[union-attr]
            with contextlib.suppress(Exception):
                broken.raw.close()  # its buffer must not reach the disk any more
            storage.bio.truncate(self._good_size)
            storage.bio.seek(self._good_size)
            del storage.chunks[self._chunks :]
            storage.chunk = type(storage.chunk)(2**63 - 1, 0, type(storage.chunk.bio)(), {})
            for connection in storage.channel_stats:
                count = self._good_counts.get(connection, 0)
                storage.channel_stats[connection] = writer.counts[connection] = count
            writer.close()
        except Exception:  # nothing more can be saved; the first reason is the one to tell
            with contextlib.suppress(Exception):
                writer.abort()

    def _fail(self, text: str) -> None:
        if not self.failure:
            self.failure = text
            self._on_failure(text)


def _compress(data: bytes) -> bytes:
    return zstd.compress(data, options=_CHECKSUM)


def _reason(error: BaseException) -> str:
    """Return the part of an error that a person needs, on one line."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()) or type(error).__name__
