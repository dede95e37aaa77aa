"""The supervisor's rules as data, without ROS.

A rule has a name, a limit in words, where the limit comes from, the hazard it controls, and a pure
function that looks at one `View` and returns what is wrong, or None. Numbers without a source are
engineering choices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spinemat.anatomy import HEAVIEST, regional_sums
from spinemat.drive import Category, Stage
from spinemat.drive_track import (
    COMMANDED,
    FOLLOW_TIME,
    HOLD_FORCE,
    LEFT_TIME,
    RISE_TIME,
    TOUCHING,
    Sample,
    Track,
)
from spinemat.layout import REGIONS, MatLayout

Array = NDArray[np.float64]

HAND_TIMEOUT = 0.100  # s: five messages at 50 Hz
HEARTBEAT_TIMEOUT = 0.250  # s: six beats at 25 Hz
RESTING_TIMEOUT = 1.0  # s, the same in READY, where nothing moves
SUM_MARGIN, TOTAL_MARGIN = 1.3, 1.15  # of the sums that set-points keep, by region and in all
TEMPERATURE = 80.0  # degC, motor winding
PRESSURE = 55e3  # Pa under a tip; pressure hurts from 200 kPa (neck) to 700 kPa (loins)
RISE = 10.0  # N within RISE_TIME: treatment slew is 100 N/s, a muscle's answer 3 N
HOLD_TIME = 6.0  # s above HOLD_FORCE: presses keep 5 s
LOAD_MISMATCH = 6.0  # N between load cell and motor: friction is 3 N at most
LOAD_REST = 4.0  # N that a load cell may show when the tip is down and unpowered
JUMP = 0.003  # m in one cycle; a released tip falls 1 mm
PAIR_HEIGHT = 0.025  # m between the tips of a row that both carry load
ABSENT = 0.5  # N that a tip carries without a back on it
LEFT_FINGERS = 2  # tips that lose the back at once, within LEFT_TIME
LEFT_SHARE = 0.5  # of the tips that were on it
LEFT_DOWN = 0.00005  # m that they may have been commanded down meanwhile
FOLLOWED = 0.2  # share of what was COMMANDED in FOLLOW_TIME
EXCLUDED_MOVES, EXCLUDED_MOTOR = 0.002, 2.0  # m, N
GUARDING_TIME = 1.0  # s
SESSION_TIME, PRESSING_TIME = 3600.0, 1800.0  # s; 20 min of pressing are planned at most
OVERRUN = 0.100  # s of processor time for a judgement: what the drive waits for a permit

MEASURED = ("position", "velocity", "force", "current", "temperature")


class View(NamedTuple):
    """All that a rule may look at."""

    layout: MatLayout
    trip_limit: Array  # N, shape (n,)
    region_limit: Mapping[str, float]  # N, of all fingers under a region
    now: Sample
    before: Sample | None
    track: Track
    hand_held: bool
    hand_age: float  # s of drive time; inf: never heard
    heartbeat_age: Mapping[str, float]  # s, the smaller of drive and wall time; inf: never heard
    unhealthy: Mapping[str, str]  # node -> its own complaint
    resting: bool  # READY: permission is given, and nothing moves
    granted: bool  # permission given with the state before
    was_running: bool  # the drive stage obeyed commands with the state before
    excluded: NDArray[np.bool_]  # fingers that failed their self-test, shape (n,)
    publishers: Mapping[str, int]  # who else could command the drive: topic -> publishers
    checksum: str  # of the mat's description that this supervisor was started with
    checksums: Mapping[str, str]  # node -> what it was started with
    guarding_time: float  # s that protective muscle tension has been told of without a break
    session_time: float  # s since the session began, 0 without one
    longest: tuple[float, float]  # s that a session, and pressing in it, may last
    took: tuple[float, float]  # s of processor time that the last two judgements took


@dataclass(frozen=True)
class Rule:
    """One reason to stop."""

    name: str
    limit: str
    source: str
    hazard: str
    check: Callable[[View], str | None]
    category: Category = Category.RELEASE_AND_RETRACT


def region_limits(mass: float = HEAVIEST) -> dict[str, float]:
    """Sums of force that stop the mat, by region, N, for a person of `mass` kg."""
    return {region: SUM_MARGIN * most for region, most in regional_sums(mass).items()}


def _worst(v: View, bad: NDArray[np.bool_], by: Array) -> tuple[str, int]:
    """Name and index of the worst of the bad fingers."""
    i = int(np.argmax(np.where(bad, by, -np.inf)))
    return v.layout.names[i], i


def bad_data(v: View) -> str | None:
    """Values that are missing or not finite."""
    s, n = v.now, v.layout.n
    measured = s.position, s.velocity, s.force, s.current, s.temperature
    for values, name in zip(measured, MEASURED, strict=True):
        if values.shape != (n,):
            return f"{name}: {values.size} values; allowed: {n}"
        if not isfinite(values @ values) and not (good := np.isfinite(values)).all():
            i = int(np.argmin(good))
            return f"{name} of {v.layout.names[i]} is {values[i]}; allowed: finite"
    if s.status.shape != (n,):
        return f"status: {s.status.size} values; allowed: {n}"
    return None


def _order(v: View) -> str | None:
    if v.before is None:
        return None
    if v.now.boot_id != v.before.boot_id:
        return "the drive stage restarted"
    gap = v.now.cycle - v.before.cycle
    if gap != 1:
        return f"drive cycle went from {v.before.cycle} to {v.now.cycle}; allowed: one more"
    elapsed = (v.now.stamp - v.before.stamp) * 1e-9
    if not 0.0 < elapsed <= 0.1:
        return f"drive stamp moved by {elapsed:.4f} s in one cycle; allowed: 0 to 0.1 s"
    return None


def _force(v: View) -> str | None:
    over = v.now.force > v.trip_limit
    if np.count_nonzero(over):
        i = int(np.argmax(v.now.force - v.trip_limit))
        return (
            f"{v.layout.names[i]}: {v.now.force[i]:.1f} N; allowed: up to {v.trip_limit[i]:.1f} N"
        )
    return None


def _region(v: View) -> str | None:
    totals = (v.layout.members @ v.now.force).tolist()
    for region, total in zip(REGIONS, totals, strict=True):
        limit = v.region_limit[region]
        if total > limit:
            return f"{region}: {total:.0f} N together; allowed: up to {limit:.0f} N"
    return None


def _total(v: View) -> str | None:
    total = float(v.now.force.sum())
    limit = sum(v.region_limit.values()) * TOTAL_MARGIN / SUM_MARGIN
    return f"all fingers: {total:.0f} N; allowed: up to {limit:.0f} N" if total > limit else None


def _rise(v: View) -> str | None:
    if v.track.earlier is None or v.now.stage != Stage.RUNNING:
        return None
    rise = v.now.force - v.track.earlier
    if np.count_nonzero(rise > RISE):
        name, worst = _worst(v, rise > RISE, rise)
        return f"{name}: + {rise[worst]:.1f} N in {RISE_TIME:g} s; allowed: up to {RISE:g} N"
    return None


def _pressure(v: View) -> str | None:
    over = v.now.force > PRESSURE * v.layout.finger.tip_area
    if np.count_nonzero(over):
        name, worst = _worst(v, over, v.now.force)
        pressure = v.now.force[worst] / v.layout.finger.tip_area
        return f"{name}: {1e-3 * pressure:.0f} kPa; allowed: up to {1e-3 * PRESSURE:.0f} kPa"
    return None


def _dwell(v: View) -> str | None:
    held = v.track.held
    if np.count_nonzero(held > HOLD_TIME):
        name, worst = _worst(v, held > HOLD_TIME, held)
        return (
            f"{name}: above {HOLD_FORCE:g} N for {held[worst]:.1f} s;"
            f" allowed: up to {HOLD_TIME:g} s"
        )
    return None


def _current(v: View) -> str | None:
    limit = 1.05 * v.layout.finger.max_force / v.layout.finger.force_constant
    current = np.abs(v.now.current)
    if np.count_nonzero(current > limit):
        name, worst = _worst(v, current > limit, current)
        return f"{name}: {v.now.current[worst]:.2f} A; allowed: up to {limit:.2f} A"
    return None


def _load_cell(v: View) -> str | None:
    """Load cell against motor, against itself while the tip moves, and at rest."""
    sound = ~v.excluded
    off = np.abs(v.track.mismatch)
    high = off > LOAD_MISMATCH
    if np.count_nonzero(high) and np.count_nonzero(bad := high & sound):
        name, i = _worst(v, bad, off)
        return (
            f"{name}: load cell and motor differ by {v.track.mismatch[i]:.1f} N;"
            f" allowed: up to {LOAD_MISMATCH:g} N"
        )
    loaded = np.abs(v.now.force) > LOAD_REST
    down = v.now.position < v.layout.finger.stroke[0] + 0.001
    bad = down & loaded
    if np.count_nonzero(bad) and np.count_nonzero(bad := bad & sound & (v.now.current == 0.0)):
        name, i = _worst(v, bad, np.abs(v.now.force))
        return (
            f"{name}: {v.now.force[i]:.1f} N when down and unpowered; allowed: ± {LOAD_REST:g} N"
        )
    stuck, moved = v.track.stuck, v.track.travel
    if stuck is not None and np.count_nonzero(bad := stuck & (v.now.force > TOUCHING) & sound):
        name, i = _worst(v, bad, moved)
        return (
            f"{name}: load cell stuck at {v.now.force[i]:.1f} N while the tip moved by"
            f" {1e3 * moved[i]:.1f} mm; allowed: it changes"
        )
    return None


def _encoder(v: View) -> str | None:
    """Encoders that jump, and that stand still while the force changes."""
    if v.before is not None and v.before.position.shape == v.now.position.shape:
        jump = np.abs(v.now.position - v.before.position)
        far = jump > JUMP
        if np.count_nonzero(far) and np.count_nonzero(bad := far & ~v.excluded):
            name, i = _worst(v, bad, jump)
            return f"{name}: {1e3 * jump[i]:.1f} mm in one cycle; allowed: up to {1e3 * JUMP:g} mm"
    frozen, change = v.track.frozen, v.track.force_range
    if frozen is not None and np.count_nonzero(bad := frozen & ~v.excluded):
        name, i = _worst(v, bad, change)
        return (
            f"{name}: encoder stands still while force changed by {change[i]:.1f} N;"
            " allowed: it moves"
        )
    return None


def _pair(v: View) -> str | None:
    """The two tips of a row at very different heights: the person has rolled."""
    height = v.now.position.reshape(-1, 2)
    gap = np.abs(height[:, 0] - height[:, 1])
    if gap.max() <= PAIR_HEIGHT:
        return None
    gap = gap * (v.now.force.reshape(-1, 2) > TOUCHING).all(axis=1)
    row = int(gap.argmax())
    if gap[row] > PAIR_HEIGHT:
        return (
            f"{v.layout.rows[row].name}: left and right differ by {1e3 * gap[row]:.0f} mm;"
            f" allowed: up to {1e3 * PAIR_HEIGHT:.0f} mm"
        )
    return None


def _left(v: View) -> str | None:
    """Tips that lose the back at once, without having been commanded down."""
    touched, count = v.track.touched, v.track.touching
    if count < LEFT_FINGERS or v.now.stage != Stage.RUNNING:
        return None
    i = v.track.back(LEFT_TIME)
    absent = touched & (v.now.force < ABSENT)
    if i is None or np.count_nonzero(absent) < max(LEFT_FINGERS, LEFT_SHARE * count):
        return None
    lost = np.count_nonzero(absent & (v.track.way[-1] - v.track.way[i] > -LEFT_DOWN))
    if lost >= max(LEFT_FINGERS, LEFT_SHARE * count):
        return (
            f"{lost} of {count} fingers lost the back in {LEFT_TIME:g} s;"
            f" allowed: less than {LEFT_SHARE:g} of them"
        )
    return None


def _follows(v: View) -> str | None:
    """Tips that do not go where they are commanded to, up or down."""
    if not v.track.led or v.now.stage != Stage.RUNNING:
        return None
    asked, moved = v.track.asked, v.track.moved
    low, high = v.layout.finger.stroke
    blocked = (asked > 0.0) & ((v.now.force > TOUCHING) | (v.now.position > high - 0.002))
    blocked |= (asked < 0.0) & (v.now.position < low + 0.002)
    bad = (np.abs(asked) > COMMANDED) & ~blocked & ~v.excluded
    bad &= moved * np.sign(asked) < FOLLOWED * np.abs(asked)
    if np.count_nonzero(bad):
        name, k = _worst(v, bad, np.abs(asked))
        return (
            f"{name}: commanded to move by {1e3 * asked[k]:.1f} mm in {FOLLOW_TIME:g} s, moved by"
            f" {1e3 * moved[k]:.1f} mm; allowed: at least {FOLLOWED:g} of it"
        )
    return None


def _excluded(v: View) -> str | None:
    if not np.count_nonzero(v.excluded) or v.track.back(0.2) is None:
        return None
    motor = np.abs(v.now.current) * v.layout.finger.force_constant
    driven = (motor > EXCLUDED_MOTOR) & (v.now.stage == Stage.RUNNING)
    moved = np.ptp(np.array(v.track.position)[-10:], axis=0)
    bad = v.excluded & (driven | (moved > EXCLUDED_MOVES))
    if np.count_nonzero(bad):
        name, i = _worst(v, bad, motor)
        return (
            f"{name} failed its self-test, yet moves by {1e3 * moved[i]:.1f} mm under"
            f" {motor[i]:.1f} N; allowed: it lies still"
        )
    return None


def _publishers(v: View) -> str | None:
    for topic, count in v.publishers.items():
        if count > 1:
            return f"{topic} has {count} publishers; allowed: 1"
    return None


def _configuration(v: View) -> str | None:
    for node, checksum in v.checksums.items():
        if checksum and checksum != v.checksum:
            return f"{node} runs with mat {checksum[:8]}; allowed: {v.checksum[:8]}, as here"
    return None


def _guarding(v: View) -> str | None:
    if v.guarding_time > GUARDING_TIME:
        return f"muscles tense for {v.guarding_time:.1f} s; allowed: up to {GUARDING_TIME:g} s"
    return None


def _session(v: View) -> str | None:
    if v.session_time > v.longest[0]:
        return f"{v.session_time / 60:.1f} min; allowed: up to {v.longest[0] / 60:.1f} min"
    return None


def _pressing(v: View) -> str | None:
    if v.track.pressing > v.longest[1]:
        return f"{v.track.pressing / 60:.1f} min; allowed: up to {v.longest[1] / 60:.1f} min"
    return None


def _overrun(v: View) -> str | None:
    if min(v.took) > OVERRUN:
        return f"two judgements took {min(v.took):.3f} s or more; allowed: up to {OVERRUN:g} s"
    return None


def _stroke(v: View) -> str | None:
    low, high = v.layout.finger.stroke
    out = (v.now.position < low - 0.005) | (v.now.position > high + 0.005)
    if np.count_nonzero(out):
        i = int(np.argmax(out))
        return (
            f"{v.layout.names[i]}: {1e3 * v.now.position[i]:.1f} mm;"
            f" allowed: {1e3 * low:.0f} to {1e3 * high:.0f} mm"
        )
    return None


def _speed(v: View) -> str | None:
    limit = (
        2.5 * v.layout.finger.max_speed
    )  # a released finger falls back faster than it is driven
    fast = v.now.velocity > limit
    if np.count_nonzero(fast):
        i = int(np.argmax(v.now.velocity))
        return f"{v.layout.names[i]}: {v.now.velocity[i]:.3f} m/s; allowed: up to {limit:.3f} m/s"
    return None


def _temperature(v: View) -> str | None:
    if np.count_nonzero(v.now.temperature > TEMPERATURE):
        i = int(np.argmax(v.now.temperature))
        return (
            f"{v.layout.names[i]}: {v.now.temperature[i]:.0f} degC;"
            f" allowed: up to {TEMPERATURE:.0f} degC"
        )
    return None


def _status(v: View) -> str | None:
    if np.count_nonzero(v.now.status):
        i = int(np.argmax(v.now.status != 0))
        return f"{v.layout.names[i]} reports fault {int(v.now.status[i])}; allowed: 0"
    return None


def _hand(v: View) -> str | None:
    if v.hand_age > HAND_TIMEOUT:
        return f"silent for {v.hand_age:.2f} s; allowed: up to {HAND_TIMEOUT:.2f} s"
    return None if v.hand_held else "the person let go of the hand control"


def _heartbeat(v: View) -> str | None:
    longest = RESTING_TIMEOUT if v.resting else HEARTBEAT_TIMEOUT
    for node, age in v.heartbeat_age.items():
        if age > longest:
            return f"{node} silent for {age:.2f} s; allowed: up to {longest:.2f} s"
    for node, complaint in v.unhealthy.items():
        return f"{node}: {complaint}"
    return None


def _drive_released(v: View) -> str | None:
    if v.granted and v.was_running and v.now.stage != Stage.RUNNING:
        return f"the drive stage released the fingers by itself: {v.now.stage_reason}"
    return None


RULES: tuple[Rule, ...] = (
    Rule(
        "drive data",
        "finite, one value per finger",
        "engineering choice",
        "control on false data",
        bad_data,
    ),
    Rule(
        "drive order",
        "cycle + 1, stamp forward by up to 0.1 s",
        "engineering choice",
        "control on old data",
        _order,
    ),
    Rule(
        "finger force",
        "trip limit of the region",
        "config/mat.yaml limits.*.trip",
        "crush, pain",
        _force,
    ),
    Rule(
        "region force",
        "1.3 x 0.6 of the region's weight",
        "anatomy.regional_sums",
        "a region is lifted",
        _region,
    ),
    Rule(
        "total force",
        "1.15 x 0.6 of the weight over the mat",
        "anatomy.regional_sums",
        "the person is lifted",
        _total,
    ),
    Rule(
        "force rate",
        "10 N in 0.04 s",
        "treatment slew is 100 N/s",
        "impact, startled muscles",
        _rise,
    ),
    Rule(
        "pressure",
        "55 kPa",
        "pressure-pain thresholds over 1 cm2, 200 kPa and more",
        "skin, pain",
        _pressure,
    ),
    Rule(
        "dwell",
        "10 N for 6 s",
        "rhythm, never a static hold; presses keep 5 s",
        "blood flow of the skin",
        _dwell,
    ),
    Rule(
        "stroke",
        "stroke of the fingers ± 5 mm",
        "config/mat.yaml finger.stroke",
        "loss of position",
        _stroke,
    ),
    Rule(
        "finger speed",
        "2.5 x the largest driven speed, upward",
        "config/mat.yaml max_speed",
        "impact",
        _speed,
    ),
    Rule(
        "temperature",
        "80 degC",
        "engineering choice",
        "burn, motor failure",
        _temperature,
        Category.RELEASE_AND_POWER_OFF,
    ),
    Rule(
        "current",
        "1.05 x the current of the largest motor force",
        "config/mat.yaml max_force",
        "motor failure",
        _current,
        Category.RELEASE_AND_POWER_OFF,
    ),
    Rule(
        "drive fault",
        "no fault bit",
        "engineering choice",
        "drive failure",
        _status,
        Category.RELEASE_AND_POWER_OFF,
    ),
    Rule(
        "load cell",
        "6 N from the motor's force; ± 4 N at rest; not stuck",
        "friction is 3 N at most",
        "force not known",
        _load_cell,
    ),
    Rule(
        "encoder",
        "3 mm in a cycle; moves when force changes by 8 N",
        "engineering choice",
        "position not known",
        _encoder,
    ),
    Rule(
        "left-right",
        "25 mm between the tips of a row",
        "engineering choice",
        "the person has rolled",
        _pair,
    ),
    Rule(
        "person left",
        "less than half of the tips lose the back at once",
        "engineering choice",
        "the person sat up",
        _left,
    ),
    Rule(
        "following",
        "0.2 of a commanded way of 3 mm in 0.3 s",
        "engineering choice",
        "jammed finger under the person",
        _follows,
    ),
    Rule(
        "excluded finger",
        "lies still",
        "engineering choice",
        "a finger that failed its self-test presses",
        _excluded,
    ),
    Rule(
        "hand control",
        "held, heard within 0.1 s",
        "hold to run; engineering choice",
        "the person cannot stop the mat",
        _hand,
    ),
    Rule(
        "heartbeat",
        "heard within 0.25 s, at rest 1 s; healthy",
        "engineering choice",
        "a node died",
        _heartbeat,
    ),
    Rule(
        "drive watchdog",
        "the drive runs while permitted",
        "drive stage, 0.1 s",
        "commands lost",
        _drive_released,
    ),
    Rule(
        "publishers",
        "one on drive/command, drive/permit and hand_control each",
        "engineering choice",
        "two controllers, forged permit",
        _publishers,
    ),
    Rule(
        "configuration",
        "the same mat description everywhere",
        "engineering choice",
        "limits of another mat",
        _configuration,
    ),
    Rule(
        "guarding",
        "1 s without a break",
        "engineering choice",
        "muscles protect themselves",
        _guarding,
        Category.RETRACT_SLOWLY,
    ),
    Rule(
        "session time",
        "60 min, or less if so set",
        "longest session of comparable devices",
        "overdose",
        _session,
        Category.RETRACT_SLOWLY,
    ),
    Rule(
        "pressing time",
        "30 min, or less if so set",
        "20 min of pressing per session are planned at most",
        "overdose",
        _pressing,
        Category.RETRACT_SLOWLY,
    ),
    Rule(
        "overrun",
        "0.1 s of processor time, two judgements running",
        "drive stage waits 0.1 s for a permit, and sees to a single one",
        "the supervisor is too slow",
        _overrun,
    ),
)
