"""A recorded bag, whatever its state: `Bag(path)`.

MCAP files are read from the front, so that a file that was cut short (a full disk, `kill -9`)
gives all that is complete in it; a block that is damaged is left out and said. What is not MCAP
(SQLite, bags compressed as whole files) is read by `rosbags`, a damaged file in SQLite as far as
it goes.

Needs `rosbags`, `zstandard` and `lz4`, none of which needs ROS; each is imported when it is used.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from spinemat.analysis.mcap_records import (
    PLACE,
    SECOND,
    WHOLE,
    BagError,
    Channel,
    McapRecords,
    messages_in,
    scan,
    unpack,
)
from spinemat.analysis.sqlite_rescue import rescue

__all__ = ["SECOND", "Bag", "BagError", "Channel", "about_json"]


class Bag:
    """One recording: a rosbag2 folder, one of its files, or a session's folder with `bag/` in it.

    Args:
        path: any of these.

    Attributes:
        path: the rosbag2 folder, or the single file.
        session: the session's folder; None for a bag without one.
        files: the files with messages, in order of time.
        problems: what could not be read, one line each; empty for a sound bag.
        closed: false when the recording was cut short.

    Raises:
        BagError: nothing of it can be read.
    """

    def __init__(self, path: str | Path) -> None:
        self.path, self.session = _find(Path(path))
        self.problems: list[str] = []
        self._metadata = self._read_metadata()
        self.files = self._find_files()
        if self.session is not None:
            parts = sorted(p for p in self.session.glob("bag_*") if p.is_dir() and p != self.path)
            self.problems += [
                f"{part}: another part of this session, to be read by itself" for part in parts
            ]
        self._parts: list[McapRecords] = []
        self._rescued: TemporaryDirectory[str] | None = None
        self._other = any(file.suffix != ".mcap" for file in self.files)
        if self._other:
            self._open_other()
            return
        for file in self.files:
            try:
                self._parts.append(scan(file))
            except BagError as error:
                if len(self.files) == 1:
                    raise
                self.problems.append(str(error))
        for part in self._parts:
            if not part.closed:
                self.problems.append(
                    f"{part.path}: cut short; what is complete up to byte {part.end} is read"
                )
        if not any(part.chunks or part.loose for part in self._parts):
            name = self.files[0] if len(self.files) == 1 else self.path
            raise BagError(name, "an empty recording: it holds no message")

    # ---- what is in it -------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether the recording was ended properly."""
        return self._rescued is None if self._other else all(p.closed for p in self._parts)

    @cached_property
    def about(self) -> dict[str, str]:
        """What the recorder wrote about the recording: software, profile, person, parameters …"""
        found: dict[str, str] = {}
        for part in self._parts:
            found |= part.about
        custom = self._metadata.get("custom_data") or {}
        return found | {str(k): str(v) for k, v in custom.items()}

    @cached_property
    def topics(self) -> dict[str, Channel]:
        """Topics by their full name."""
        self._know_topics()
        found = {t.name: t for part in self._parts for t in part.channels.values()}
        return dict(sorted((self._foreign_topics if self._other else found).items()))

    @cached_property
    def counts(self) -> dict[str, int]:
        """Messages per topic, by full name; those that can be read."""
        if self._other:
            return {c.topic: c.msgcount for c in self._reader.connections}
        if all(part.counts is not None for part in self._parts):
            self._know_topics()
            found = dict.fromkeys(self.topics, 0)
            for part in self._parts:
                for number, count in (part.counts or {}).items():
                    if number in part.channels:
                        found[part.channels[number].name] += count
            return found
        found = {}
        for topic, _, _ in self.messages():
            found[topic.name] = found.get(topic.name, 0) + 1
        return {name: found.get(name, 0) for name in self.topics}

    @cached_property
    def span(self) -> tuple[int, int]:
        """Times of the first and the last message, ns."""
        if self._other:
            return self._reader.start_time, max(self._reader.start_time, self._reader.end_time - 1)
        chunks = [chunk for part in self._parts for chunk in part.chunks]
        if chunks and not any(part.loose for part in self._parts):
            return min(c.start for c in chunks), max(c.end for c in chunks)
        times = [time for _, time, _ in self.messages()]
        return (min(times), max(times)) if times else (0, 0)

    @property
    def seconds(self) -> float:
        """Length of the recording, s."""
        return (self.span[1] - self.span[0]) / SECOND

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(file.stat().st_size for file in self.files if file.exists())

    @cached_property
    def prefix(self) -> str:
        """Namespace of the mat with its last slash, such as ``/mat/``; ``/`` when there is none.

        Raises:
            BagError: this is no recording of a mat.
        """
        for known in ("session/state", "drive/state", "safety/state", "fingers/state"):
            for name in self.topics:
                if name.endswith(f"/{known}"):
                    return name.removesuffix(known)
        raise BagError(
            self.path, "holds neither drive/state nor session/state: not a recording of a mat"
        )

    def relative(self, name: str) -> str:
        """Name of a topic without the mat's namespace."""
        return name.removeprefix(self.prefix) if name.startswith(self.prefix) else name

    def full(self, name: str) -> str:
        """Full name of a topic of the mat."""
        return name if name.startswith("/") else self.prefix + name

    # ---- messages ------------------------------------------------------------------------

    def messages(
        self, topics: Collection[str] | None = None, start: int = 0
    ) -> Iterator[tuple[Channel, int, bytes]]:
        """Yield (topic, time in ns, serialized message) in the order of recording.

        Args:
            topics: full names; None: all.
            start: ns; messages before are left out.
        """
        if self._other:
            yield from self._other_messages(topics, start)
            return
        for part in self._parts:
            yield from self._messages_of(part, topics, start)

    def decode(self, topic: Channel, raw: bytes) -> Any:
        """Return a serialized message as an object with the message's fields."""
        from spinemat.analysis.columns import decode

        try:
            return decode(self.types, raw, topic.type)
        except ValueError as error:
            raise BagError(self.path, f"{topic.name}: {error}") from error

    @cached_property
    def types(self) -> Any:
        """The message definitions that the bag carries, as a typestore of `rosbags`."""
        from rosbags.typesys import Stores, get_typestore

        store = get_typestore(Stores.ROS2_JAZZY)
        for topic in self.topics.values():
            if not topic.definition:
                if topic.type not in store.fielddefs:
                    self.say(f"{topic.name}: the bag carries no definition of {topic.type}")
                continue
            try:
                found = _parsed(topic.definition, topic.type)
                store.register({k: v for k, v in found.items() if k not in store.fielddefs})
            except Exception as error:
                self.say(f"{topic.name}: definition of {topic.type} not understood: {error}")
        return store

    def say(self, problem: str) -> None:
        """Keep a problem for people, once."""
        if problem not in self.problems:
            self.problems.append(" ".join(problem.split()))

    def _messages_of(
        self, part: McapRecords, topics: Collection[str] | None, start: int
    ) -> Iterator[tuple[Channel, int, bytes]]:
        with part.path.open("rb") as file:
            for at in part.loose:
                file.seek(at)
                _, length, channel, _, time, _ = WHOLE.unpack(file.read(WHOLE.size))
                data = file.read(length - PLACE.size)
                topic = part.channels.get(channel)
                if topic and time >= start and (topics is None or topic.name in topics):
                    yield topic, time, data
            for chunk in part.chunks:
                if chunk.end < start:
                    continue
                try:
                    data = unpack(file.fileno(), chunk)
                    found = list(messages_in(part, data, topics, start))
                except Exception as error:  # damaged bytes surface as any error
                    lost = (chunk.end - chunk.start) / SECOND
                    why = str(error) or type(error).__name__
                    self.say(
                        f"{part.path}: damaged at byte {chunk.at}: {why};"
                        f" {lost:.2f} s are left out"
                    )
                    continue
                yield from found

    def _know_topics(self) -> None:
        """Find channels: in the summary of a closed file, else in its chunks."""
        for part in self._parts:
            if part.closed and part.channels:
                continue
            for _ in self._messages_of(part, (), 0):
                pass

    # ---- finding and opening -------------------------------------------------------------

    def _read_metadata(self) -> Mapping[str, Any]:
        file = self.path / "metadata.yaml"
        if not file.is_file():
            return {}
        try:
            loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
            data = yaml.load(file.read_text(encoding="utf-8"), Loader=loader)
            found: Mapping[str, Any] = data["rosbag2_bagfile_information"]
            return found if isinstance(found, Mapping) else {}
        except Exception:
            self.problems.append(f"{file}: cannot be understood; the data files are read anyway")
            return {}

    def _find_files(self) -> list[Path]:
        if self.path.is_file():
            return [self.path]
        listed = self._metadata.get("relative_file_paths")
        if isinstance(listed, list) and listed:
            files = [self.path / Path(str(name)).name for name in listed]
            for file in files:
                if not file.is_file():
                    self.problems.append(f"{file}: missing")
            files = [file for file in files if file.is_file()]
        else:
            files = _in_order([*self.path.glob("*.mcap")]) or sorted(self.path.glob("*.db3"))
        if not files:
            raise BagError(self.path, "there is no recording in this folder")
        return files

    def _open_other(self) -> None:
        """Open what is not MCAP by rosbags."""
        from rosbags.rosbag2 import Reader

        whole = self.path if self._metadata else self.files[0]
        try:
            self._reader: Any = Reader(whole)
            self._reader.open()
        except Exception as error:
            why = f"not a recording that can be read: {error}"
            if len(self.files) != 1 or self.files[0].suffix != ".db3":
                raise BagError(whole, why) from error
            self._rescued = TemporaryDirectory(prefix="spinemat-")
            try:
                self._reader = Reader(rescue(self.files[0], Path(self._rescued.name)))
                self._reader.open()
            except Exception:
                raise BagError(whole, why) from error
            self.problems.append(
                f"{self.files[0]}: cut short or damaged; what can be read is read"
            )
        if not self._reader.message_count:
            raise BagError(whole, "an empty recording: it holds no message")
        self._foreign_topics = {
            c.topic: Channel(c.topic, c.msgtype, c.msgdef.data) for c in self._reader.connections
        }

    def _other_messages(
        self, topics: Collection[str] | None, start: int
    ) -> Iterator[tuple[Channel, int, bytes]]:
        wanted = [c for c in self._reader.connections if topics is None or c.topic in topics]
        if not wanted:
            return
        try:
            for connection, time, raw in self._reader.messages(wanted):
                if time >= start:
                    yield self._foreign_topics[connection.topic], time, raw
        except Exception as error:
            self.say(f"{self.path}: damaged: {error}; what came before is read")


