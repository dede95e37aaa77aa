"""What a stiffness map says of a person: tension points, sides, how evenly movement is shared.

Suggestions for a clinician to look at, with the probability behind each; never a diagnosis.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spinemat.anatomy import NECK, TRUNK
from spinemat.back_model import UP, means
from spinemat.deconvolution import LevelMap

Array = NDArray[np.float64]

STIFFER = 1.2  # of the person's own trend: more than that is a tension point (engineering choice)
STIFF_LEVEL = 1.4  # of the profile: what a stiff level is looked for as (engineering choice)
LIKELY = 0.8  # probability from which one is named (engineering choice)
UNEVEN_SIDES = 0.10  # (left - right) / (left + right) from which a side is named (choice)
DRAWS = 1000  # of backs that fit a map, for the evenness
LEAST_VALID = 12  # of the trunk's levels, for an evenness (engineering choice)
PARTS = (*TRUNK, NECK[4:], NECK[:4])  # levels one by one, lower and upper neck as one each
METHOD = (
    "tension point: stiffness over the person's own trend (published profile times the person's"
    " median ratio to it) above 1.2 with a probability of 0.8; evenness: 1 minus the share of"
    " movement under an even load that would have to go to other levels to be shared as in the"
    " published profile, T1 to L5 one by one, lower and upper neck as one part each"
)


class TensionPoint(NamedTuple):
    """A level that is stiffer than the person's own trend.

    Attributes:
        level: its name.
        ratio: stiffness over the trend.
        probability: that the ratio is above `STIFFER`.
    """

    level: str
    ratio: float
    probability: float


class SideDifference(NamedTuple):
    """A level whose sides differ.

    Attributes:
        level: its name.
        difference: (left - right) / (left + right) of stiffness.
        probability: that it is beyond `UNEVEN_SIDES` on that side.
    """

    level: str
    difference: float
    probability: float


@dataclass(frozen=True)
class Findings:
    """What stands out in one map.

    Attributes:
        tension: stiffest first.
        sides: largest difference first.
        stands_out: of each level, see `stands_out`, L5 first, shape (24,).
        evenness: share of movement that is where an even back has it, 0 to 1: mean over the backs
            that fit the map, as the most plausible one alone is more even than they are; NaN with
            fewer than `LEAST_VALID` valid levels.
        evenness_error: its standard error.
        method: how these were obtained, for people.
    """

    tension: tuple[TensionPoint, ...]
    sides: tuple[SideDifference, ...]
    stands_out: Array
    evenness: float
    evenness_error: float
    method: str = METHOD


def over_trend(found: LevelMap) -> tuple[Array, Array]:
    """Logarithm of each level's stiffness over the person's own trend, and its standard error.

    The trend is the published profile times the median of the trunk's ratios to it.

    Returns:
        Logarithm and its standard error, shape (24,) each, L5 first.
    """
    ratio = np.log(found.value / means())
    trunk = [UP.index(v) for v in TRUNK]
    inside = np.zeros(len(UP))
    inside[trunk] = 1.0 / len(trunk)
    apart = np.eye(len(UP)) - inside  # the median is about as certain as the mean
    spread = np.sqrt(np.einsum("ij,jk,ik->i", apart, found.covariance, apart))
    return ratio - np.median(ratio[trunk]), spread


def stands_out(found: LevelMap) -> Array:
    """How much more likely the movements are if this level alone is stiffer by `STIFF_LEVEL`.

    A stiff level also stiffens what is felt beside it, and levels far from a row are hardly felt:
    the ratio of likelihoods weighs both, so it ranks all levels of all people alike. For y the
    logarithms of stiffness over the published profile, B their covariance before and C after the
    scan, a shift d of level k has the logarithm d (B^-1 y)_k - d^2 / 2 (B^-1 - B^-1 C B^-1)_kk
    (linear Gaussian model).

    Returns:
        Natural logarithm of the ratio, shape (24,), L5 first.
    """
    shift = np.log(STIFF_LEVEL)
    inverse = np.linalg.inv(found.before)
    felt = np.diag(inverse - inverse @ found.covariance @ inverse)
    return np.asarray(shift * (inverse @ np.log(found.value / means()) - 0.5 * shift * felt))


def evenness(value: Array) -> Array:
    """How evenly movement under an even load is shared.

    Args:
        value: PA stiffness of the levels, L5 first, shape (..., 24), N/m.

    Returns:
        1 minus the share of movement that would have to go elsewhere (Hoover index), shape (...).
    """
    moves = means() / value
    groups = [
        [UP.index(v) for v in ((part,) if isinstance(part, str) else part)] for part in PARTS
    ]
    weight = np.array([len(group) for group in groups], dtype=float)
    weight /= weight.sum()
    share = np.stack([moves[..., group].sum(axis=-1) for group in groups], axis=-1)
    share = share / share.sum(axis=-1, keepdims=True)
    return np.asarray(1.0 - 0.5 * np.abs(share - weight).sum(axis=-1))


def _probability(errors: Array) -> Array:
    """That a value which lies so many standard errors above a bound is above it."""
    return np.array([NormalDist().cdf(z) for z in errors])


def findings(found: LevelMap, valid: NDArray[np.bool_]) -> Findings:
    """Say what stands out in a map.

    Args:
        found: the map.
        valid: levels whose value may be used, L5 first, shape (24,).
    """
    above, spread = over_trend(found)
    sure = _probability((above - np.log(STIFFER)) / spread)
    tension = [
        TensionPoint(UP[i], float(np.exp(above[i])), float(sure[i]))
        for i in np.flatnonzero(valid & (sure >= LIKELY))
    ]
    size = np.abs(found.skew)
    sure = _probability((size - UNEVEN_SIDES) / found.skew_error)
    sides = [
        SideDifference(UP[i], float(found.skew[i]), float(sure[i]))
        for i in np.flatnonzero(valid & found.sides_resolved & (sure >= LIKELY))
    ]
    rng = np.random.default_rng(0)
    root = np.linalg.cholesky(found.covariance + 1e-12 * np.eye(len(UP)))
    draws = found.value * np.exp(rng.standard_normal((DRAWS, len(UP))) @ root.T)
    even = evenness(draws)
    if valid.sum() < LEAST_VALID:
        even = np.full(1, np.nan)
    return Findings(
        tension=tuple(sorted(tension, key=lambda point: -point.ratio)),
        sides=tuple(sorted(sides, key=lambda side: -abs(side.difference))),
        stands_out=stands_out(found),
        evenness=float(np.mean(even)),
        evenness_error=float(np.std(even)),
    )
