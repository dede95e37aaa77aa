"""One MCAP file as rosbag2 writes it, made so that little is lost whatever happens.

What the file is about stands at its beginning. A block of messages reaches the operating system
whenever it is large or old enough, so that the end of the process costs no more than the block at
hand. After a failure to write, `cut` goes back to the last complete block and `finish` still makes
a valid file. (Neither `mcap` nor `rosbags` lets a writer end a block by time or go back.)

The format: https://mcap.dev/spec
"""

from __future__ import annotations

import struct
import sys
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MAGIC = b"\x89MCAP0\r\n"
BLOCK_BYTES = 1 << 20  # a block is written when it holds so much …
BLOCK_TIME = 500_000_000  # ns, … or spans so much: what `kill -9` may cost
_HEADER, _FOOTER, _SCHEMA, _CHANNEL, _MESSAGE, _CHUNK, _INDEX, _CHUNK_INDEX = range(1, 9)
_STATISTICS, _METADATA, _METADATA_INDEX, _SUMMARY_OFFSET, _DATA_END = range(0x0B, 0x10)
_MESSAGE_HEAD = struct.Struct("<BQHIQQ")
_PAIR = struct.Struct("<QQ")


@dataclass
class _Block:
    """Messages that are not in the file yet."""

    begun: float = field(default_factory=time.monotonic)  # s of steady time
    data: bytearray = field(default_factory=bytearray)
    index: dict[int, bytearray] = field(default_factory=dict)
    counts: dict[int, int] = field(default_factory=dict)
    start: int = 2**63 - 1
    end: int = 0


