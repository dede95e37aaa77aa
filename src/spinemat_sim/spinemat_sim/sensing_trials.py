"""How well the fingers feel: scans of sampled people in the noisy plant, beside the truth.

Controller, drive stage, plant and scan in one process, without ROS. The functions run one person
each and are called in parallel processes; `summary` makes figures of what they return.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spinemat.anatomy import LUMBAR, THORACIC, TRUNK, check_intake, regions_at
from spinemat.back_model import UP
from spinemat.deconvolution import LevelMap
from spinemat.findings import evenness, stands_out
from spinemat.layout import MatLayout
from spinemat.scan import THINKING, ScanRefused, SpineScan
from spinemat.stiffness import NECK_REGIONS, PROBE_LIMIT
from spinemat_sim.indenter import stiffness_truth
from spinemat_sim.patient import LEVELS, Layer, Patient
from spinemat_sim.person import lie_down
from spinemat_sim.plant import Plant
from spinemat_sim.reaction_trials import WatchedLoop
from spinemat_sim.urdf import plain_urdf

Array = NDArray[np.float64]

STIFFER = 1.4  # of the level that has to be found
MOVED = 0.010  # m, along the mat, to either side, between repeated scans
FULL_EVERY = 5  # people of whom one has a full scan as well
REGIONS = ("thoracic_region", "lumbar_region", "lower_neck", "upper_neck")
NECK_BELOW = "C7"  # the neck's contour begins above it
SIDES = ("left", "right")
PLACES = ("C7", *TRUNK, "S1")


@dataclass(frozen=True)
class Felt:
    """What one scan found beside the truth; trunk levels in the order of `TRUNK`.

    Attributes:
        value, error: of the pair's stiffness, shape (17,), N/m; NaN where not valid.
        sides, side_error: of left and right, shape (17, 2), N/m; NaN where not valid.
        regions: mean of thorax, loins, lower and upper neck, shape (4,), N/m.
        score: `findings.stands_out`, by which levels are ranked, shape (17,).
        skew: (left - right) / (left + right), shape (17,).
        evenness, evenness_error: of the map.
        seconds: that the scan took, simulated, with the time in which a map is made.
        contour, neck: root mean square error of the contour, up to C7 and above, m.
        angles: error of kyphosis and lordosis, rad.
        angle_error: their standard errors, rad.
        places: error of the levels' place, shape of `PLACES`, m.
        deviation: that error over its standard error.
        contour_deviation: of each place of the contour under a row, error over standard error,
            shape (m,).
        lies: error of where T8 is across the mat (m) and of the rotation (rad) over standard
            error.
        over: largest true force less what a probe may press in the more delicate of the region
            that the layout tells and the one that truly lies there, N.
        breath: error of the breathing rate, Hz; NaN: not found.
        refused: why the scan gave no number; empty: it did.
    """

    value: Array
    error: Array
    sides: Array
    side_error: Array
    regions: Array
    score: Array
    skew: Array
    evenness: float
    evenness_error: float
    seconds: float
    contour: float
    neck: float
    angles: Array
    angle_error: Array
    places: Array
    deviation: Array
    contour_deviation: Array
    lies: Array
    over: float
    breath: float
    refused: str = ""


class Person(NamedTuple):
    """All trials of one person.

    Attributes:
        name: of the person.
        truth: stiffness of the trunk's levels, shape (17,), N/m.
        sides: true stiffness of left and right, shape (17, 2), N/m.
        regions: true mean of thorax, loins, lower and upper neck, shape (4,), N/m.
        evenness: true.
        first, again: two scans, the person lying elsewhere in the second.
        full: a full scan; None: not for this person.
        level, stiff: a level made stiffer on both sides (index in `TRUNK`), and that scan.
        side, one_sided: the same on one side (1.0: left), and a full scan of it.
    """

    name: str
    truth: Array
    sides: Array
    regions: Array
    evenness: float
    first: Felt
    again: Felt
    full: Felt | None
    level: int
    stiff: Felt
    side: float
    one_sided: Felt


def try_person(layout: MatLayout, patient: Patient, seed: int) -> Person:
    """Run all trials of one person.

    Args:
        layout: the mat.
        patient: who.
        seed: of sensors, drives and of what is drawn here.
    """
    rng = np.random.default_rng([seed, 5])
    found = stiffness_truth(lie_down(patient), LEVELS)
    pair = np.array([found[(v, "both")] for v in LEVELS])  # L5 first, as UP
    level = int(rng.integers(len(TRUNK)))
    side = float(rng.choice([-1.0, 1.0]))
    moved = replace(
        patient.position,
        along=patient.position.along + float(rng.uniform(-MOVED, MOVED)),
        across=float(rng.uniform(-0.003, 0.003)),
        rotation=float(rng.uniform(-0.01, 0.01)),
    )
    return Person(
        name=patient.name,
        truth=np.array([pair[UP.index(v)] for v in TRUNK]),
        sides=np.array([[found[(v, side)] for side in SIDES] for v in TRUNK]),
        regions=_regions(dict(zip(UP, pair, strict=True))),
        evenness=float(evenness(pair)),
        first=feel(layout, patient, seed),
        again=feel(layout, replace(patient, position=moved), seed + 1),
        full=feel(layout, patient, seed, full=True) if seed % FULL_EVERY == 0 else None,
        level=level,
        stiff=feel(layout, stiffened(patient, TRUNK[level], 1.0, 1.0), seed + 2),
        side=side,
        one_sided=feel(
            layout,
            stiffened(patient, TRUNK[level], float(side > 0), float(side < 0)),
            seed + 3,
            full=True,
        ),
    )


def stiffened(patient: Patient, level: str, left: float, right: float) -> Patient:
    """The same person with a level stiffer by `STIFFER`, on the sides given by 1.0."""
    i = LEVELS.index(level)
    more = [1.0 + (STIFFER - 1.0) * much for much in (left, right)]
    ours = patient.left[i] * more[0], patient.right[i] * more[1]
    # a stiff level may need stiffer tissue before it than the region has
    layer = patient.layer(level)
    need = max(1.0, sum(ours) / (0.74 * 2.0 * layer.stiffness))
    region = {"C": "neck", "T": "thoracic", "L": "lumbar"}[level[0]]
    stiffer: dict[str, Layer] = {region: replace(layer, stiffness=need * layer.stiffness)}
    return replace(
        patient,
        tissue=replace(patient.tissue, **stiffer),
        left=(*patient.left[:i], ours[0], *patient.left[i + 1 :]),
        right=(*patient.right[:i], ours[1], *patient.right[i + 1 :]),
    )


def feel(layout: MatLayout, patient: Patient, seed: int, full: bool = False) -> Felt:
    """Scan one person and compare."""
    person = lie_down(patient)
    plant = Plant(layout, person, plain_urdf(layout), seed)
    loop = WatchedLoop(plant)
    intake = check_intake(patient.sex, float(patient.age), patient.stature, patient.mass)
    scan = SpineScan(layout, intake, full=full)
    begin = loop.cycle
    loop.peak[:] = 0.0
    truly = regions_at(layout.x, {v: person.x_of(v) for v in LEVELS}, 0.0)
    allowed = [[PROBE_LIMIT[r] for r in regions] for regions in (layout.regions, truly)]
    probe = np.min(allowed, axis=0)
    try:
        for step in scan.steps(0, True):
            loop.samples.clear()
            _, outcome = loop.press(step.goal)
            scan.take(outcome, loop.samples)
    except ScanRefused as error:
        return _nothing(str(error), float((loop.peak - probe).max()))
    seconds = (loop.cycle - begin) * layout.cycle + THINKING
    levels = {(e.level, e.side): e for e in scan.levels()}
    pair = [levels[(v, "both")] for v in TRUNK]
    values = {v: e.value for (v, side), e in levels.items() if side == "both"}
    trunk = [UP.index(v) for v in TRUNK]
    lies, c = scan.map, scan.contour
    told = scan.findings()
    score = stands_out(lies)[trunk] if lies is not None else np.full(len(TRUNK), np.nan)
    skew = lies.skew[trunk] if lies is not None else np.full(len(TRUNK), np.nan)
    at = np.array([person.x_of(v) for v in PLACES])
    place = np.array([scan.place.levels[v] for v in PLACES]) - at
    spread = np.array([scan.place.errors[v] for v in PLACES])
    neck = nothing = np.nan
    contour, angles, unsure = nothing, np.full(2, np.nan), np.full(2, np.nan)
    under = np.full(len(layout.rows), np.nan)
    if c is not None and c.x.size:
        off = c.z - plant.trunk.skin_height(c.x)
        upper = (c.x > person.x_of(NECK_BELOW)) & (c.x <= person.x_of("C1"))
        contour = float(np.sqrt(np.mean(off[c.x <= person.x_of(NECK_BELOW)] ** 2)))
        neck = float(np.sqrt(np.mean(off[upper] ** 2))) if upper.any() else nothing
        under = np.interp(layout.row_x, c.x, off / c.z_std, np.nan, np.nan)
        angles = np.array([c.kyphosis - person.kyphosis, c.lordosis - person.lordosis])
        unsure = np.array([c.kyphosis_std, c.lordosis_std])
    return Felt(
        value=np.array([e.value for e in pair]),
        error=np.array([e.error for e in pair]),
        sides=np.array([[levels[(v, side)].value for side in SIDES] for v in TRUNK]),
        side_error=np.array([[levels[(v, side)].error for side in SIDES] for v in TRUNK]),
        regions=_regions(values),
        score=np.where([e.valid for e in pair], score, np.nan),
        skew=skew,
        evenness=told.evenness if told is not None else nothing,
        evenness_error=told.evenness_error if told is not None else nothing,
        seconds=seconds,
        contour=contour,
        neck=neck,
        angles=angles,
        angle_error=unsure,
        places=place,
        deviation=place / spread,
        contour_deviation=under,
        lies=_lies(lies, patient),
        over=float((loop.peak - probe).max()),
        breath=scan.breath_rate - patient.breathing.rate,
    )


def _lies(found: LevelMap | None, patient: Patient) -> Array:
    """Errors of how the body lies over their standard errors, shape (2,)."""
    if found is None:
        return np.full(2, np.nan)
    truth = patient.position.across, patient.position.rotation
    told = found.across, found.rotation
    return np.array([(v - true) / error for (v, error), true in zip(told, truth, strict=True)])


def _nothing(why: str, over: float) -> Felt:
    """What is felt in a scan that gave no number."""
    trunk, sides = np.full(len(TRUNK), np.nan), np.full((len(TRUNK), 2), np.nan)
    places, nan = np.full(len(PLACES), np.nan), np.nan
    return Felt(
        value=trunk, error=trunk, sides=sides, side_error=sides,
        regions=np.full(len(REGIONS), nan), score=trunk, skew=trunk,
        evenness=nan, evenness_error=nan, seconds=nan, contour=nan, neck=nan,
        angles=np.full(2, nan), angle_error=np.full(2, nan),
        places=places, deviation=places, contour_deviation=places, lies=np.full(2, np.nan),
        over=over, breath=nan, refused=why,
    )  # fmt: skip


def _regions(values: dict[str, float]) -> Array:
    """Mean stiffness of thorax, loins, lower and upper neck, shape (4,), N/m."""

    def mean(names: Sequence[str]) -> float:
        known = [values[v] for v in names if np.isfinite(values.get(v, np.nan))]
        return float(np.mean(known)) if known else np.nan

    neck = [
        values[name] if name in values else mean(levels) for name, levels in NECK_REGIONS.items()
    ]
    return np.array([mean(THORACIC), mean(LUMBAR), *neck])


def _share(off: Array, error: Array) -> float:
    """Share of known values that are further off than 1.96 standard errors."""
    known = np.isfinite(off) & np.isfinite(error)
    return float((np.abs(off) > 1.96 * error)[known].mean()) if known.any() else float("nan")


def intraclass(first: Array, again: Array) -> float:
    """ICC(2,1): absolute agreement of two single measurements of the same people.

    Two-way random effects (Shrout and Fleiss 1979).

    Args:
        first, again: one value per person, shape (p,); people with a NaN are left out.
    """
    both = np.stack([first, again], axis=1)
    both = both[np.isfinite(both).all(axis=1)]
    n, k = both.shape
    if n < 3:
        return float("nan")
    mean = both.mean()
    people = k * float(((both.mean(axis=1) - mean) ** 2).sum()) / (n - 1)
    times = n * float(((both.mean(axis=0) - mean) ** 2).sum()) / (k - 1)
    rest = float(((both - mean) ** 2).sum()) - people * (n - 1) - times * (k - 1)
    rest /= (n - 1) * (k - 1)
    return (people - rest) / (people + (k - 1) * rest + k * (times - rest) / n)


def area_under_roc(positive: Array, negative: Array) -> float:
    """Probability that a positive scores above a negative; ties count half.

    A positive without a score counts as missed, a negative without one not at all.
    """
    positive = np.nan_to_num(positive, nan=-np.inf)
    negative = negative[np.isfinite(negative)]
    if positive.size == 0 or negative.size == 0:
        return float("nan")
    above = positive[:, None] - negative[None, :]
    return float(np.mean((above > 0.0) + 0.5 * (above == 0.0)))


def summary(people: Sequence[Person]) -> dict[str, Any]:
    """Make figures of all people; errors in percent, mm and degrees, as people read them.

    What was not found counts against the figure: an error without end, for a share all of it.
    """
    truth = np.array([p.truth for p in people])

    def errors(found: Sequence[Felt], real: Array) -> Array:
        values = np.array([f.value for f in found])
        return np.where(np.isfinite(values), np.abs(values / real - 1.0), 1.0)

    def middle(values: Any) -> float:
        return float(np.median(np.nan_to_num(np.abs(values), nan=np.inf)))

    first = [p.first for p in people]
    every = [f for p in people for f in (p.first, p.again, p.full, p.stiff, p.one_sided) if f]
    quick = [f for p in people for f in (p.first, p.again, p.stiff)]
    value, error = (np.array([getattr(f, name) for f in first]) for name in ("value", "error"))
    inside = np.abs(value - truth) <= 1.96 * error
    region = np.array([f.regions for f in first]) / np.array([p.regions for p in people]) - 1.0
    full = [(p.full, p.truth) for p in people if p.full is not None]
    side = np.array([p.full.sides / p.sides for p in people if p.full is not None])
    again = np.array([p.again.value for p in people])
    icc = np.array([intraclass(value[:, i], again[:, i]) for i in range(len(TRUNK))])
    hit = np.array([p.stiff.score[p.level] for p in people])
    miss = np.concatenate([np.delete(p.stiff.score, p.level) for p in people])
    right = [np.sign(p.one_sided.skew[p.level]) == np.sign(p.side) for p in people]
    region = np.where(np.isfinite(region), np.abs(region), 1.0)
    places = np.nan_to_num(np.abs([f.places for f in first]), nan=np.inf)
    angles = np.array([f.angles for f in first])
    known = [float(np.isfinite(v).sum()) for v in (value, again)]
    return {
        "people": len(people),
        "valid_levels": float(np.median(np.isfinite(value).sum(axis=1))),
        "scans": len(every),
        "scans_refused": sum(bool(f.refused) for f in every),
        "half_width_pct": 100.0 * middle(1.96 * error / value),
        "contour_mm": 1e3 * middle([f.contour for f in first]),
        "contour_neck_mm": 1e3 * middle([f.neck for f in first]),
        "kyphosis_deg": float(np.degrees(middle(angles[:, 0]))),
        "lordosis_deg": float(np.degrees(middle(angles[:, 1]))),
        "angles_inside_95_share": 1.0 - _share(angles, np.array([f.angle_error for f in first])),
        "places_mm": 1e3 * float(np.median(places)),
        "places_95_mm": 1e3 * float(np.percentile(places, 95.0)),
        **{
            f"{name}_pct": 100.0 * float(np.median(region[:, i])) for i, name in enumerate(REGIONS)
        },
        "thoracic_level_pct": 100.0 * float(np.median(errors(first, truth)[:, : len(THORACIC)])),
        "lumbar_level_pct": 100.0 * float(np.median(errors(first, truth)[:, len(THORACIC) :])),
        "full_level_pct": 100.0
        * float(np.median(errors([f for f, _ in full], np.array([t for _, t in full]))))
        if full
        else float("nan"),
        "inside_95_share": float(inside[np.isfinite(value)].mean()),
        "over_mdc_share": _share(value - again, 2.0**0.5 * error),
        "side_full_levels": middle(np.isfinite(side).all(axis=2).sum(axis=1)) if full else np.nan,
        "side_full_pct": 100.0 * float(np.nanmedian(np.abs(side - 1.0))) if full else np.nan,
        "side_inside_95_share": 1.0
        - _share(
            np.array([p.first.sides - p.sides for p in people]),
            np.array([f.side_error for f in first]),
        ),
        "places_inside_95_share": 1.0
        - _share(np.concatenate([f.deviation for f in first]), np.ones(1)),
        "contour_inside_95_share": 1.0
        - _share(np.concatenate([f.contour_deviation for f in first]), np.ones(1)),
        "lies_inside_95_share": 1.0 - _share(np.concatenate([f.lies for f in every]), np.ones(1)),
        "icc_least": float(np.nan_to_num(icc).min()),
        "icc_median": float(np.median(np.nan_to_num(icc))),
        "icc_known_share": min(known) / value.size,
        "stiff_level_auc": area_under_roc(hit, miss),
        "side_right_share": float(np.mean(right)),
        "evenness_error": float(
            np.nanmedian(np.abs([p.first.evenness - p.evenness for p in people]))
        ),
        "evenness_inside_95_share": 1.0
        - _share(
            np.array([p.first.evenness - p.evenness for p in people]),
            np.array([f.evenness_error for f in first]),
        ),
        "quick_scan_s": float(np.nanmax([f.seconds for f in quick])),
        "full_scan_s": float(np.nanmax([p.one_sided.seconds for p in people])),
        "over_probe_n": float(np.max([f.over for f in every])),
        "scan_breath_per_min": 60.0 * middle([f.breath for f in first]),
    }
