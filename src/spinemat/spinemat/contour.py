"""The back's contour and where the levels lie, from the heights at which fingers met the skin.

One Bayesian fit gives both. A mean curve whose curvature has one bump per zone (kyphotic T1 to
T12, lordotic T12 to S1 and C1 to T1) carries the person's angles, place and length as unknowns
with prior errors: the length of the back from a body survey, the angles from surface instruments.
A Gaussian process beside it takes up what real backs do otherwise. Places where curvature changes
its sign are the landmarks: they tell T12 and T1 from one another however tall the person is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from spinemat.anatomy import (
    ABOVE_SACRUM,
    BACK_ERROR,
    LEVELS,
    PROPORTION_ERROR,
    S1_ERROR,
    S1_FAR,
    Intake,
    back_length,
    level_positions,
    s1_on_mat,
)

Array = NDArray[np.float64]

GRID = 0.005  # m
STENCIL = np.array([-0.5, 0.5, -0.5, 0.5]) * GRID  # around two levels
MIN_ROWS = 4
# Surface angles lying, mean and standard deviation, degrees: SpinalMouse study, lumbar x 0.74
# lying (PMC6680033), thoracic x 0.6 (choice); neck doi 10.1186/s12891-020-03715-2
KYPHOSIS = {"male": (25.7, 7.0), "female": (24.2, 7.0)}
LORDOSIS = {"male": (12.8, 7.0), "female": (21.9, 8.4)}
CERVICAL = (17.4, 6.9)
ROUGH, REACH = 0.0008, 0.06  # m, of what no back of this shape explains (engineering choice)
ROUGH_HEAD = 0.02  # m, above C1, where the head comes down to the mat (engineering choice)
TILT, LEVEL = 0.3, 0.05  # rad, m: standard deviations of slope and height at S1 (choice)
STANDS_OUT, STANDS_OUT_BY = 5.0, 0.005  # over its error, and m: a row that is left out (choice)
MOST_LEFT_OUT = 3  # rows
TURNED = 4.0  # twice the log-likelihood by which the other way round has to fit better (choice)
OTHER_LENGTH = 3.0  # standard deviations of the length of a back that are believed (choice)
STEPS, SETTLED = 12, 0.01  # of Gauss and Newton; smallest step over the prior error
BEYOND = 0.040  # m beyond the last row felt that a tangent is still told (engineering choice)
METHOD = (
    "two light forces per finger extrapolated to zero force, {breath}, mean of left and right;"
    " curve with one bump of curvature per zone and a Gaussian process beside it; angles between"
    " the tangents at T1, T12 and S1; lying on the mat"
)
WITH_BREATH = "breathing removed (end-expiration)"
WITHOUT_BREATH = "no breathing found: highest place of each rest"


@dataclass(frozen=True)
class SpinePlace:
    """Where a person's spine lies along the mat.

    Attributes:
        s1: x of the upper edge of the sacrum, m.
        back: distance from C7 to L4, m.
        covariance: of both, shape (2, 2), m^2.
    """

    s1: float
    back: float
    covariance: Array

    @property
    def levels(self) -> dict[str, float]:
        """x of every level C1 … L5 and of S1, m."""
        return level_positions(self.s1, self.back)

    @property
    def errors(self) -> dict[str, float]:
        """Standard error of `levels`, m, people's proportions included."""
        rows = np.stack([np.ones(len(LEVELS)), ABOVE_SACRUM], axis=1)
        own = self.back * PROPORTION_ERROR
        sd = np.sqrt(np.einsum("ij,jk,ik->i", rows, self.covariance, rows) + own**2)
        return dict(zip(LEVELS, sd.tolist(), strict=True)) | {
            "S1": float(np.sqrt(self.covariance[0, 0]))
        }


def expected_place(intake: Intake) -> SpinePlace:
    """Where a person's spine is expected before anything is felt."""
    variances = np.diag([S1_ERROR**2, BACK_ERROR**2])
    return SpinePlace(s1_on_mat(intake), back_length(intake), variances)


@dataclass(frozen=True)
class ContourEstimate:
    """The estimated contour; see Contour.msg. Heights in m over the mat's surface."""

    x: Array
    z: Array
    z_std: Array
    row_x: Array
    left: Array
    right: Array
    valid: NDArray[np.bool_]
    kyphosis: float  # rad; NaN when not measurable, as its error
    kyphosis_std: float  # rad, standard error
    lordosis: float  # rad; NaN when not measurable, as its error
    lordosis_std: float  # rad, standard error
    lateral_asymmetry: float  # m
    lateral_asymmetry_std: float  # m, standard error
    place: SpinePlace
    doubt: str = ""  # why this is not the back that was expected, for people
    method: str = METHOD.format(breath=WITH_BREATH)

    def pitch(self, at: Array) -> Array:
        """Pitch of the tangent at x (m), shape of `at`, rad; NaN beyond the contour."""
        if not self.x.size:
            return np.full(at.shape, np.nan)
        slope = np.arctan(np.gradient(self.z, self.x))
        return np.interp(at, self.x, slope, np.nan, np.nan)


