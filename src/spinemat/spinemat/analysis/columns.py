"""Many serialized messages of one type into one array per field, without a loop over messages.

Messages of one stream mostly have the same shape: the same number of fingers, the same frame.
Then every field lies at the same place in all of them, and messages of one shape are one matrix
of bytes whose columns are the fields. Where that does not hold they are decoded one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from rosbags.interfaces import Typestore

BLOCK = 4096  # messages
SHAPES = 8  # that messages of one length may have, or the rest is decoded one by one (choice)
_HEAD = 4  # bytes of the CDR encapsulation
_LITTLE_ENDIAN = b"\x00\x01"
_BASE, _NAME, _SEQUENCE = 1, 2, 4  # of rosbags' Nodetype
Place = tuple[int, "np.dtype[Any] | None", int | None]  # offset, type (None: text), length
OTHERWISE = "a message is not what its definition says"
TEXTS = -1  # as the length of a text: it is a sequence of texts, read from the first message


def decode(store: Typestore, raw: bytes, name: str) -> Any:
    """Return one serialized message as an object.

    ROS 2 reserves space for the alignment of empty sequences and leaves it at the end of the
    message; `Typestore.deserialize_cdr` would refuse that tail.

    Raises:
        ValueError: the message is not what its definition says.
    """
    definition: Any = store.get_msgdef(name)
    decoder = (
        definition.deserialize_cdr_le
        if raw[:2] == _LITTLE_ENDIAN
        else definition.deserialize_cdr_be
    )
    try:
        return decoder(raw[_HEAD:], 0, definition.cls, store)[0]
    except Exception as error:  # of many kinds, as the decoder trusts every length it reads
        raise ValueError(OTHERWISE) from error


def flat_fields(store: Typestore, name: str, prefix: str = "") -> dict[str, str]:
    """Return the fields of a type that are numbers, texts or sequences of them, with their type.

    Fields of messages within have their path: ``header.frame_id``. Sequences of messages are left
    out.
    """
    found: dict[str, str] = {}
    fields: Any = store.fielddefs[name][1]
    for field, (node, detail) in fields:
        path = f"{prefix}{field}"
        if node == _NAME:
            found |= flat_fields(store, str(detail), f"{path}.")
        elif node == _BASE:
            found[path] = detail[0]
        elif detail[0][0] == _BASE:
            found[path] = f"{detail[0][1][0]}[]"
    return found


class Columns:
    """Collects the messages of one topic; `get` returns the fields as arrays.

    Args:
        store: knows the type `name`.
        name: type of the messages, such as ``spinemat_interfaces/msg/DriveState``.
        fields: paths of the fields that are wanted (see `flat_fields`); ``t``, the stamp in s,
            always comes along where messages have a header.
    """

    def __init__(self, store: Typestore, name: str, fields: Sequence[str]) -> None:
        self._store, self._name = store, name
        self._fields = [f for f in fields if f != "t"]
        known = flat_fields(store, name)
        self._stamped = "header.stamp.sec" in known
        self._kinds = {f: known[f] for f in self._fields if f in known}
        self._waiting: list[bytes] = []
        self._blocks: list[dict[str, NDArray[Any]]] = []

    def add(self, raw: bytes) -> None:
        """Take one serialized message.

        Raises:
            ValueError: as `get`.
        """
        self.extend([raw])

    def extend(self, raws: Sequence[bytes]) -> None:
        """Take serialized messages, in order.

        Raises:
            ValueError: as `get`.
        """
        self._waiting.extend(raws)
        if len(self._waiting) >= BLOCK:
            self._flush()

    def get(self) -> dict[str, NDArray[Any]]:
        """Return each field as an array: (m,) for a number or a text, (m, n) for a sequence.

        Raises:
            ValueError: a sequence changes its length, or as `decode`.
        """
        self._flush()
        found: dict[str, NDArray[Any]] = {}
        for name in (*(["t"] if self._stamped else []), *self._fields):
            parts = [block[name] for block in self._blocks]
            sizes = sorted({part.shape[1:] for part in parts})
            if len(sizes) > 1:
                raise ValueError(f"{name} changes its length: {[s[0] for s in sizes]}")
            found[name] = np.concatenate(parts) if parts else np.empty(0)
        return found

    def _flush(self) -> None:
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        lengths = np.array([len(raw) for raw in waiting])
        groups, blocks = [], []
        for length in np.unique(lengths):
            left = np.flatnonzero(lengths == length)
            for _ in range(SHAPES):
                alike, block = self._matrix([waiting[i] for i in left])
                if not alike.any():
                    break
                groups.append(left[alike])
                blocks.append(block)
                left = left[~alike]
                if not left.size:
                    break
            if left.size:
                groups.append(left)
                blocks.append(self._one_by_one([waiting[i] for i in left]))
        if len(blocks) == 1:
            self._blocks.append(blocks[0])
            return
        back = np.argsort(np.concatenate(groups), kind="stable")
        merged: dict[str, NDArray[Any]] = {}
        for name in blocks[0]:
            parts = [block[name] for block in blocks]
            sizes = sorted({part.shape[1:] for part in parts})
            if len(sizes) > 1:
                raise ValueError(f"{name} changes its length: {[s[0] for s in sizes]}")
            merged[name] = np.concatenate(parts)[back]
        self._blocks.append(merged)

    def _matrix(self, raws: list[bytes]) -> tuple[NDArray[np.bool_], dict[str, NDArray[Any]]]:
        """Return which of equally long messages have the first one's shape, and their fields.

        Not even the first one has it where one message does not tell the shape.
        """
        alike = np.zeros(len(raws), dtype=bool)
        first = raws[0]
        if first[:2] != _LITTLE_ENDIAN:
            return alike, {}
        walk = _Walk(self._store, first)
        walk.message(self._name, "")
        if not all(f in walk.places for f in self._fields):
            return alike, {}
        matrix = np.frombuffer(b"".join(raws), dtype=np.uint8).reshape(len(raws), -1)
        alike[:] = True
        shape = [(0, 2), *((at, at + 4) for at in walk.lengths)]
        shape += [
            (walk.places[f][0], end) for f, (end, _) in walk.texts.items() if f in self._fields
        ]
        for begin, end in shape:
            alike &= (matrix[:, begin:end] == matrix[0, begin:end]).all(axis=1)
        if not alike.all():
            matrix = matrix[alike]
        found: dict[str, NDArray[Any]] = {}
        if self._stamped:
            sec = _column(matrix, walk.places["header.stamp.sec"])
            found["t"] = sec + 1e-9 * _column(matrix, walk.places["header.stamp.nanosec"])
        for f in self._fields:
            if f in walk.texts:
                words = np.array(walk.texts[f][1], dtype=object)
                found[f] = np.tile(words, (len(matrix), 1))
            else:
                found[f] = _column(matrix, walk.places[f])
        return alike, found

    def _one_by_one(self, raws: list[bytes]) -> dict[str, NDArray[Any]]:
        messages = [decode(self._store, raw, self._name) for raw in raws]
        found: dict[str, NDArray[Any]] = {}
        if self._stamped:
            stamps = [m.header.stamp for m in messages]
            found["t"] = np.array([s.sec + 1e-9 * s.nanosec for s in stamps])
        for name in self._fields:
            column = [_attribute(m, name) for m in messages]
            kind = self._kinds[name].removesuffix("[]")
            if self._kinds[name] == "string":
                found[name] = np.array(column, dtype=object)
                continue
            sizes = sorted({np.size(c) for c in column})
            if len(sizes) > 1:
                raise ValueError(f"{name} changes its length: {sizes}")
            found[name] = np.array(column, dtype=object if kind == "string" else _dtype(kind))
        return found


def _attribute(message: Any, path: str) -> Any:
    for name in path.split("."):
        message = getattr(message, name)
    return message


class _Walk:
    """Finds where each field of one message lies, and where lengths are written."""

    def __init__(self, store: Typestore, raw: bytes) -> None:
        self._store, self._raw = store, raw
        self._at = _HEAD
        self.places: dict[str, Place] = {}
        self.lengths: list[int] = []
        self.texts: dict[str, tuple[int, list[str]]] = {}  # sequences of texts: end, words
        self.irregular = False  # holds sequences of messages; what follows is not found

    def message(self, name: str, prefix: str) -> None:
        fields: Any = self._store.fielddefs[name][1]
        for field, (node, detail) in fields:
            if self.irregular:
                return
            path = f"{prefix}{field}"
            if node == _NAME:
                self.message(str(detail), f"{path}.")
            elif node == _BASE:
                self._base(path, detail[0])
            else:
                (inner, inner_detail), count = detail
                if inner != _BASE:
                    self.irregular = True
                    return
                if node == _SEQUENCE:
                    count = self._length()
                if inner_detail[0] == "string":
                    self._sequence_of_texts(path, count)
                    continue
                self._numbers(path, inner_detail[0], count)

    def _base(self, path: str, kind: str) -> None:
        if kind == "string":
            length = self._length()  # moves self._at
            self.places[path] = (self._at, None, length)
            self._at += length
            return
        dtype = _dtype(kind)
        self._align(dtype.itemsize)
        self.places[path] = (self._at, dtype, None)
        self._at += dtype.itemsize

    def _sequence_of_texts(self, path: str, count: int) -> None:
        start, words = self._at, []
        for _ in range(count):
            length = self._length()
            words.append(self._raw[self._at : self._at + length - 1].decode("utf-8", "replace"))
            self._at += length
        self.places[path] = (start, None, TEXTS)
        self.texts[path] = self._at, words

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
        if value > len(self._raw) - self._at:
            raise ValueError(OTHERWISE)
        return value

    def _align(self, size: int) -> None:
        self._at += -(self._at - _HEAD) % size


def _dtype(kind: str) -> np.dtype[Any]:
    named = {"octet": "uint8", "byte": "uint8", "char": "uint8"}.get(kind, kind)
    return np.dtype(named).newbyteorder("<")


def _column(matrix: NDArray[np.uint8], place: Place) -> NDArray[Any]:
    at, dtype, count = place
    if dtype is None:
        return _texts(matrix[:, at : at + (count or 0)])
    size = dtype.itemsize * (1 if count is None else count)
    values = np.ascontiguousarray(matrix[:, at : at + size]).view(dtype)
    return values[:, 0] if count is None else values


def _texts(matrix: NDArray[np.uint8]) -> NDArray[Any]:
    """Return the texts in rows of bytes; each different one is decoded once."""
    found = np.empty(len(matrix), dtype=object)
    if matrix.shape[1] == 0:
        found[:] = ""
        return found
    if not (matrix != matrix[0]).any():
        found[:] = bytes(matrix[0]).rstrip(b"\0").decode("utf-8", "replace")
        return found
    rows = np.ascontiguousarray(matrix).view(f"V{matrix.shape[1]}")[:, 0]
    different, which = np.unique(rows, return_inverse=True)
    words = [bytes(row).rstrip(b"\0").decode("utf-8", "replace") for row in different]
    found[:] = np.array(words, dtype=object)[which]
    return found
