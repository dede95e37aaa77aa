"""What a recorded treatment gave to the levels, and when, beside what was planned.

Everything is counted from the record: presses are peaks of the fingers' set-points, force and
movement are what the fingers felt. Times are s of drive time, arrays over levels L5 first.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.signal import find_peaks

from spinemat.back_model import UP
from spinemat.delivered import Delivered
from spinemat.layout import MatLayout
from spinemat.mobilisation import OnMat
from spinemat.press import EXPIRING
from spinemat_recording.record import FORCE_MODE, PHASES, Guarding, SessionRecord, name_of

RISE = 0.3  # N, by which a set-point rises above its surroundings in a press (engineering choice)
HOLD = 5.0  # s; a set-point that rests longer at its peak is contact, no press
LONE = 2.0  # s that a press without another one beside it is taken to last (engineering choice)
SLOWEST = 20.0  # s between presses, as slow as a rhythm may be
BREATHING_OUT = 0.3  # turns of the breath before and after the middle of breathing out
GOES_ON = "goes on"  # what the session says after a pause, instead of the step's name
DOSE_METHOD = (
    "presses are the peaks of the fingers' set-points during treatment; peak is the largest force"
    " that a finger beside the level felt while it pressed; work is force over inward movement,"
    " shared among the levels beside each row as the plan shares it, with the levels' places from"
    " the first scan"
)


class Presses(NamedTuple):
    """Presses of all fingers in time order: shape (k,) each.

    Attributes:
        t: of the peak of the set-point, s.
        finger: index in the layout.
        span: how long the press is taken to last, s.
    """

    t: NDArray[np.float64]
    finger: NDArray[np.int64]
    span: NDArray[np.float64]


class Dose(NamedTuple):
    """What one level got, beside its plan; None where that is not known.

    Attributes:
        level: name.
        planned_peak, peak: greatest force of a finger beside it, N.
        planned_presses, presses: that reached it.
        planned_work, work: put in while moving inward, J.
        time: of pressing on it, s.
        why: sentences of the plan.
    """

    level: str
    planned_peak: float | None
    peak: float | None
    planned_presses: float | None
    presses: float | None
    planned_work: float | None
    work: float | None
    time: float | None
    why: tuple[str, ...]


class Step(NamedTuple):
    """One step of the treatment as it went.

    Attributes:
        words: of the session for it.
        start, end: s.
        presses: of all its fingers.
        judged: presses at which the breath could be felt.
        expiring: share of those with their peak while the person breathed out; NaN: none judged.
    """

    words: str
    start: float
    end: float
    presses: int
    judged: int
    expiring: float


class Episode(NamedTuple):
    """Protective tension that was felt: from start to end in s, and how much stiffer at most."""

    start: float
    end: float
    stiffening: float


def presses(record: SessionRecord) -> Presses:
    """Find every press of the treatment; empty when the fingers' states were not recorded."""
    none = Presses(np.zeros(0), np.zeros(0, dtype=np.int64), np.zeros(0))
    f = record.fingers
    if f is None or f.t.size < 3:
        return none
    treating = _within(f.t, [(a, b) for name, a, b in record.phases if name == "TREAT"])
    rate = 1.0 / float(np.median(np.diff(f.t)))
    found = []
    for i in range(f.set_point.shape[1]):
        force = np.where(treating & (f.mode[:, i] == FORCE_MODE), f.set_point[:, i], 0.0)
        at, _ = find_peaks(force, prominence=RISE, plateau_size=(None, HOLD * rate))
        if at.size:
            gap = np.diff(f.t[at], prepend=-np.inf, append=np.inf)
            span = np.minimum(gap[:-1], gap[1:])
            span[span > SLOWEST] = LONE
            found.append(Presses(f.t[at], np.full(at.size, i), span))
    if not found:
        return none
    t, finger, span = map(np.concatenate, zip(*found, strict=True))
    order = np.argsort(t, kind="stable")
    return Presses(t[order], finger[order], span[order])


def doses(record: SessionRecord, layout: MatLayout) -> list[Dose]:
    """Return what was planned and given, level by level from L5 to C1.

    Empty where there is neither a plan nor a treatment.
    """
    planned = {d.level: d for d in record.plan.levels} if record.plan else {}
    given = _given(record, layout)
    if not planned and given is None:
        return []
    rows = []
    for i, level in enumerate(UP):
        p = planned.get(level)
        rows.append(
            Dose(
                level,
                p.peak if p else None,
                given.peak[i] if given else None,
                p.cycles if p else None,
                given.cycles[i] if given else None,
                p.work if p else None,
                given.work[i] if given else None,
                given.time[i] if given else None,
                p.why if p else (),
            )
        )
    return rows


class _Given(NamedTuple):
    work: list[float]
    peak: list[float]
    time: list[float]
    cycles: list[float]