def skin_height(light: Array, firm: Array, light_force: Array, firm_force: Array) -> Array:
    """Extrapolate the heights (m) felt at two forces (N) to zero force, element by element.

    The toe of the tissue's curve is straight, so two points are enough. Where the firm height is
    not above the light one, nothing is corrected.
    """
    slope = np.maximum(firm - light, 0.0) / np.maximum(firm_force - light_force, 0.1)
    result: Array = light - slope * light_force
    return result


def fit_contour(
    row_x: Array, left: Array, right: Array, noise: Array, intake: Intake
) -> ContourEstimate:
    """Fit the midline contour and where the levels lie.

    Args:
        row_x: position of the rows, shape (rows,), m, ascending.
        left, right: unloaded skin height under each finger, shape (rows,), m; NaN without contact.
        noise: standard error of a row's height, shape (rows,), m.
        intake: of the person.

    Returns:
        The contour on a 5 mm grid from the first to the last valid row; empty, with the place
        that was expected, with fewer than four valid rows. A row far from where all others say is
        left out, as not valid. An angle is NaN where no row was felt near one of its ends.
    """
    valid = np.isfinite(left) & np.isfinite(right)
    if valid.sum() < MIN_ROWS:
        none, unknown = np.empty(0), (np.nan, np.nan)
        asymmetry, place = _asymmetry(left, right, noise, valid), expected_place(intake)
        return ContourEstimate(
            none, none, none, row_x, left, right, valid, *unknown, *unknown, *asymmetry, place
        )
    middle, left_out = 0.5 * (left + right), 0
    fit = _Fit(row_x[valid], middle[valid], noise[valid], intake)
    while left_out < MOST_LEFT_OUT and valid.sum() > MIN_ROWS:
        worst = fit.outlier()
        if worst is None:
            break
        valid[np.flatnonzero(valid)[worst]] = False
        left_out += 1
        fit = _Fit(row_x[valid], middle[valid], noise[valid], intake)
    x = np.unique(np.concatenate([np.arange(row_x[valid][0], row_x[valid][-1], GRID), fit.x[-1:]]))
    z, z_std = fit.at(x)
    place = SpinePlace(float(fit.p[0]), float(fit.p[1]), fit.covariance[:2, :2])
    level = place.levels

    def turn(upper: str, lower: str) -> tuple[float, float]:
        for name in (upper, lower):
            if not x[0] - BEYOND <= level[name] <= x[-1] + BEYOND:
                return np.nan, np.nan
        return fit.turn(upper, lower)

    kyphosis, lordosis = turn("T1", "T12"), turn("S1", "T12")
    asymmetry = _asymmetry(left, right, noise, valid)
    return ContourEstimate(
        x=x,
        z=z,
        z_std=z_std,
        row_x=row_x,
        left=left,
        right=right,
        valid=valid,
        kyphosis=kyphosis[0],
        kyphosis_std=kyphosis[1],
        lordosis=lordosis[0],
        lordosis_std=lordosis[1],
        lateral_asymmetry=asymmetry[0],
        lateral_asymmetry_std=asymmetry[1],
        place=place,
        doubt=_doubt(fit, noise[valid], intake),
    )


def _asymmetry(
    left: Array, right: Array, noise: Array, valid: NDArray[np.bool_]
) -> tuple[float, float]:
    """Mean of right minus left over valid rows and its standard error, m; NaN without any."""
    if not valid.any():
        return np.nan, np.nan
    error = 2.0 * np.sqrt(np.sum(noise[valid] ** 2)) / valid.sum()  # a row's is of the mean of two
    return float(np.mean((right - left)[valid])), float(error)


def _doubt(fit: _Fit, noise: Array, intake: Intake) -> str:
    ends = fit.x[0] + fit.x[-1]
    turned = _Fit((ends - fit.x)[::-1], fit.z[::-1], noise[::-1], intake)
    if turned.cost + TURNED < fit.cost:
        return "the back is felt the other way round: does the head lie at the foot end?"
    felt, expected = float(fit.p[1]), back_length(intake)
    if abs(felt - expected) > OTHER_LENGTH * BACK_ERROR:
        return (
            f"from C7 to L4 it feels {1e2 * felt:.0f} cm long, expected are {1e2 * expected:.0f} ±"
            f" {2e2 * BACK_ERROR:.0f} cm: check stature and sex"
        )
    off = float(fit.p[0]) - s1_on_mat(intake)
    if abs(off) > S1_FAR:
        return (
            f"the sacrum is felt {1e2 * abs(off):.0f} cm too far toward the"
            f" {'head' if off > 0.0 else 'foot'} end of the mat: lie that much further"
            f" {'down' if off > 0.0 else 'up'}"
        )
    return ""


