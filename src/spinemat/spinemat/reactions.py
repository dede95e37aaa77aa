"""What a person does under the fingers: protective muscle tension, movement, presence.

A passive back answers force with indentation, and how much each finger's tip gives way is learnt
while it presses: recursive least squares on the changes of height and force within a short window.
What a tip then moves beyond what its own force, its neighbours' forces, slow creep and breathing
explain is the person's own doing. Tips that press and are pushed back in proportion to how deep
they are: the tissue stiffens, faster than passive tissue can, which is guarding. Tips that are
carried along alike, deep or not, or lose the skin: the person moves.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import IntEnum
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spinemat.layout import MatLayout

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

# All numbers here are engineering choices, worked out on virtual people.
HELD = 0.8  # N: a finger whose set-point is lower is on its way down and may lose the skin
CORNER = {"neck": 3.5, "thoracic": 10.0, "lumbar": 10.0}  # N per finger at the end of the toe
TOE, LINEAR = 2200.0, 5500.0  # N/m under a finger, believed at first
UNSURE, SCANNED = 0.4, 0.15  # of what is believed at first, and after a scan
OWN = slice(0, 2)  # features that are a finger's own force
SHARES = np.array([0.0, 0.75, 0.1, 0.25, 0.1])  # of a finger's compliance beyond the toe
FIRM, RISING = 7.5, 0.5  # N, and N above all before the window: fingers that tell of guarding
RELAXING = 0.3  # s, how late tissue follows
FORGETTING = 20.0  # s
QUICK, SLOW = 0.04, 0.16  # s over which changes are looked at: for guarding, for movement
NOISE = 4e-5  # m, of a change of height beside what force explains
SWAYING = 0.0008  # m/s, that breathing carries the skin
MODEL_SHARE = 0.06  # of the change that force explains: what the model does not know
CORNER_SHARE = 0.3  # of the force at the end of the toe: by so much lower it may really end
LEARN_NOISE = 4.0  # windows overlap and errors last: samples count for so much less
OUTLIER = 3.0  # errors from which nothing is learnt, over the standard error
PUSHED, SURE = 0.03, 3.5  # share of the depth lost, and over its standard error: guarding
PUSH_MODEL_SHARE = 0.2  # in that error: neighbours' errors are alike, and add up
FADES = 3.0  # s, time constant with which the stiffening that is told fades
TOLD = 0.5  # s that guarding is told after a push: shorter than what the supervisor bears
ONGOING = 0.5  # of the force that was pushed back: with less, guarding is over
CARRIED, CARRIED_SURE = 0.001, 4.0  # m, and over its standard error: the skin moves
MOVING_SHARE, MOVING_LEAST = 0.3, 2  # of the fingers that touch, and how many at least
LOOKING = 3.0  # s that a finger looks for skin before it counts as not finding any
PRESENT_SHARE, ABSENT_SHARE = 0.34, 0.1  # of the fingers that look for skin


class Presence(IntEnum):
    """Whether somebody lies on the fingers."""

    UNKNOWN = 0
    ABSENT = 1
    PRESENT = 2


@dataclass(frozen=True)
class Reaction:
    """What the person does now.

    Attributes:
        guarding: protective tension is felt.
        stiffening: felt over expected force under each finger, shape (n,); 1: as expected.
        tense: fingers around which it is felt, shape (n,).
        confidence: that it is guarding, 0 to 1.
        moving: the body moves, other than by breathing.
        presence: whether somebody is felt at all.
        touching: how many fingers feel skin.
        reason: what was seen, for people; empty when nothing was.
    """

    guarding: bool
    stiffening: Array
    tense: Flags
    confidence: float
    moving: bool
    presence: Presence
    touching: int
    reason: str


class _Change(NamedTuple):
    """Change within a window, and what was to be expected; n fingers.

    Attributes:
        usable: fingers that touched all the time, shape (n,).
        change: of the features, shape (n, 5).
        error: height beyond what was expected, shape (n,), m; 0 where not usable.
        gain: covariance of the model times `change`, shape (n, 5).
        parts: of height that force explains, all counted up, shape (n,), m.
        noise: variance of a height that the model does not know, shape (n,), m^2.
        spread: standard error of the expectation, shape (n,), m.
        deep: how deep a tip is, shape (n,), m; 0 where not usable.
    """

    usable: Flags
    change: Array
    error: Array
    gain: Array
    parts: Array
    noise: Array
    spread: Array
    deep: Array


class ReactionWatch:
    """Guarding, movement and presence in real time.

    Args:
        layout: the mat.
        period: s between samples.
    """

    def __init__(self, layout: MatLayout, period: float) -> None:
        n = layout.n
        self._layout, self._period = layout, period
        self._corner = np.array([CORNER[region] for region in layout.regions])
        fingers = np.arange(n)
        row = fingers // 2
        self._partner = fingers ^ 1
        self._beside = (np.abs(row[:, None] - row[None, :]) == 1).astype(float)
        self._around = np.abs(np.arange(n // 2)[:, None] - row[None, :]) <= 1
        # own force below and above the corner, relaxed, partner's, next rows'
        first = np.append(1.0 / TOE, SHARES[1:] / LINEAR)
        self._believed = np.tile(first, (n, 1))
        self._start = np.tile(np.diag((UNSURE * first) ** 2), (n, 1, 1))
        self._theta = self._believed.copy()
        self._p = self._start.copy()
        self._keep = float(np.exp(-period / FORGETTING))
        self._quick, self._slow = round(QUICK / period), round(SLOW / period)
        self._relaxed = np.zeros(n)
        self._past: deque[tuple[Array, Array, Flags]] = deque(maxlen=self._slow + 1)
        self._time = -np.inf
        self._touched, self._lost, self._looked = np.zeros((3, n))  # s
        self._stiffening = np.ones(n)
        self._pushed, self._confidence, self._where = -np.inf, 0.0, ""
        self._tense, self._pushing = np.zeros(n, dtype=bool), 0.0  # where, and N on it then
        self.now = Reaction(False, np.ones(n), self._tense, 0.0, False, Presence.UNKNOWN, 0, "")

    def learn(self, linear: Array, toe: Array, corner: Array) -> None:
        """Begin with what a scan found under each finger.

        Args:
            linear, toe: slopes beyond and in the toe, shape (n,), N/m; NaN unknown.
            corner: force at which the toe ends, shape (n,), N; NaN unknown.
        """
        felt, beyond = np.isfinite(toe), np.isfinite(linear + toe + corner)
        self._believed[beyond] = SHARES / linear[beyond, None]
        self._believed[felt, 0] = 1.0 / toe[felt]
        self._corner[beyond] = corner[beyond]
        # where the toe alone was felt, what lies beyond it is known no better than before
        variance = np.einsum("nii->ni", self._start)
        known = (SCANNED * self._believed) ** 2
        variance[felt, 0], variance[beyond, 1:] = known[felt, 0], known[beyond, 1:]

    def add(
        self, now: float, position: Array, force: Array, driven: Flags, contact: Flags
    ) -> Reaction:
        """Take a sample and say what the person does.

        Args:
            now: drive time, s.
            position: of the tips, shape (n,), m.
            force: felt, shape (n,), N.
            driven: fingers that hold a force of at least `HELD`, shape (n,).
            contact: fingers that touch, shape (n,).
        """
        if not 0.0 < now - self._time < 2.5 * self._period:
            self._past.clear()  # a gap: changes across it say nothing
        self._time = now
        contact = contact & driven
        self._lost = np.where(driven & ~contact, self._lost + self._period, 0.0)
        self._lost[(self._touched == 0.0) & (self._lost <= self._period)] = np.inf
        fresh = contact & (self._touched == 0.0)
        self._touched = np.where(contact, self._touched + self._period, 0.0)
        self._looked = np.where(driven, self._looked + self._period, 0.0)
        self._theta[fresh], self._p[fresh] = self._believed[fresh], self._start[fresh]
        features = self._features(np.maximum(force, 0.0), contact)
        self._past.append((position, features, contact))
        self._stiffening = 1.0 + (self._stiffening - 1.0) * np.exp(-self._period / FADES)
        moving, reason = False, ""
        if len(self._past) > self._slow:
            moving, reason = self._look()
        loaded = float(force[self._tense].max(initial=0.0)) > ONGOING * self._pushing
        guarding = loaded and now - self._pushed <= TOLD
        if guarding and not moving:
            reason = self._where
        self.now = Reaction(
            guarding,
            self._stiffening.copy(),
            self._tense & guarding,
            self._confidence if guarding else 0.0,
            moving,
            self._presence(contact),
            int(contact.sum()),
            reason,
        )
        return self.now

    def _features(self, f: Array, contact: Flags) -> Array:
        follow = 1.0 - np.exp(-self._period / RELAXING)
        self._relaxed = np.where(contact, self._relaxed + follow * (f - self._relaxed), f)
        low, high = np.minimum(f, self._corner), np.maximum(f - self._corner, 0.0)
        return np.stack([low, high, self._relaxed, f[self._partner], self._beside @ f], axis=1)

    def _look(self) -> tuple[bool, str]:
        """Compare the windows with what was learnt; return whether the person moves, and why."""
        c = self._since(self._quick)
        share, sure = self._pushed_back(c)
        row = int(np.argmax(sure))
        hit = share[row] >= PUSHED and sure[row] >= SURE
        c = self._since(self._slow)
        left = c.error + (share[row] * c.deep * self._around[row] if hit else 0.0)
        carried = c.usable & (np.abs(left) > np.maximum(CARRIED, CARRIED_SURE * c.spread))
        lost = self._past[0][2] & (self._lost > 0.0) & (self._lost <= SLOW)
        many = int((carried | lost).sum())
        if many >= max(MOVING_LEAST, MOVING_SHARE * int((c.usable | lost).sum())):
            way = 1e3 * float(np.median(left[carried])) if carried.any() else 0.0
            words = f"{carried.sum()} fingers are carried along ({way:+.1f} mm)"
            return True, f"the person moves: {words}, {lost.sum()} lost the back"
        if hit:
            self._note(row, float(share[row]), float(sure[row]))
        self._learn(c)
        return False, ""

    def _since(self, samples: int) -> _Change:
        """What happened since so many samples ago, and what was to be expected."""
        (position, features, contact), before = self._past[-1], self._past[-1 - samples]
        seconds = samples * self._period
        usable = contact & before[2] & (self._touched > seconds)
        change = features - before[1]
        parts = change * self._theta
        error = np.where(usable, position - before[0] - parts.sum(axis=1), 0.0)
        gain = np.einsum("nij,nj->ni", self._p, change)
        own = NOISE**2 + (SWAYING * seconds) ** 2
        explained = np.abs(parts).sum(axis=1)
        noise = own + (MODEL_SHARE * explained) ** 2
        spread = np.sqrt(noise + np.sum(change * gain, axis=1))
        deep = np.where(usable, np.sum(features * self._theta, axis=1), 0.0)
        return _Change(usable, change, error, gain, explained, noise, spread, deep)

    def _pushed_back(self, c: _Change) -> tuple[Array, Array]:
        """By which share of their depth the tips around each row are pushed back, and how surely.

        Returns:
            Share and share over its standard error, shape (rows,) each.
        """
        own = self._past[-1][1][:, OWN].sum(axis=1)
        rise = c.change[:, OWN].sum(axis=1)
        # not one that only comes back after a dip, as where a drive turns round
        before = list(self._past)[: -self._quick]
        highest = np.max([f[:, OWN].sum(axis=1) for _, f, _ in before], axis=0)
        deep = np.where((own >= FIRM) & (own - highest >= RISING), c.deep, 0.0)
        # the toe may have ended already at a lower force: what that explains is no guarding
        low = np.maximum(own - rise, (1.0 - CORNER_SHARE) * self._corner)
        bent = np.maximum(np.minimum(own, self._corner) - low, 0.0)
        bent *= np.maximum(self._theta[:, 0] - self._theta[:, 1], 0.0)
        error = np.where(c.error < 0.0, np.minimum(c.error + bent, 0.0), c.error)
        more = (PUSH_MODEL_SHARE**2 - MODEL_SHARE**2) * c.parts**2
        variance = c.spread**2 + more
        weight = self._around @ (deep**2 / variance)
        share = -(self._around @ (error * deep / variance)) / np.maximum(weight, 1e-9)
        return share, share * np.sqrt(weight)

    def _note(self, row: int, share: float, sure: float) -> None:
        ratio = 1.0 / (1.0 - min(share, 0.75))
        mine = self._around[row] & (self._touched > 0.0)
        self._stiffening[mine] = np.maximum(self._stiffening[mine], ratio)
        self._pushed, self._tense = self._time, mine
        self._pushing = float(self._past[-1][1][mine][:, OWN].sum(axis=1).max())
        self._confidence = NormalDist().cdf((share - PUSHED) * sure / share)
        name = self._layout.rows[row].name
        self._where = (
            f"{100.0 * (ratio - 1.0):.0f} % stiffer around {name} within {1e3 * QUICK:.0f} ms"
        )

    def _learn(self, c: _Change) -> None:
        learn = c.usable & (np.abs(c.error) < OUTLIER * c.spread)
        scale = self._keep * LEARN_NOISE**2 * c.noise + np.sum(c.change * c.gain, axis=1)
        step = c.gain / scale[:, None]
        self._theta[learn] += (step * c.error[:, None])[learn]
        self._p[learn] -= (step[:, :, None] * c.gain[:, None, :])[learn]
        self._p /= self._keep
        # what was not excited for long is not known worse than at first
        now, first = (np.einsum("nii->ni", p) for p in (self._p, self._start))
        shrink = np.sqrt(np.minimum(1.0, first / np.maximum(now, 1e-30)))
        self._p *= shrink[:, :, None] * shrink[:, None, :]

    def _presence(self, contact: Flags) -> Presence:
        looked = (self._looked > LOOKING) | contact
        if looked.any():
            share = contact[looked].mean()
            if share >= PRESENT_SHARE:
                return Presence.PRESENT
            if share <= ABSENT_SHARE:
                return Presence.ABSENT
        return Presence.UNKNOWN
