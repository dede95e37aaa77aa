"""The records of MCAP files, read from the front as far as they go.

`scan` passes over a file without unpacking it; `unpack` and `messages_in` give the messages of one
of its chunks. The format: https://mcap.dev/spec
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MAGIC = b"\x89MCAP0\r\n"
ABOUT = "spinemat"  # name of the metadata record that says what a bag holds
SECOND = 1_000_000_000
_HEADER, _FOOTER, _SCHEMA, _CHANNEL, _MESSAGE, _CHUNK = range(1, 7)
_STATISTICS, _METADATA = 0x0B, 0x0C
_RECORD = struct.Struct("<BQ")
PLACE = struct.Struct("<HIQQ")  # channel, sequence, log time, publish time
WHOLE = struct.Struct("<BQHIQQ")  # the same with opcode and length
_SPAN = struct.Struct("<QQQI")  # start, end, size, checksum of a chunk


class BagError(ValueError):
    """A bag cannot be read at all; the message is one line: which file, what is wrong."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path}: {' '.join(problem.split())}")
        self.path, self.problem = path, problem


@dataclass(frozen=True)
class Channel:
    """A topic of a bag: its full name, its type and the type's definition as text."""

    name: str
    type: str
    definition: str
    qos: str = ""  # offered profiles as YAML, in the words of rosbag2


@dataclass
class Chunk:
    """Where a block of messages lies in a file."""

    at: int
    stored: int  # bytes
    size: int  # bytes when unpacked
    checksum: int
    compression: str
    start: int  # ns
    end: int


@dataclass
class McapRecords:
    """What a pass over one MCAP file found, without unpacking it."""

    path: Path
    chunks: list[Chunk] = field(default_factory=list)
    loose: list[int] = field(default_factory=list)  # offsets of messages outside of chunks
    channels: dict[int, Channel] = field(default_factory=dict)
    schemas: dict[int, tuple[str, str, str]] = field(default_factory=dict)
    about: dict[str, str] = field(default_factory=dict)
    counts: dict[int, int] | None = None  # of the file's own statistics
    closed: bool = False
    end: int = 0  # bytes up to the end of the last complete record


def unpack(file: int, chunk: Chunk) -> bytes:
    """Return a chunk's records.

    Raises:
        ValueError: they are damaged.
    """
    stored = os.pread(file, chunk.stored, chunk.at)
    if chunk.compression == "zstd":
        import zstandard

        data = zstandard.ZstdDecompressor().decompress(stored, max_output_size=chunk.size)
    elif chunk.compression == "lz4":
        import lz4.frame

        data = bytes(lz4.frame.decompress(stored))
    elif chunk.compression:
        raise ValueError(f"unknown compression {chunk.compression!r}")
    else:
        data = stored
    if len(data) != chunk.size:
        raise ValueError(f"{len(data)} bytes instead of {chunk.size}")
    if chunk.checksum and zlib.crc32(data) != chunk.checksum:
        raise ValueError("the checksum does not fit")
    return data


def _text(data: Any, at: int) -> tuple[str, int]:
    (length,) = struct.unpack_from("<I", data, at)
    end = at + 4 + length
    return bytes(data[at + 4 : end]).decode("utf-8", "replace"), end


def _pairs(data: Any, at: int) -> dict[str, str]:
    (length,) = struct.unpack_from("<I", data, at)
    end, found = at + 4 + length, {}
    at += 4
    while at < end:
        key, at = _text(data, at)
        found[key], at = _text(data, at)
    return found


def _learn(part: McapRecords, kind: int, data: Any, at: int, end: int) -> None:
    """Take over a record that describes messages."""
    if kind == _SCHEMA:
        (number,) = struct.unpack_from("<H", data, at)
        name, at = _text(data, at + 2)
        encoding, at = _text(data, at)
        definition, _ = _text(data, at)
        part.schemas[number] = name, encoding, definition
    elif kind == _CHANNEL:
        number, schema = struct.unpack_from("<HH", data, at)
        topic, at = _text(data, at + 4)
        _, at = _text(data, at)
        name, _, definition = part.schemas.get(schema, ("", "", ""))
        more = _pairs(data, at)
        part.channels[number] = Channel(
            topic, name, definition, more.get("offered_qos_profiles", "")
        )


def messages_in(
    part: McapRecords, data: bytes, topics: Collection[str] | None, start: int
) -> Iterator[tuple[Channel, int, bytes]]:
    """Yield (channel, time in ns, message) of an unpacked chunk in the order of time.

    Args:
        part: the file; channels that the chunk describes are added to it.
        data: the chunk's records.
        topics: full names; None: all.
        start: ns; messages before are left out.
    """
    found: list[tuple[Channel, int, bytes]] = []
    wanted: dict[int, Channel | None] = {}
    at, size, last, ordered = 0, len(data), 0, True
    unpack, head = WHOLE.unpack_from, WHOLE.size
    while at < size:
        if data[at] == _MESSAGE:
            _, length, channel, _, time, _ = unpack(data, at)
            end = at + 9 + length
            if channel not in wanted:
                known = part.channels.get(channel)
                keep = known is not None and (topics is None or known.name in topics)
                wanted[channel] = known if keep else None
            topic = wanted[channel]
            if topic is not None and time >= start:
                ordered = ordered and time >= last
                last = time
                found.append((topic, time, data[at + head : end]))
        else:
            kind, length = _RECORD.unpack_from(data, at)
            end = at + 9 + length
            _learn(part, kind, data, at + 9, end)
        at = end
    return iter(found if ordered else sorted(found, key=lambda entry: entry[1]))


def scan(path: Path) -> McapRecords:
    """Pass over the records of a file without unpacking its chunks."""
    part = McapRecords(path)
    size = path.stat().st_size
    if size == 0:
        raise BagError(path, "an empty file")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[:8] != MAGIC:
            raise BagError(path, "not an MCAP file: it begins with other bytes")
        at = part.end = 8
        while at + 9 <= size:
            kind, length = _RECORD.unpack_from(data, at)
            begin, end = at + 9, at + 9 + length
            if end > size:
                break
            try:
                _take(part, kind, data, begin, end)
            except BagError:
                raise
            except (struct.error, IndexError, ValueError):
                break
            at = part.end = end
            if kind == _FOOTER:
                part.closed = data[at : at + 8] == MAGIC
                break
    return part


def _take(part: McapRecords, kind: int, data: Any, at: int, end: int) -> None:
    if kind == _HEADER:
        profile, _ = _text(data, at)
        if profile not in ("ros2", ""):
            raise BagError(part.path, f"a recording of {profile!r}; allowed: ros2")
    elif kind == _CHUNK:
        start, stop, size, checksum = _SPAN.unpack_from(data, at)
        compression, at = _text(data, at + _SPAN.size)
        (stored,) = struct.unpack_from("<Q", data, at)
        if at + 8 + stored > end:
            raise ValueError("a chunk that ends early")
        part.chunks.append(Chunk(at + 8, stored, size, checksum, compression, start, stop))
    elif kind == _MESSAGE:
        part.loose.append(at - 9)
    elif kind in (_SCHEMA, _CHANNEL):
        _learn(part, kind, data, at, end)
    elif kind == _METADATA:
        name, at = _text(data, at)
        if name == ABOUT:
            part.about |= _pairs(data, at)
    elif kind == _STATISTICS:
        (length,) = struct.unpack_from("<I", data, at + 42)
        counts = struct.iter_unpack("<HQ", bytes(data[at + 46 : at + 46 + length]))
        part.counts = dict(counts)
