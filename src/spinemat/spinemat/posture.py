"""The spine's curve from a wearable strip of inertial sensors, in real time.

Every sensor on the strip tells the direction of the back where it is fixed. Directions relative
to the lowest sensor, interpolated along the strip and integrated, are the curve in the sagittal
plane; neither gravity nor a magnetometer is needed, so it holds standing and lying.

Convention of the strip, as in the frame `mat`: x of every sensor points along the back toward the
head, z into the body, y to the person's right. Places are arc lengths along the skin from the
upper edge of the sacrum.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator
from transforms3d.quaternions import quat2mat

from spinemat.anatomy import ABOVE_SACRUM, LEVELS, Intake, back_length
from spinemat.errors import InvalidInput

Array = NDArray[np.float64]

STEP = 0.005  # m along the strip between the points of the curve
FEWEST, MOST = 3, 64  # sensors
LONGEST = 1.0  # m
UNIT = 0.01  # by which the norm of a quaternion may differ from 1
FIXED = np.radians(1.5)  # rad, of how straight a sensor sits on the skin (engineering choice)
EVERY = 100_000_000  # ns of drive time, in each of which a curve is told
FRESH = 200_000_000  # ns, age of the oldest direction
FUTURE = 100_000_000  # ns: the states of the fingers, which tell the time here, come every 20 ms
USUAL_ERROR = float(np.radians(2.0))  # rad, where a sensor does not tell (engineering choice)
_FRAME = re.compile(r"(?:.*[/_])?posture_(\d+)")
METHOD = (
    "directions of inertial sensors on the skin relative to the lowest one, monotone cubic"
    " interpolation along the strip, integrated; x along the line between its ends; levels placed"
    " by the body survey; angles between the tangents at T1, T12 and S1"
)


@dataclass(frozen=True)
class PostureEstimate:
    """The curve of the back; heights in m over the line between the strip's ends.

    Attributes:
        x, z, z_std: of the curve, shape (m,), m.
        levels: names of the levels under the strip, S1 first.
        level_x, level_x_std: where they are along x, m.
        level_pitch: of the tangent there, rad; > 0: the back rises toward the head.
        kyphosis, lordosis: rad; NaN when the strip does not reach.
        kyphosis_std, lordosis_std: what the sensors' errors make of them, rad.
    """

    x: Array
    z: Array
    z_std: Array
    levels: tuple[str, ...]
    level_x: Array
    level_x_std: Array
    level_pitch: Array
    kyphosis: float
    kyphosis_std: float
    lordosis: float
    lordosis_std: float
    method: str = METHOD


def check_strip(places: Array) -> Array:
    """Check the places of a strip's sensors, m.

    Raises:
        InvalidInput: fewer than 3 or more than 64, not ascending, or outside 0 to 1 m.
    """
    s = np.asarray(places, dtype=float)
    allowed = f"{FEWEST} to {MOST} ascending numbers from 0 to {LONGEST:g} m"
    if not (
        FEWEST <= s.size <= MOST
        and np.isfinite(s).all()
        and (np.diff(s) > 0.0).all()
        and s[0] >= 0.0
        and s[-1] <= LONGEST
    ):
        raise InvalidInput("posture_strip", s.tolist(), allowed)
    return s


def rotation(quaternion: Array) -> Array:
    """Rotation matrix (3, 3) of a quaternion x, y, z, w as messages have it.

    Raises:
        InvalidInput: it is not a unit quaternion.
    """
    q = np.asarray(quaternion, dtype=float)
    if not np.isfinite(q).all() or abs(np.linalg.norm(q) - 1.0) > UNIT:
        raise InvalidInput("orientation", q.tolist(), "a unit quaternion")
    return np.asarray(quat2mat(q[[3, 0, 1, 2]]))


class PostureWatch:
    """Takes the directions of a strip's sensors as they come; tells a curve once all are fresh.

    When it is told depends on drive time alone, so that a recording that begins anywhere gives
    the same again.

    Args:
        places: of the sensors, shape (k,), m; see `check_strip`. k = 0: there is no strip.

    Attributes:
        intake: of the person; None: not known.
    """

    def __init__(self, places: Array) -> None:
        k = places.size
        self.intake: Intake | None = None
        self._places = places
        self._rotations = np.tile(np.eye(3), (k, 1, 1))
        self._stamps = np.zeros(k, dtype=np.int64)
        self._errors = np.full(k, USUAL_ERROR)
        self._told = 0

    def add(
        self, frame: str, now: int, quaternion: Array, covariance: Array, drive: int
    ) -> PostureEstimate | None:
        """Take one direction; return a curve when it is time for one.

        Args:
            frame: of the sensor: ``posture_0`` for the lowest, whatever comes before it.
            now: its time, ns of drive time.
            quaternion: its direction: x, y, z, w.
            covariance: of the direction, shape (9,), rad^2, as in Imu.msg.
            drive: drive time, ns; 0: not known yet.

        Raises:
            InvalidInput: the sensor, its time or its direction is not acceptable.
        """
        if not self._places.size:
            raise InvalidInput("posture_strip", "none", "the places of the strip's sensors")
        name = _FRAME.fullmatch(frame)
        i = int(name.group(1)) if name else -1
        if not 0 <= i < self._places.size:
            raise InvalidInput("frame_id", frame, f"posture_0 to posture_{self._places.size - 1}")
        if drive and not drive - FRESH <= now <= drive + FUTURE:
            allowed = f"{1e-9 * (drive - FRESH):.3f} to {1e-9 * (drive + FUTURE):.3f} s"
            raise InvalidInput("stamp", 1e-9 * now, allowed)
        if self._stamps[i] > drive + FUTURE:
            self._stamps[:] = self._told = 0  # drive time began anew
        if now <= self._stamps[i]:
            raise InvalidInput("stamp", 1e-9 * now, f"later than {1e-9 * self._stamps[i]:.3f} s")
        if covariance[0] < 0.0:
            raise InvalidInput("orientation_covariance", -1.0, "a sensor that knows directions")
        self._rotations[i] = rotation(quaternion)
        told = float(max(covariance[0], covariance[4]))
        self._errors[i] = np.sqrt(told) if told > 0.0 else USUAL_ERROR
        self._stamps[i] = now
        if now // EVERY == self._told // EVERY or now - int(self._stamps.min()) > FRESH:
            return None
        self._told = now
        return posture(self._places, self._rotations, self._errors, self.intake)


def posture(
    places: Array, rotations: Array, error: Array, intake: Intake | None
) -> PostureEstimate:
    """Work out the curve from all sensors at one time.

    Args:
        places: of the sensors, shape (k,), m; see `check_strip`.
        rotations: of the sensors in a common frame, shape (k, 3, 3).
        error: standard error of each direction, shape (k,), rad.
        intake: of the person; None: no levels and no angles.
    """
    along = np.einsum("ji,kj->ki", rotations[0], rotations[:, :, 0])  # seen by the lowest sensor
    pitch = np.unwrap(np.arctan2(along[:, 2], along[:, 0]))
    s = np.unique(np.concatenate([np.arange(places[0], places[-1], STEP), places[-1:]]))
    spread = np.hypot(error, FIXED)
    x, z, at = _curve(places, pitch, s)
    chord = np.arctan2(z[-1], x[-1])
    line = np.array([[np.cos(chord), np.sin(chord)], [-np.sin(chord), np.cos(chord)]])
    x, z = line @ np.stack([x, z])
    above = back_length(intake) * ABOVE_SACRUM[::-1] if intake is not None else ()
    names = ("S1", *LEVELS[::-1])[: len(above) + 1 if intake is not None else 0]
    arc = dict(zip(names, (0.0, *above), strict=False))
    under = {v: a for v, a in arc.items() if places[0] - STEP <= a <= places[-1] + STEP}

    def tangents(pitch_at: PchipInterpolator) -> dict[str, float]:
        return {v: float(pitch_at(np.clip(a, s[0], s[-1]))) - chord for v, a in under.items()}

    def angles(tangent: dict[str, float]) -> Array:
        t1, t12, s1 = (tangent.get(v, np.nan) for v in ("T1", "T12", "S1"))
        return np.array([t1 - t12, s1 - t12])

    tangent = tangents(at)
    found = angles(tangent)
    variance, unsure = np.zeros_like(s), np.zeros(2)
    for i in range(places.size):
        nudged = pitch.copy()
        nudged[i] += 1e-4
        there = _curve(places, nudged, s)
        turn = np.arctan2(there[1][-1], there[0][-1])
        height = -np.sin(turn) * there[0] + np.cos(turn) * there[1]
        variance += (spread[i] * (height - z) / 1e-4) ** 2
        unsure += (spread[i] * (angles(tangents(there[2])) - found) / 1e-4) ** 2
    level_s = np.array(list(under.values()))
    return PostureEstimate(
        x=x,
        z=z,
        z_std=np.sqrt(variance),
        levels=tuple(under),
        level_x=np.interp(level_s, s, x),
        level_x_std=0.045 * level_s,  # of the survey's length of the back
        level_pitch=np.array(list(tangent.values())),
        kyphosis=float(found[0]),
        kyphosis_std=float(np.sqrt(unsure[0])),
        lordosis=float(found[1]),
        lordosis_std=float(np.sqrt(unsure[1])),
    )


def _curve(places: Array, pitch: Array, s: Array) -> tuple[Array, Array, PchipInterpolator]:
    """Integrate directions; return x, z at s and the interpolation of pitch."""
    at = PchipInterpolator(places, pitch)
    middle = at(0.5 * (s[1:] + s[:-1]))
    step = np.diff(s)
    x = np.concatenate([[0.0], np.cumsum(step * np.cos(middle))])
    z = np.concatenate([[0.0], np.cumsum(step * np.sin(middle))])
    return x, z, at
