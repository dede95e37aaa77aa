"""From probes of rows to levels: the most plausible back behind all movements that were seen.

While some rows press, the others rest at a light force and feel how far the skin moves: every
probe is one column of the back's compliance matrix. The unknowns of `back_model` (place and length
of the spine, a factor common to the person, one per level, tissue, padding, springs between
neighbours, spread of a tip's force) are found by Gauss and Newton with their prior errors as
regularisation (maximum a posteriori), and with them the covariance from which standard errors
follow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spinemat.back_model import UP, Back, pair_stiffness, response, row_shares
from spinemat.contour import SpinePlace

Array = NDArray[np.float64]

# Standard deviation of logarithms of a pair's stiffness: 0.25 common to a person, 0.12 per level
# (the split is a choice). A press feels several springs, so those of the levels differ by more.
PERSON, LEVEL = 0.25, 0.12
# standard deviations of the logarithms of what no survey tells of people (engineering choices)
TISSUE, PADDING, SHEAR, SPREAD = 0.15, 0.3, 0.4, 0.2
MODEL_ERROR = 1.2e-4  # m, of any movement, that the model does not know (choice)
OWN_ERROR = 0.04  # of what a pressed row moves, that the model does not know (choice)
TOE, TOE_ERROR = 0.4, 0.12  # stiffness in the toe over the linear one; how well that is known
UNRESOLVED = 0.85  # of `SIDE`: where less is known of sides, they are not told (choice)
SIDE = 0.08  # standard deviation of (left - right) / (left + right) of a level (choice)
ACROSS, ROTATION = 0.005, 0.02  # m, rad: standard deviations of how people lie (choice)
ROLL_LEVER = 0.026  # m; a vertebra's roll stiffness is 2 x its PA stiffness x lever^2 (choice)
STEPS = 6  # of Gauss and Newton
_COMMON, _LEVEL, _TISSUE, _REST = 2, slice(3, 27), slice(27, 31), slice(31, 34)
_SIZE = 34


class Probe(NamedTuple):
    """What rows did while some of them pressed.

    Attributes:
        force: by which the pair of each row pressed harder, shape (rows,), N.
        travel: by which each row's tips then stood higher, shape (rows,), m; NaN: not felt.
        error: standard error of `travel`, shape (rows,), m.
        toe: rows that pressed, but whose tissue did not leave its toe, shape (rows,).
    """

    force: Array
    travel: Array
    error: Array
    toe: NDArray[np.bool_]


@dataclass(frozen=True)
class LevelMap:
    """PA stiffness of pairs exactly on the levels, L5 first.

    Attributes:
        x: of the levels, shape (24,), m.
        value: shape (24,), N/m.
        covariance: of the logarithms of `value`, shape (24, 24).
        before: the same before anything was felt.
        misfit: root mean square of what is left of the movements over their errors.
        evidence: logarithm of how probable the movements are, whatever the back (Laplace), up to
            a constant: tells which of two readings of the same probes is the likelier.
        skew, skew_error: (left - right) / (left + right) of stiffness, and its standard error,
            shape (24,).
        across: where the spine is across the mat at T8, m, and its standard error; left is
            negative.
        rotation: of the spine about z, rad, and its standard error.
        body: how far bone under each row gives way per force of its pair, shape (rows,), m/N.
    """

    x: Array
    value: Array
    covariance: Array
    before: Array
    misfit: float
    evidence: float = 0.0
    skew: Array = field(default_factory=lambda: np.zeros(len(UP)))
    skew_error: Array = field(default_factory=lambda: np.full(len(UP), SIDE))
    across: tuple[float, float] = (0.0, np.inf)
    rotation: tuple[float, float] = (0.0, np.inf)
    body: Array = field(default_factory=lambda: np.zeros(0))

    @property
    def sides_resolved(self) -> NDArray[np.bool_]:
        """Levels of whose sides more is known than before the scan, shape (24,)."""
        return self.skew_error <= UNRESOLVED * SIDE


def deconvolve(row_x: Array, probes: Sequence[Probe], place: SpinePlace) -> LevelMap:
    """Find the stiffness of all levels.

    Args:
        row_x: of the rows, shape (rows,), m.
        probes: one per press.
        place: where the spine lies.
    """
    mean = np.zeros(_SIZE)
    mean[:2] = place.s1, place.back
    prior = np.zeros((_SIZE, _SIZE))
    prior[:2, :2] = np.linalg.inv(place.covariance)
    prior[_COMMON, _COMMON] = PERSON**-2.0
    slope = _jacobian(_logs, mean)[:, _LEVEL] / LEVEL
    prior[_LEVEL, _LEVEL] = slope.T @ slope
    others = np.arange(_TISSUE.start, _SIZE)
    prior[others, others] = np.append(np.full(4, TISSUE), [PADDING, SHEAR, SPREAD]) ** -2.0
    seen = np.array([np.isfinite(p.travel) for p in probes])
    travel = np.array([p.travel for p in probes])[seen]
    forces = np.array([p.force for p in probes])
    pressed = forces > 0.0
    toe = np.array([p.toe for p in probes])
    model = np.where(pressed, np.where(toe, TOE_ERROR, OWN_ERROR), 0.0)
    error = np.hypot(
        np.hypot(np.array([p.error for p in probes]), MODEL_ERROR),
        model * np.array([p.travel for p in probes]),
    )
    weight = 1.0 / error[seen]

    def forward(p: Array) -> Array:
        body, tissue = response(_back(p), row_x)
        more = np.where(toe, 1.0 / TOE - 1.0, 0.0) * (np.diag(body) + tissue)
        return np.asarray((forces @ body + forces * (tissue + more))[seen])

    p = mean.copy()
    for _ in range(STEPS):
        rest = (travel - forward(p)) * weight
        slope = _jacobian(forward, p) * weight[:, None]
        normal = slope.T @ slope + prior
        step = np.linalg.solve(normal, slope.T @ rest + prior @ (mean - p))
        p = p + np.clip(step, -0.5, 0.5)
    rest = (travel - forward(p)) * weight
    covariance = np.linalg.inv(normal)
    chance = rest @ rest + (p - mean) @ prior @ (p - mean) + np.linalg.slogdet(normal)[1]
    slope = _jacobian(_logs, p)
    return LevelMap(
        x=_back(p).x,
        value=pair_stiffness(_back(p)),
        covariance=slope @ covariance @ slope.T,
        before=slope @ np.linalg.inv(prior) @ slope.T,
        misfit=float(np.sqrt(np.mean(rest**2))),
        evidence=float(np.log(weight).sum() - 0.5 * chance),
        body=np.diag(response(_back(p), row_x)[0]),
    )


def _back(p: Array) -> Back:
    level, tissue = np.exp(p[_COMMON] + p[_LEVEL]), np.exp(p[_COMMON] + p[_TISSUE])
    return Back(float(p[0]), float(p[1]), level, tissue, *np.exp(p[_REST]).tolist())


def _logs(p: Array) -> Array:
    """Logarithms of the levels' pair stiffness, shape (24,)."""
    return np.asarray(np.log(pair_stiffness(_back(p))))


