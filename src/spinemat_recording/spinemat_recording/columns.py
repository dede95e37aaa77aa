"""Many serialized messages of one type into one array per field, without a loop over messages.

The messages of one stream nearly always have the same shape: the same number of fingers, the same
frame. Then every field lies at the same place in all of them, and a block of messages is one
matrix of bytes whose columns are the fields. Blocks where that does not hold are decoded message
by message.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rosbags.interfaces import Nodetype, Typestore

BLOCK = 4096  # messages
_HEAD = 4  # bytes of the CDR encapsulation
_LITTLE_ENDIAN = b"\x00\x01"


def decode(store: Typestore, raw: bytes, name: str) -> Any:
    """Return one serialized message as an object.

    ROS 2 reserves space for the alignment of empty sequences and leaves it at the end of the
    message; `Typestore.deserialize_cdr` would refuse that tail.
    """
    definition: Any = store.get_msgdef(name)
    decoder = (
        definition.deserialize_cdr_le
        if raw[:2] == _LITTLE_ENDIAN
        else definition.deserialize_cdr_be
    )
    return decoder(raw[_HEAD:], 0, definition.cls, store)[0]


class Columns:
    """Collects the messages of one topic; `get` returns the fields as arrays.

    Args:
        store: knows the type `name`.
        name: type of the messages, such as ``spinemat_interfaces/msg/DriveState``.
        fields: the numeric fields that are wanted; ``t``, the stamp in s, always comes along.
    """

    def __init__(self, store: Typestore, name: str, fields: Sequence[str]) -> None:
        self._store, self._name = store, name
        self._fields = [f for f in fields if f != "t"]
        self._waiting: list[bytes] = []
        self._blocks: list[dict[str, NDArray[Any]]] = []

    def add(self, raw: bytes) -> None:
        """Take one serialized message."""
        self._waiting.append(raw)
        if len(self._waiting) >= BLOCK:
            self._flush()

    def get(self) -> dict[str, NDArray[Any]]:
        """Return each field as an array: (m,) for a number, (m, n) for a sequence.

        Raises:
            ValueError: a sequence changes its length.
        """
        self._flush()
        found: dict[str, NDArray[Any]] = {}
        for name in ("t", *self._fields):
            parts = [block[name] for block in self._blocks]
            sizes = sorted({part.shape[1:] for part in parts})
            if len(sizes) > 1:
                raise ValueError(f"{name} changes its length: {[s[0] for s in sizes]}")
            found[name] = np.concatenate(parts)
        return found

    def _flush(self) -> None:
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            self._blocks.append(self._matrix(waiting) or self._one_by_one(waiting))

    def _matrix(self, raws: list[bytes]) -> dict[str, NDArray[Any]] | None:
        """Return the fields of equally shaped messages, None when their shapes differ."""
        first = raws[0]
        if any(len(raw) != len(first) for raw in raws) or first[:2] != _LITTLE_ENDIAN:
            return None
        walk = _Walk(self._store, first)
        walk.message(self._name, "")
        if walk.irregular or not all(f in walk.places for f in self._fields):
            return None
        matrix = np.frombuffer(b"".join(raws), dtype=np.uint8).reshape(len(raws), -1)
        for at in walk.lengths:
            if (matrix[:, at : at + 4] != matrix[0, at : at + 4]).any():
                return None
        sec = _column(matrix, *walk.places["header.stamp.sec"])
        nanosec = _column(matrix, *walk.places["header.stamp.nanosec"])
        found = {"t": sec + 1e-9 * nanosec}
        return found | {f: _column(matrix, *walk.places[f]) for f in self._fields}

    def _one_by_one(self, raws: list[bytes]) -> dict[str, NDArray[Any]]:
        messages = [decode(self._store, raw, self._name) for raw in raws]
        stamps = [m.header.stamp for m in messages]
        found = {"t": np.array([s.sec + 1e-9 * s.nanosec for s in stamps])}
        for name in self._fields:
            column = [getattr(m, name) for m in messages]
            sizes = sorted({np.size(c) for c in column})
            if len(sizes) > 1:
                raise ValueError(f"{name} changes its length: {sizes}")
            found[name] = np.array(column)
        return found


class _Walk:
    """Finds where each numeric field of one message lies, and where lengths are written."""

    def __init__(self, store: Typestore, raw: bytes) -> None:
        self._store, self._raw = store, raw
        self._at = _HEAD
        self.places: dict[str, tuple[int, np.dtype[Any], int | None]] = {}
        self.lengths: list[int] = []
        self.irregular = False  # holds sequences of texts or of messages

    def message(self, name: str, prefix: str) -> None:
        fields: Any = self._store.fielddefs[name][1]
        for field, (node, detail) in fields:
            path = f"{prefix}{field}"
            if node == Nodetype.NAME:
                self.message(str(detail), f"{path}.")
            elif node == Nodetype.BASE:
                self._base(path, detail[0])
            else:
                (inner, inner_detail), count = detail
                if inner != Nodetype.BASE or inner_detail[0] == "string":
                    self.irregular = True
                    return
                if node == Nodetype.SEQUENCE:
                    count = self._length()
                self._numbers(path, inner_detail[0], count)

    def _base(self, path: str, kind: str) -> None:
        if kind == "string":
            length = self._length()  # moves self._at
            self._at += length
            return
        dtype = _dtype(kind)
        self._align(dtype.itemsize)
        self.places[path] = (self._at, dtype, None)
        self._at += dtype.itemsize

    def _numbers(self, path: str, kind: str, count: int) -> None:
        dtype = _dtype(kind)
        if count:
            self._align(dtype.itemsize)
        self.places[path] = (self._at, dtype, count)
        self._at += count * dtype.itemsize

    def _length(self) -> int:
        self._align(4)
        self.lengths.append(self._at)
        value = int.from_bytes(self._raw[self._at : self._at + 4], "little")
        self._at += 4
        return value

    def _align(self, size: int) -> None:
        self._at += -(self._at - _HEAD) % size


def _dtype(kind: str) -> np.dtype[Any]:
    named = {"octet": "uint8", "byte": "uint8", "char": "uint8"}.get(kind, kind)
    return np.dtype(named).newbyteorder("<")


def _column(
    matrix: NDArray[np.uint8], at: int, dtype: np.dtype[Any], count: int | None
) -> NDArray[Any]:
    size = dtype.itemsize * (1 if count is None else count)
    values = np.ascontiguousarray(matrix[:, at : at + size]).view(dtype)
    return values[:, 0] if count is None else values