def _given(record: SessionRecord, layout: MatLayout) -> _Given | None:
    """Add up what the levels got; None: nobody knows where they are, or nothing was recorded."""
    f, where = record.fingers, _places(record)
    if f is None or where is None or f.force.shape[1] != layout.n:
        return None
    found = presses(record)
    moving = np.zeros(f.force.shape, dtype=bool)
    for t, finger, span in zip(*found, strict=True):
        a, b = np.searchsorted(f.t, (t - 0.5 * span, t + 0.5 * span))
        moving[a : b + 1, finger] = True
    on_mat = OnMat(layout, np.nan, where, np.zeros(layout.n))
    given = Delivered(on_mat)
    last = -2
    for k in np.flatnonzero(moving.any(axis=1)).tolist():
        if k != last + 1:
            given.pause()
        given.add(float(f.t[k]), f.position[k], f.force[k], moving[k], 0.0)
        last = k
    got = given.levels()
    reached = np.zeros(len(UP))
    for step in steps(record):  # two steps may reach a level by different rows
        inside = (found.t >= step.start) & (found.t < step.end)
        count = np.bincount(found.finger[inside], minlength=layout.n).reshape(-1, 2).max(axis=1)
        reached += np.where(on_mat.beside, count[:, None], 0).max(axis=0)
    return _Given(got.work.tolist(), got.peak.tolist(), got.time.tolist(), reached.tolist())


def _places(record: SessionRecord) -> NDArray[np.float64] | None:
    """Where the first scan believes L5 … C1 to lie, shape (24,), m."""
    at: dict[str, float] = {}
    for contour in record.contours[:1]:
        at |= zip(contour.levels, np.asarray(contour.level_x).tolist(), strict=False)
    for found in record.stiffness[:1]:  # what the plan reckons with
        at |= {e.level: e.x for e in found.levels if e.side == "BOTH"}
    return np.array([at[v] for v in UP]) if all(v in at for v in UP) else None


def steps(record: SessionRecord) -> list[Step]:
    """Return the steps of the treatment, with the share of peaks while breathing out."""
    spans: list[tuple[str, float, float]] = []
    s = record.session
    if s is None:
        return []
    edges = [0, *(k for k in range(1, s.t.size) if _said(record, k) != _said(record, k - 1))]
    times = [*s.t[edges].tolist(), record.end]
    words = ""
    for k, i in enumerate(edges):
        phase, detail = _said(record, i)
        if phase != "TREAT":
            continue
        words = words if detail == GOES_ON and words else detail
        if spans and spans[-1][0] == words and spans[-1][2] == times[k]:
            spans[-1] = (words, spans[-1][1], times[k + 1])
        else:
            spans.append((words, times[k], times[k + 1]))
    found = presses(record)
    turns = breath_at(record, found.t)
    out = np.abs((turns - EXPIRING + 0.5) % 1.0 - 0.5) <= BREATHING_OUT
    rows = []
    for words, start, end in spans:
        mine = (found.t >= start) & (found.t < end)
        felt = mine & np.isfinite(turns)
        share = float(out[felt].mean()) if felt.any() else float("nan")
        rows.append(
            Step(words or "treatment", start, end, int(mine.sum()), int(felt.sum()), share)
        )
    return rows


def _said(record: SessionRecord, k: int) -> tuple[str, str]:
    assert record.session is not None
    return name_of(PHASES, int(record.session.phase[k])), record.session.detail[k]


def breath_at(record: SessionRecord, t: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return turns of the breath since end-expiration at times t (m,); NaN where not felt."""
    b = record.breathing
    turns = np.full(t.shape, np.nan)
    if b is None or not b.t.size:
        return turns
    k = np.clip(np.searchsorted(b.t, t, side="right") - 1, 0, b.t.size - 1)
    since = t - b.t[k]
    felt = np.asarray(b.valid, dtype=bool)[k] & (since >= 0.0) & (since <= 0.5)
    turns[felt] = (b.phase[k] / (2.0 * np.pi) + b.rate[k] * since)[felt] % 1.0
    return turns


def rates(record: SessionRecord, phase: str) -> NDArray[np.float64]:
    """Return the breathing rates that were felt in a phase of the session, Hz."""
    b = record.breathing
    if b is None:
        return np.zeros(0)
    inside = _within(b.t, [(start, end) for name, start, end in record.phases if name == phase])
    return np.asarray(b.rate[inside & np.asarray(b.valid, dtype=bool)], dtype=float)


def episodes(guarding: Guarding | None) -> list[Episode]:
    """Return when protective tension was felt."""
    if guarding is None or not guarding.t.size:
        return []
    active = np.concatenate([[False], np.asarray(guarding.active, dtype=bool), [False]])
    edges = np.flatnonzero(np.diff(active.astype(np.int8)))
    rows = []
    for a, b in zip(edges[::2], edges[1::2], strict=True):
        end = guarding.t[min(b, guarding.t.size - 1)]
        felt = guarding.stiffening[a:b]
        most = float(np.nanmax(felt)) if np.isfinite(felt).any() else float("nan")
        rows.append(Episode(float(guarding.t[a]), float(end), most))
    return rows


def _within(t: NDArray[np.float64], spans: list[tuple[float, float]]) -> NDArray[np.bool_]:
    inside = np.zeros(t.shape, dtype=bool)
    for start, end in spans:
        inside |= (t >= start) & (t < end)
    return inside