class _Fit:
    """Posterior of the curve's unknowns: s1, back, kyphosis, lordosis, neck, height and slope."""

    def __init__(self, x: Array, z: Array, noise: Array, intake: Intake) -> None:
        self.x, self.z = x, z
        angles = np.radians([KYPHOSIS[intake.sex], LORDOSIS[intake.sex], CERVICAL])
        lies = s1_on_mat(intake), back_length(intake)
        mean = np.array([*lies, *angles[:, 0], np.median(z), 0.0])
        spread = np.array([S1_ERROR, BACK_ERROR, *angles[:, 1], LEVEL, TILT])
        self.p, prior, scale = mean, np.diag(spread**-2.0), 1.0
        for _ in range(STEPS):
            self._factor = cho_factor(self._process(x, x) + np.diag(noise**2))
            rest, slope = z - self._curve(x), self._slopes(x)
            weighed = cho_solve(self._factor, slope)
            normal = slope.T @ weighed + prior
            step = np.linalg.solve(normal, weighed.T @ rest + prior @ (mean - self.p))

            def cost(p: Array) -> float:
                left = z - self._curve(x, p)
                off = (p - mean) / spread
                return float(left @ cho_solve(self._factor, left) + off @ off)

            here, scale = cost(self.p), min(2.0 * scale, 1.0)
            while cost(self.p + scale * step) > here and scale > 1e-3:
                scale *= 0.5
            self.p = self.p + scale * step
            if (np.abs(scale * step) < SETTLED * spread).all():
                break
        self.covariance = np.linalg.inv(normal)
        self.cost = cost(self.p)
        self._slope, self._rest = slope, z - self._curve(x)

    def outlier(self) -> int | None:
        """Return which height the others contradict most, or None when none stands out."""
        inverse = cho_solve(self._factor, np.eye(self.x.size))
        own = np.diag(inverse)
        off = np.abs(inverse @ self._rest) / own  # from what the others say of it, m
        strange = (off * np.sqrt(own) > STANDS_OUT) & (off > STANDS_OUT_BY)
        return int(np.argmax(np.where(strange, off, 0.0))) if strange.any() else None

    def at(self, x: Array) -> tuple[Array, Array]:
        """Height at x and its standard error, shape of x, m."""
        across = cho_solve(self._factor, self._process(self.x, x)).T
        z = self._curve(x) + across @ self._rest
        own = np.diag(self._process(x, x)) - np.sum(across * self._process(x, self.x), axis=1)
        more = self._slopes(x) - across @ self._slope
        var = np.maximum(own, 0.0) + np.sum((more @ self.covariance) * more, axis=1)
        return z, np.sqrt(var)

    def turn(self, upper: str, lower: str) -> tuple[float, float]:
        """Angle between the tangents at two levels and its standard error, rad.

        The error is to first order: of the unknowns, which move the levels along the curve too,
        and of what the curve leaves.
        """

        def ends(p: Array) -> Array:
            level = level_positions(p[0], p[1])
            return np.array([level[lower], level[upper]]).repeat(2) + STENCIL

        def angle(p: Array) -> float:
            at = ends(p)
            across = cho_solve(self._factor, self._process(self.x, at)).T
            z = self._curve(at, p) + across @ (self.z - self._curve(self.x, p))
            low, high = np.arctan(np.diff(z)[[0, 2]] / GRID)
            return float(high - low)

        at = ends(self.p)
        slope = np.diff(self.at(at)[0])[[0, 2]] / GRID
        weight = (np.array([1.0, -1.0, -1.0, 1.0]) / GRID) / (1.0 + slope**2).repeat(2)
        across = cho_solve(self._factor, self._process(self.x, at)).T
        left = self._process(at, at) - across @ self._process(self.x, at)
        step = 1e-5 * np.eye(self.p.size)
        by = np.array([angle(self.p + s) - angle(self.p - s) for s in step]) / 2e-5
        variance = weight @ left @ weight + by @ self.covariance @ by
        return angle(self.p), float(np.sqrt(variance))

    def _curve(self, x: Array, p: Array | None = None) -> Array:
        s1, back, kyphosis, lordosis, neck, height, tilt = self.p if p is None else p
        level = level_positions(s1, back)
        z: Array = height + tilt * (x - s1)
        for angle, low, high in (
            (kyphosis, level["T12"], level["T1"]),
            (-lordosis, s1, level["T12"]),
            (-neck, level["T1"], level["C1"]),
        ):
            z = z + angle * _bend(x, low, high)
        return z

    def _slopes(self, x: Array) -> Array:
        found = []
        for i in range(self.p.size):
            step = np.zeros(self.p.size)
            step[i] = 1e-5
            found.append((self._curve(x, self.p + step) - self._curve(x, self.p - step)) / 2e-5)
        return np.stack(found, axis=1)

    def _process(self, a: Array, b: Array) -> Array:
        """Covariance of what the curve leaves: smooth along the back, free above C1."""
        c1 = level_positions(self.p[0], self.p[1])["C1"]
        size_a, size_b = (np.where(v > c1, ROUGH_HEAD, ROUGH) for v in (a, b))
        far = (a[:, None] - b[None, :]) / REACH
        return np.asarray(size_a[:, None] * size_b[None, :] * np.exp(-0.5 * far**2))


def _bend(x: Array, low: float, high: float) -> Array:
    """Height of a line that turns by one radian between low and high, most in the middle."""
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    inside = 0.5 * (high - low) * (t - np.sin(np.pi * t) / np.pi)
    return np.asarray(inside + np.maximum(x - high, 0.0))
