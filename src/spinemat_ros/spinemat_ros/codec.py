"""Messages and arrays: the one place where numpy meets ROS."""

from __future__ import annotations

import array
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from numpy.typing import ArrayLike, NDArray

_TYPECODES = {"d": np.float64, "H": np.uint16, "B": np.uint8}


def doubles(values: ArrayLike) -> array.array[float]:
    """Return values as the float64 sequence a message field takes, without a copy per element."""
    return _pack("d", values)


def uint16s(values: ArrayLike) -> array.array[int]:
    """Return values as the uint16 sequence a message field takes."""
    return _pack("H", values)


def uint8s(values: ArrayLike) -> array.array[int]:
    """Return values as the uint8 sequence a message field takes."""
    return _pack("B", values)


def bools(values: ArrayLike) -> list[bool]:
    """Return values as the bool sequence a message field takes."""
    result: list[bool] = np.asarray(values, dtype=bool).tolist()
    return result


def view(field: Any) -> NDArray[np.float64]:
    """Return a float64 field as an array on the message's own memory, shape (n,); read only."""
    return np.frombuffer(field) if len(field) else np.empty(0)


def floats(field: Any) -> NDArray[np.float64]:
    """Return a float64 field as an array of its own, shape (n,)."""
    return np.array(field, dtype=np.float64)


def seconds(stamp: Time) -> float:
    """Return a stamp in s."""
    return float(stamp.sec) + 1e-9 * float(stamp.nanosec)


def stamp(nanoseconds: int) -> Time:
    """Return a stamp from whole nanoseconds."""
    sec, nanosec = divmod(int(nanoseconds), 1_000_000_000)
    return Time(sec=sec, nanosec=nanosec)


def nanoseconds(stamp: Time) -> int:
    """Return a stamp in whole nanoseconds."""
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def _pack(code: str, values: ArrayLike) -> array.array[Any]:
    packed = array.array(code)
    packed.frombytes(np.ascontiguousarray(values, dtype=_TYPECODES[code]).tobytes())
    return packed
