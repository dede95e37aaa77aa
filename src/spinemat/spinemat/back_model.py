"""A lying spine as springs: what the skin under every row does when rows press.

Four regions (head, thorax, loins, pelvis) heave and pitch on padding and hold on to one another;
24 vertebrae move on them, each on a spring and joined to its neighbours by shear; soft tissue lies
under the fingers. Everything is linear and static, so a person is one stiffness matrix. Probes
tell its unknowns (`deconvolution.py`); the rest are nominal numbers, engineering choices after the
same measurements as the means below.

Levels are in ascending x here: L5 first, C1 last.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from spinemat.anatomy import ABOVE_SACRUM, LEVELS, LUMBAR, NECK

Array = NDArray[np.float64]

UP = LEVELS[::-1]  # L5 … C1
# PA stiffness of a pair, N/m, means over people: C2, C7 Snodgrass's cervical rig; T4, T7, T10
# Edmondston 1999; L3 Latimer 1996 and Viner 1997, padded plinth; C5, L1, L5 between them (choice)
MEANS = {
    "L5": 10.0e3, "L3": 11.5e3, "L1": 11.5e3, "T10": 11.4e3, "T7": 10.7e3, "T4": 9.1e3,
    "C7": 7.0e3, "C5": 5.5e3, "C2": 4.6e3,
}  # fmt: skip
TISSUE_SHARE = 0.35  # of a pair's compliance beyond the toe
TISSUE = {"sacrum": 16.2e3, "lumbar": 32.2e3, "thoracic": 29.8e3, "neck": 15.8e3}  # N/m, a pair
PADDING = 100e3  # N/m under each region
LENGTH = {"pelvis": 0.07, "loins": 0.06, "thorax": 0.12, "head": 0.03}  # m, radius of gyration
LINK_SHEAR, LINK_BEND = 60e3, 400.0  # N/m and N m/rad between regions
MEAN_BACK = 0.43  # m from C7 to L4 of the back for which the springs are nominal
SHEAR = 0.2  # spring between neighbours over their PA stiffness
OWN_SHARE = 0.5  # of a level's stiffness that is its own spring's (engineering choice)
SPREAD = 0.5  # of the levels' spacing: over how much a tip's force spreads
BESIDE = 0.2  # share of a tip's force from which a level counts as loaded (engineering choice)
SACRAL = 0.025 * np.arange(-3, 1)  # m, places of the sacrum under S1's edge
OCCIPITAL = 0.025 * np.arange(1, 4)  # m, places of the head over C1
_REGION = np.array([1 if v in LUMBAR else 3 if v in NECK else 2 for v in UP])
_BELOW = np.concatenate([[0], _REGION[:-1]])  # region of what lies below each level
_LINKS = np.flatnonzero(_REGION != _BELOW)  # levels under which one region ends
_DOF = 8 + len(UP)  # z and pitch of pelvis, loins, thorax, head; z of the vertebrae


@dataclass(frozen=True)
class Back:
    """The unknowns of one person's back.

    Attributes:
        s1: x of the upper edge of the sacrum, m.
        back: distance from C7 to L4, m.
        level: of each vertebra's spring over its nominal, shape (24,), 1.
        tissue: of sacrum, loins, thorax, neck over their nominal, shape (4,), 1.
        padding: over its nominal, 1.
        shear: springs between neighbours over their nominal, 1.
        spread: of a tip's force along the back over its nominal, 1.
    """

    s1: float
    back: float
    level: Array
    tissue: Array
    padding: float = 1.0
    shear: float = 1.0
    spread: float = 1.0

    @property
    def x(self) -> Array:
        """Middle of each level, L5 first, shape (24,), m."""
        return np.asarray(self.s1 + self.back * ABOVE_SACRUM[::-1])


def response(back: Back, at: Array) -> tuple[Array, Array]:
    """How bone and tissue under pairs of fingers give way.

    Args:
        back: the person.
        at: x of the pairs, shape (k,), m.

    Returns:
        Compliance of the body: movement of the skin at each place per force on each, shape
        (k, k), m/N; compliance of the tissue under each pair beyond the toe, shape (k,), m/N.
    """
    x = back.x
    stiffness = _matrix(back, x, back.level * _nominal())
    rows = _tips(back, x, at)
    return rows @ np.linalg.solve(stiffness, rows.T), 1.0 / _tissue(back, x, at)


def pair_stiffness(back: Back) -> Array:
    """PA stiffness of a pair exactly on each level, L5 first, shape (24,), N/m."""
    return _on_levels(back, back.level * _nominal())


def _on_levels(back: Back, spring: Array) -> Array:
    x = back.x
    rows = _tips(back, x, x)
    body = np.sum(rows * np.linalg.solve(_matrix(back, x, spring), rows.T).T, axis=1)
    return np.asarray(1.0 / (body + 1.0 / _tissue(back, x, x)))


def mean_back(s1: float, back: float) -> Back:
    """A back whose levels have the published mean stiffness."""
    return Back(s1, back, np.ones(len(UP)), np.ones(4))


@lru_cache(maxsize=1)
def means() -> Array:
    """Published mean PA stiffness of a pair, linear between the anchors, shape (24,), N/m."""
    x = mean_back(0.0, MEAN_BACK).x
    anchors = [UP.index(v) for v in MEANS]
    values = np.interp(x, x[anchors], list(MEANS.values()))
    values.setflags(write=False)  # it is kept
    return values


@lru_cache(maxsize=1)
def _nominal() -> Array:
    """Springs of the vertebrae with which a mean back has the published means, N/m."""
    target, back = means(), mean_back(0.01, MEAN_BACK)
    spring = 1.5 * target
    for _ in range(60):
        spring = spring * np.clip(target / _on_levels(back, spring), 0.7, 1.4)
    return spring


def _centres(x: Array, s1: float) -> Array:
    """x of pelvis, loins, thorax and head, m."""
    return np.array([s1 - 0.08, x[:5].mean(), x[5:17].mean(), x[-1] + 0.06])


def _points(region: NDArray[np.int64], x: Array, centre: Array) -> Array:
    """Height of points fixed to regions as rows over the coordinates, shape (k, dof)."""
    rows = np.zeros((x.size, _DOF))
    at = np.arange(x.size)
    rows[at, 2 * region], rows[at, 2 * region + 1] = 1.0, -(x - centre[region])
    return rows


def _matrix(back: Back, x: Array, spring: Array) -> Array:
    """Stiffness over all coordinates, with `spring` under the vertebrae, shape (dof, dof)."""
    centre = _centres(x, back.s1)
    length = np.array(list(LENGTH.values()))
    diagonal = np.empty(_DOF)
    diagonal[0:8:2] = back.padding * PADDING
    diagonal[1:8:2] = back.padding * PADDING * length**2
    diagonal[8:] = spring
    below = np.concatenate([[back.s1], x[:-1]])
    between = 0.5 * (below + x)
    rows = _points(_REGION, between, centre) - _points(_BELOW, between, centre)
    links = rows[_LINKS].copy()
    bends = np.zeros_like(links)
    at = np.arange(_LINKS.size)
    bends[at, 2 * _REGION[_LINKS] + 1], bends[at, 2 * _BELOW[_LINKS] + 1] = 1.0, -1.0
    own = np.arange(len(UP))
    rows[own, 8 + own] += 1.0
    rows[own[1:], 7 + own[1:]] -= 1.0
    felt = means() * back.level**OWN_SHARE
    shear = SHEAR * back.shear * 0.5 * (felt + np.concatenate([felt[:1], felt[:-1]]))
    k = (rows.T * shear) @ rows + LINK_SHEAR * links.T @ links + LINK_BEND * bends.T @ bends
    k[np.arange(_DOF), np.arange(_DOF)] += diagonal
    return np.asarray(k)


def tip_shares(nodes: Array, at: Array, spread: float = 1.0) -> Array:
    """Share of a tip's force at each place on each node, shape (places, nodes).

    Args:
        nodes: x of what carries the tissue, shape (nodes,), m, ascending.
        at: x of the tips, shape (places,), m.
        spread: over the nominal.
    """
    width = SPREAD * spread * np.interp(at, nodes, np.gradient(nodes))
    weight = np.exp(-0.5 * ((nodes[None, :] - at[:, None]) / width[:, None]) ** 2)
    return np.asarray(weight / np.maximum(weight.sum(axis=1, keepdims=True), 1e-12))


def row_shares(row_x: Array, x: Array) -> Array:
    """Share of each row's force on each level, shape (rows, 24); the rest is beyond them.

    Args:
        row_x: of the rows, shape (rows,), m.
        x: of the levels, L5 first, shape (24,), m.
    """
    s1 = x[0] - (x[UP.index("C7")] - x[UP.index("L4")]) * ABOVE_SACRUM[-1]
    nodes = np.concatenate([s1 + SACRAL, x, x[-1] + OCCIPITAL])
    return tip_shares(nodes, row_x)[:, SACRAL.size : SACRAL.size + x.size]


def rows_beside(row_x: Array, x: Array) -> NDArray[np.bool_]:
    """Levels that each row loads, shape (rows, 24): `BESIDE` or more, or the nearest one."""
    nearest = np.abs(row_x[:, None] - x[None, :]).argmin(axis=1)
    found = row_shares(row_x, x) >= BESIDE
    found[np.arange(nearest.size), nearest] = True
    return found


def _tips(back: Back, x: Array, at: Array) -> Array:
    """Movement of the skin over each place as rows over the coordinates, shape (k, dof)."""
    nodes = np.concatenate([back.s1 + SACRAL, x, x[-1] + OCCIPITAL])
    region = np.concatenate([np.zeros(4, dtype=np.int64), _REGION, np.full(3, 3)])
    weight = tip_shares(nodes, at, back.spread)
    centre = _centres(x, back.s1)
    points = _points(region, nodes, centre)
    points[np.arange(4, 28), np.arange(8, _DOF)] += 1.0
    return np.asarray(weight @ points)


def _tissue(back: Back, x: Array, at: Array) -> Array:
    """Stiffness of the tissue under a pair at each place beyond the toe, shape (k,), N/m."""
    kind = np.concatenate([[0, 0], _REGION])
    places = np.concatenate([[back.s1 - 0.02, back.s1], x])
    values = np.array(list(TISSUE.values())) * back.tissue
    return np.asarray(np.interp(at, places, values[kind]))