@lru_cache(maxsize=256)  # many bags hold the same definitions, and parsing one takes long
def _parsed(definition: str, kind: str) -> Mapping[str, Any]:
    from rosbags.typesys import get_types_from_msg

    return get_types_from_msg(definition, kind)


def _find(path: Path) -> tuple[Path, Path | None]:
    """Return the rosbag2 folder or file that `path` means, and the session's folder."""
    if not path.exists():
        raise BagError(path, "there is no such file or folder")
    if path.is_file():
        if path.suffix not in (".mcap", ".db3") and not path.name.endswith(".zstd"):
            raise BagError(path, "not a recording; allowed: a folder, .mcap or .db3")
        return path, None
    if (path / "bag").is_dir():
        return path / "bag", path
    inside = (
        (path / "metadata.yaml").is_file() or any(path.glob("*.mcap")) or any(path.glob("*.db3"))
    )
    if not inside:
        raise BagError(path, "there is no recording in this folder")
    session = path.parent if path.name.startswith("bag") else None
    return path, session


def _in_order(files: list[Path]) -> list[Path]:
    """Sort parts by their numbers; the one being written is the last: its name begins theirs."""

    def place(file: Path) -> tuple[int, str]:
        number = file.stem.rpartition("_")[2]
        unfinished = any(other.stem.startswith(f"{file.stem}_") for other in files)
        return (int(number) if number.isdigit() and not unfinished else 10**9, file.name)

    return sorted(files, key=place)


def about_json(bag: Bag, key: str) -> Any:
    """Return an entry of `Bag.about` that holds JSON; None when it is missing or is none."""
    try:
        return json.loads(bag.about[key])
    except (KeyError, ValueError):
        return None