def _jacobian(function: Callable[[Array], Array], p: Array) -> Array:
    step = np.full(p.size, 1e-3)
    step[:2] = 1e-4
    here = function(p)
    columns = []
    for i in range(p.size):
        there = p.copy()
        there[i] += step[i]
        columns.append((function(there) - here) / step[i])
    return np.stack(columns, axis=1)


def side_differences(
    at: Array,
    offset: Array,
    straight: Array,
    gain: Array,
    difference: Array,
    error: Array,
    levels: LevelMap,
) -> LevelMap:
    """Find how much stiffer the left of each level is than its right, and how the body lies.

    Who lies beside the middle of the mat is pressed off centre, which rolls the vertebrae: along
    the back that is a straight line, while sides differ level by level.

    Args:
        at: x of the row that each reading is of, shape (m,), m.
        offset: of its fingers from the middle, shape (m,), m.
        straight: travel in the whole ramp if it all went on as beyond the toe, shape (m,), m.
        gain: by which sides travel apart per (left - right) / (left + right) of their stiffness,
            shape (m,), m.
        difference: by how much the right finger travelled further than the left, shape (m,), m.
        error: its standard error, shape (m,), m.
        levels: where the levels are.

    Returns:
        `levels` with `skew`, `across` and `rotation`.
    """
    weight = row_shares(at, levels.x)
    roll = -straight * offset * np.sum(weight**2, axis=1) / ROLL_LEVER**2
    middle = levels.x[UP.index("T8")]
    columns = [gain[:, None] * weight, roll[:, None], (roll * (at - middle))[:, None]]
    design = np.concatenate(columns, axis=1)
    inverse = design / error[:, None] ** 2
    prior = np.concatenate([np.full(len(UP), SIDE), [ACROSS, ROTATION]])
    covariance = np.linalg.inv(inverse.T @ design + np.diag(prior**-2.0))
    value, spread = covariance @ (inverse.T @ difference), np.sqrt(np.diag(covariance))
    return replace(
        levels,
        skew=value[:-2],
        skew_error=spread[:-2],
        across=(float(value[-2]), float(spread[-2])),
        rotation=(float(value[-1]), float(spread[-1])),
    )