class McapFile:
    """Writer of one file.

    Args:
        path: of the file; must not exist.
        library: who writes it.
        about: what it is about, by any keys.
        compress: compress blocks with zstd.

    Attributes:
        counts: messages by channel that are in the file or in the block at hand.
        start, end: ns, times of the first and the last of them.

    Raises:
        OSError: the file cannot be made.
    """

    def __init__(self, path: Path, library: str, about: Mapping[str, str], compress: bool) -> None:
        self.path = path
        self.counts: dict[int, int] = {}
        self.start, self.end = 2**63 - 1, 0
        self._compress = compress
        self._file = path.open("xb", buffering=0)
        self._size = 0  # bytes that are complete
        self._schemas: dict[str, tuple[int, bytes]] = {}
        self._channels: list[bytes] = []
        self._chunks: list[bytes] = []
        self._metadata: list[bytes] = []
        self._block = _Block()
        self._put(MAGIC + _record(_HEADER, _text("ros2") + _text(library)))
        self.note("spinemat", about)

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return self._size

    @property
    def waiting(self) -> float:
        """How long the block at hand has been filling, s of steady time; 0 while it is empty."""
        return time.monotonic() - self._block.begun if self._block.data else 0.0

    def note(self, name: str, values: Mapping[str, str]) -> None:
        """Write a metadata record; call it between blocks, as at the beginning and at the end."""
        record = _record(_METADATA, _text(name) + _pairs(values))
        self._metadata.append(struct.pack("<QQ", self._size, len(record)) + _text(name))
        self._put(record)

    def channel(self, topic: str, kind: str, definition: str, about: Mapping[str, str]) -> int:
        """Begin a topic, with what its metadata say about it, and return its number."""
        if kind not in self._schemas:
            number = len(self._schemas) + 1
            body = struct.pack("<H", number) + _text(kind) + _text("ros2msg") + _text(definition)
            self._schemas[kind] = number, _record(_SCHEMA, body)
            self._block.data += self._schemas[kind][1]
        number = len(self._channels) + 1
        body = struct.pack("<HH", number, self._schemas[kind][0]) + _text(topic) + _text("cdr")
        self._channels.append(_record(_CHANNEL, body + _pairs(about)))
        self._block.data += self._channels[-1]
        self.counts[number] = 0
        return number

    def write(self, channel: int, at: int, data: bytes) -> bool:
        """Append a message at `at` (ns); return whether a block went into the file.

        Raises:
            OSError: it could not; call `cut`.
        """
        block = self._block
        index = block.index.get(channel)
        if index is None:
            index = block.index[channel] = bytearray()
        index += _PAIR.pack(at, len(block.data))
        block.data += _MESSAGE_HEAD.pack(_MESSAGE, 22 + len(data), channel, 0, at, at)
        block.data += data
        block.counts[channel] = block.counts.get(channel, 0) + 1
        block.start, block.end = min(block.start, at), max(block.end, at)
        self.counts[channel] += 1
        if len(block.data) < BLOCK_BYTES and block.end - block.start < BLOCK_TIME:
            return False
        self.flush()
        return True

    def flush(self) -> None:
        """Write the block at hand.

        Raises:
            OSError: it could not be written; call `cut`.
        """
        block = self._block
        if not block.data:
            return
        # with a checksum: damage is noticed when reading
        stored = zstd.compress(bytes(block.data)) if self._compress else bytes(block.data)
        kind = "zstd" if self._compress else ""
        start = block.start if block.counts else 0
        head = struct.pack(
            "<QQQI", start, block.end, len(block.data), zlib.crc32(block.data)
        ) + _text(kind)
        chunk = _record(_CHUNK, head + struct.pack("<Q", len(stored)) + stored)
        parts, offsets = [chunk], b""
        at = self._size + len(chunk)
        for channel, pairs in block.index.items():
            offsets += struct.pack("<HQ", channel, at)
            body = struct.pack("<HI", channel, len(pairs)) + bytes(pairs)
            parts.append(_record(_INDEX, body))
            at += len(parts[-1])
        place = struct.pack("<QQQQ", start, block.end, self._size, len(chunk))
        place += struct.pack("<I", len(offsets)) + offsets
        place += struct.pack("<Q", at - self._size - len(chunk)) + _text(kind)
        place += struct.pack("<QQ", len(stored), len(block.data))
        self._put(b"".join(parts))
        self._chunks.append(place)
        self.start, self.end = min(self.start, block.start), max(self.end, block.end)
        self._block = _Block()

    def cut(self) -> int:
        """Go back to the last complete block; return how many messages are lost with it."""
        lost, self._block = self._block, _Block()
        for channel, count in lost.counts.items():
            self.counts[channel] -= count
        self._file.truncate(self._size)
        self._file.seek(self._size)
        return sum(lost.counts.values())

    def finish(self) -> None:
        """Write what is left and the file's index, and close it.

        Raises:
            OSError: it could not be written.
        """
        self.flush()
        self._put(_record(_DATA_END, struct.pack("<I", 0)))
        begin = self._size
        groups: list[tuple[int, list[bytes]]] = [
            (_SCHEMA, [record for _, record in self._schemas.values()]),
            (_CHANNEL, self._channels),
            (_STATISTICS, [_record(_STATISTICS, self._statistics())]),
            (_CHUNK_INDEX, [_record(_CHUNK_INDEX, body) for body in self._chunks]),
            (_METADATA_INDEX, [_record(_METADATA_INDEX, body) for body in self._metadata]),
        ]
        summary, places = bytearray(), bytearray()
        for kind, records in groups:
            if records:
                at = begin + len(summary)
                summary += b"".join(records)
                body = struct.pack("<BQQ", kind, at, begin + len(summary) - at)
                places += _record(_SUMMARY_OFFSET, body)
        offsets = begin + len(summary)
        summary += places
        footer = struct.pack("<BQQQ", _FOOTER, 20, begin, offsets)
        checksum = zlib.crc32(footer, zlib.crc32(summary))
        self._put(bytes(summary) + footer + struct.pack("<I", checksum) + MAGIC)
        self._file.close()

    def abandon(self) -> None:
        """Close the file as it is."""
        self._file.close()

    def _statistics(self) -> bytes:
        total = sum(self.counts.values())
        body = struct.pack("<QHII", total, len(self._schemas), len(self._channels), 0)
        start = self.start if total else 0
        body += struct.pack("<IIQQ", len(self._metadata), len(self._chunks), start, self.end)
        return (
            body
            + struct.pack("<I", 10 * len(self.counts))
            + b"".join(
                struct.pack("<HQ", channel, count)
                for channel, count in sorted(self.counts.items())
            )
        )

    def _put(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]
        self._size += len(data)


def _record(kind: int, body: bytes) -> bytes:
    return struct.pack("<BQ", kind, len(body)) + body


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<I", len(data)) + data


def _pairs(values: Mapping[str, str]) -> bytes:
    body = b"".join(_text(key) + _text(value) for key, value in values.items())
    return struct.pack("<I", len(body)) + body
