"""What the ramps of a scan say row by row, and which rows press the neck.

Rows near the neck's lower end are pressed no harder than a neck may be, by which the neck's tissue
leaves its toe and that of the thorax does not: the one looks like the other, but of another
stiffness. So every place of that end between these rows is tried.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from spinemat.breathing import BreathingEstimate
from spinemat.contour import SpinePlace
from spinemat.deconvolution import LevelMap
from spinemat.layout import MatLayout
from spinemat.segments import Segment, SegmentFit, fit_segments
from spinemat.stiffness import INTERVAL, LEAST_INTERVAL, PRELOAD, RowProbes

Array = NDArray[np.float64]

NECK_SURE = 2.0  # standard errors off the neck's end where it is known what a finger presses
SURE = 0.95  # probability from which one of two readings is taken (engineering choice)
UNSURE = "too light a press to tell whether the tissue left its toe: neck or thorax"


def into_neck(x: Array, place: SpinePlace) -> Array:
    """How far beyond the neck's lower end each x (m) is, standard errors, shape of x."""
    end = 0.5 * (place.levels["C7"] + place.levels["T1"])
    return np.asarray((x - end) / place.errors["C7"])


def expecting(segment: Segment, neck: NDArray[np.bool_]) -> Segment:
    """The segment with the ends of toes as fingers under the neck, or not, expect them."""
    low = 0.5 * np.where(neck, INTERVAL["neck"][0], INTERVAL["thoracic"][0])
    pressed, rest = segment.rise > 0.0, 0.5 * PRELOAD
    corner = (low - rest) / np.maximum(segment.rise, 1e-9)
    corner[rest + segment.rise < low + 0.5 * LEAST_INTERVAL] = 1.0
    return segment._replace(corner=np.where(pressed, corner, 1.0))


def read_rows(
    layout: MatLayout,
    segments: Sequence[Segment],
    fits: Sequence[SegmentFit],
    breath: BreathingEstimate | None,
    place: SpinePlace,
    left: Mapping[int, str],
) -> tuple[RowProbes, LevelMap | None]:
    """Read rows near the neck's lower end as what they press most probably.

    Every place of that end is weighed by how well all movements of the scan fit (Laplace's
    evidence) and by how probable the place is.

    Args:
        layout: the mat.
        segments: of the scan, with the ends of toes that were expected so far.
        fits: of these.
        breath: None: not found.
        place: where the spine lies.
        left: rows that were not probed, and why.

    Returns:
        What the rows say, and the map of all levels where it was needed to tell; None: it was not.
    """

    def read(neck: NDArray[np.bool_]) -> RowProbes:
        """What the ramps say if these fingers press the neck, shape (n,), and no others."""
        probes = RowProbes(layout.row_x, np.array([r.offset for r in layout.rows]))
        now = [expecting(s, neck) if s.ramp else s for s in segments]
        other = [new.corner != old.corner for new, old in zip(now, segments, strict=True)]
        changed = np.any(other, axis=0)
        again = fit_segments(now, breath, np.flatnonzero(changed))
        for segment, new, old in zip(now, again, fits, strict=True):
            if segment.ramp:
                fit = SegmentFit(*(np.where(changed, a, b) for a, b in zip(new, old, strict=True)))
                probes.add(segment, fit, segment.corner >= 1.0)
        for row, why in left.items():
            probes.refuse(row, why)
        return probes

    far = into_neck(layout.x, place)
    unsure = np.sort(far[::2][np.abs(far[::2]) < NECK_SURE])
    if not unsure.size:
        return read(far >= 0.0), None
    ends = np.append(unsure, NECK_SURE)  # the first row of the neck
    found = [read(far >= end) for end in ends]
    maps = [probes.map(place) for probes in found]
    if any(one is None for one in maps):
        return found[0], None
    chance = np.diff([0.0, *(NormalDist().cdf(end) for end in unsure), 1.0])
    weight = np.log(chance) + [one.evidence for one in maps if one is not None]
    share = np.exp(weight - weight.max()) / np.exp(weight - weight.max()).sum()
    best = int(np.argmax(share))
    probes, likeliest = found[best], maps[best]
    for row in np.flatnonzero(np.abs(far[::2]) < NECK_SURE):
        neck = share[ends <= far[2 * row]].sum()
        if 1.0 - SURE < neck < SURE and not probes.reason[row]:
            probes.refuse(int(row), UNSURE)
            likeliest = None
    return probes, likeliest
