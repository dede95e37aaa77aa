"""`spinemat patient validate`: what the virtual patients do beside what was published.

Experiments run on the mean adult, the pressure maps on the survey's man closest to the one in
them, trials on many sampled people in parallel processes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ks_2samp

from spinemat.layout import MatLayout, load_layout
from spinemat.twin import LONGEST_STEP
from spinemat_bringup import bench
from spinemat_bringup.graph import share
from spinemat_bringup.outcome import Outcome
from spinemat_bringup.processes import in_processes
from spinemat_sim import validation as lab
from spinemat_sim.patient import MEAN_STIFFNESS, Patient
from spinemat_sim.person import Person, lie_down
from spinemat_sim.plant import Plant
from spinemat_sim.population import bodies, find_patient, sample
from spinemat_sim.pressure import METHOD, LoadComparison, compare, man_in_the_maps
from spinemat_sim.sensors import Imperfections
from spinemat_sim.trials import Agreement, Stress, agree, fingerprint, patterns, stress
from spinemat_sim.trunk import REGIONS, Trunk, build_trunk
from spinemat_sim.urdf import plain_urdf

Array = NDArray[np.float64]
Say = Callable[[str], None]

RATES = (0.5, 1.5)  # Hz, of the loss factor
CREEP_LEVELS = ("C5", "T7", "L3")
CURVE_LEVELS = ("C2", "T7", "L3")
LIFTED = ("head", "thorax", "abdomen")
OVER = 3.0  # times its weight under a region; its neighbours hold on to it
KINETIC_LIMIT = 0.5  # J, of the whole body (choice): 75 kg at a tenth of a metre per second
RISE = 0.005  # m, more than this is lifted (choice)
PATTERNS = 20
SOURCES = {
    "C2": "Snodgrass, cervical rig", "C5": "between anchors (choice)",
    "C7": "Snodgrass, cervical rig", "T4": "Edmondston 1999", "T7": "Edmondston 1999",
    "T10": "Edmondston 1999", "L1": "between anchors (choice)",
    "L3": "Latimer 1996, Viner 1997, padded plinth", "L5": "between anchors (choice)",
}  # fmt: skip


class Row(NamedTuple):
    """One line of the table: what, the model's figure, the published one and its source."""

    what: str
    model: str
    published: str
    source: str


@dataclass
class Findings:
    """All that was measured, for checks, table and plots."""

    stiffness: dict[str, float] = field(default_factory=dict)
    curves: dict[str, lab.Curve] = field(default_factory=dict)
    loss: dict[float, dict[str, float]] = field(default_factory=dict)
    creep: dict[str, tuple[Array, Array]] = field(default_factory=dict)
    loads: Array = field(default_factory=lambda: np.zeros(4))
    lift: dict[str, tuple[float, float]] = field(default_factory=dict)
    maps: LoadComparison | None = None
    breathing: tuple[float, float] = (0.0, 0.0)
    guarding: lab.GuardingFound | None = None
    people: list[Patient] = field(default_factory=list)
    stress: list[tuple[Stress, Stress]] = field(default_factory=list)
    twin: list[Agreement] = field(default_factory=list)


def validate(people: int, seed: int, jobs: int | None, out: Path, say: Say) -> Outcome:
    """Run all experiments and trials, write `validation.png` and return figures and checks.

    Args:
        people: sampled for the stress trial; the twin is tried on a quarter of them.
        seed: of the sample.
        jobs: processes for the trials; None: one per core.
        out: folder for the picture.
        say: told what is being done.

    Raises:
        InvalidInput: people or seed out of range.
    """
    from spinemat_bringup.validation_figure import draw

    started = time.monotonic()
    sampled = sample(people, seed)
    layout = load_layout(share("config", "mat.yaml"))
    outcome = Outcome("patient validate")
    rows: list[Row] = []
    found = Findings(people=sampled)
    say("pressing the mean adult level by level")
    _levels(found, outcome, rows)
    say("loads, pressure maps, breathing, guarding")
    _regions(found, layout, outcome, rows)
    say("speed of the twin")
    speed = bench.twin()
    outcome.checks += speed.checks
    say(f"same seed twice; {people} people under load for 30 s, twice")
    _population(found, layout, seed, jobs, outcome, rows)
    _twin(found, layout, seed, jobs, outcome, say)
    out.mkdir(parents=True, exist_ok=True)
    picture = out / "validation.png"
    draw(found, picture)
    outcome.details |= {
        "table": [row._asdict() for row in rows],
        "people": people,
        "seed": seed,
        "picture": picture.resolve(),
        **speed.details,
    }
    outcome.seconds = time.monotonic() - started
    return outcome


def _levels(found: Findings, outcome: Outcome, rows: list[Row]) -> None:
    person = lie_down(find_patient(""))
    trunk = build_trunk(person)
    found.stiffness = lab.anchor_stiffness(person, trunk)
    for level, value in found.stiffness.items():
        anchor = MEAN_STIFFNESS[level]
        error = 100.0 * (value / anchor - 1.0)
        outcome.check(f"stiffness_error_{level}_pct", abs(error), "<=", 5.0)
        model = f"{1e-3 * value:.2f} N/mm ({error:+.1f} %)"
        published = f"{1e-3 * anchor:.1f} N/mm"
        rows.append(Row(f"PA stiffness {level}", model, published, SOURCES[level]))
    found.curves = {level: lab.curve(person, level, trunk) for level in lab.ANCHORS}
    toe = np.array([c.toe_ratio for c in found.curves.values()])
    straight = min(c.r_squared for c in found.curves.values())
    outcome.check("toe_ratio_off_0.4", float(np.abs(toe - 0.4).max()), "<=", 0.1)
    outcome.check("linear_r_squared_lowest", straight, ">=", 0.99)
    rows += [
        Row("toe slope over K", _span(toe), "0.4 ± 0.1", "curve shape published, factor chosen"),
        Row("straight beyond the toe, R²", f"≥ {straight:.5f}", "≥ 0.99", "same"),
    ]
    for rate in RATES:
        found.loss[rate] = {v: lab.loss_factor(person, v, rate, trunk) for v in lab.ANCHORS}
    slow, fast = (np.array(list(found.loss[rate].values())) for rate in RATES)
    outcome.check("loss_factor_0.5_hz_off_0.2", float(np.abs(slow - 0.2).max()), "<=", 0.05)
    outcome.check("loss_factor_1.5_hz_lowest", float(fast.min()), ">=", 0.12)
    rows += [
        Row("loss factor at 0.5 Hz", _span(slow), "0.2 ± 0.05", "recalled value"),
        Row("loss factor at 1.5 Hz", _span(fast), "≥ 0.12", "recalled value"),
    ]
    found.creep = {level: lab.creep(person, level, trunk) for level in CREEP_LEVELS}
    share = np.array([lab.creep_share(*c) for c in found.creep.values()])
    outcome.check("creep_share_off_0.69", float(np.abs(share - 0.69).max()), "<=", 0.10)
    rows.append(
        Row("share of 2-minute creep in 30 s", _span(share), "0.69 ± 0.10", "PA creep studies")
    )


def _regions(found: Findings, layout: MatLayout, outcome: Outcome, rows: list[Row]) -> None:
    person = lie_down(find_patient(""))
    trunk, urdf = build_trunk(person), plain_urdf(layout)

    def plant(who: Person = person, springs: Trunk = trunk) -> Plant:
        return Plant(layout, who, urdf, 0, Imperfections.none(), springs)

    resting = plant()
    resting.breathing = False
    lab.still(resting, 2.0)
    found.loads = resting.region_loads() / lab.region_weights(person)
    outcome.check(
        "regional_load_error_pct", float(100.0 * np.abs(found.loads - 1.0).max()), "<=", 5.0
    )
    weights = ", ".join(f"{w:.0f}" for w in lab.region_weights(person))
    rows.append(
        Row(
            f"load of {', '.join(REGIONS)}",
            f"{found.loads.min():.3f} to {found.loads.max():.3f} of it",
            f"{weights} N",
            "segment mass fractions .081 .216 .139 .142",
        )
    )
    for region in LIFTED:
        found.lift[region] = lab.lift(plant(), region, OVER)
        left, rise = found.lift[region]
        outcome.check(f"{region}_load_left_when_lifted", left, "<=", 0.02)
        model = f"rises {1e3 * rise:.1f} mm, {100 * left:.0f} % of its load left"
        rows.append(Row(f"{region} pressed with {OVER:g} × its weight", model, "lifts", "statics"))
    man = lie_down(man_in_the_maps())
    found.maps = compare(Plant(layout, man, urdf))
    ceiling = float(found.maps.ceiling.mean())
    outcome.check("map_correlation", found.maps.correlation, ">=", 0.75)
    outcome.details |= {"map_ceiling": ceiling, "map_method": METHOD}
    rows.append(
        Row(
            "load along the back against pressure maps: correlation",
            f"{found.maps.correlation:.2f}",
            f"recordings among each other {ceiling:.2f}",
            "PoPu, one man of 1.90 m and 96 kg",
        )
    )
    found.breathing = lab.breathing(plant())
    excursion, ripple = found.breathing
    outcome.check("breathing_mm_at_least", 1e3 * excursion, ">=", 0.5)
    outcome.check("breathing_mm_at_most", 1e3 * excursion, "<=", 2.0)
    outcome.check("breathing_ripple_pct_at_least", 100.0 * ripple, ">=", 2.0)
    outcome.check("breathing_ripple_pct_at_most", 100.0 * ripple, "<=", 5.0)
    rows += [
        Row("breathing, back", f"{1e3 * excursion:.2f} mm", "1 (0.5–2) mm", "supine excursion"),
        Row("breathing, load ripple", f"{100 * ripple:.1f} %", "3 (2–5) %", "choice"),
    ]
    tense = find_patient("guards")
    guards = lie_down(tense)
    calm = lie_down(replace(tense, guarding=replace(tense.guarding, gain=0.0)))
    springs = build_trunk(guards)
    found.guarding = g = lab.guarding(
        lambda on: plant(guards if on else calm, replace(springs, person=guards if on else calm)),
        tense.guarding.force,
    )
    outcome.check("guarding_latency_off_80_ms", abs(1e3 * g.latency - 80.0), "<=", 10.0)
    rows += [
        Row("guarding latency", f"{1e3 * g.latency:.0f} ms", "80 ms", "trunk reflex latencies"),
        Row("guarding rise, decay", f"+{100 * g.gain:.0f} %, {g.decay:.1f} s", "+30 %, 3 s",
            "choice"),
    ]  # fmt: skip


def _population(
    found: Findings,
    layout: MatLayout,
    seed: int,
    jobs: int | None,
    outcome: Outcome,
    rows: list[Row],
) -> None:
    _, *survey = bodies()
    drawn = [np.array([getattr(p, name) for p in found.people]) for name in ("stature", "mass")]
    for name, unit, mine, theirs in zip(
        ("stature", "mass"), ("m", "kg"), drawn, survey, strict=True
    ):
        p = float(ks_2samp(mine, theirs).pvalue)
        outcome.check(f"{name}_same_distribution_p", p, ">=", 0.01)
        rows.append(
            Row(
                f"{name} of the sample",
                f"{mine.mean():.2f} ± {mine.std():.2f} {unit} (Kolmogorov-Smirnov p {p:.2f})",
                f"{theirs.mean():.2f} ± {theirs.std():.2f} {unit}",
                "4,854 adults, ANSUR II",
            )
        )
    same = fingerprint(layout, found.people[0], seed) == fingerprint(layout, found.people[0], seed)
    outcome.check("same_seed_bit_identical", same, "==", True)
    seeds = range(seed, seed + len(found.people))
    found.stress = in_processes(partial(stress, layout), (found.people, seeds), jobs)
    over, within = ([pair[i] for pair in found.stress] for i in (0, 1))
    for name, trial in (("at_limits", over), ("within_sums", within)):
        sound = sum(t.finite for t in trial)
        outcome.check(f"sound_{name}", sound, "==", len(found.people))
        outcome.check(
            f"kinetic_energy_{name}_j", max(t.kinetic for t in trial), "<=", KINETIC_LIMIT
        )
    lifted = sum(t.rise > RISE for t in over)
    outcome.check("lifted_at_limits", lifted, "==", len(found.people))
    outcome.check("rise_within_sums_mm", 1e3 * max(t.rise for t in within), "<=", 1e3 * RISE)


def _twin(
    found: Findings,
    layout: MatLayout,
    seed: int,
    jobs: int | None,
    outcome: Outcome,
    say: Say,
) -> None:
    tried = found.people[: max(len(found.people) // 4, 1)]
    say(f"twin against plant: {len(tried)} people, {PATTERNS} patterns")
    rhythms = patterns(layout, PATTERNS, seed)
    work = partial(agree, layout, rhythms=rhythms, step=LONGEST_STEP)
    found.twin = in_processes(work, (tried,), jobs)
    for what in ("indentation", "work", "warning"):
        error = 100.0 * np.abs(np.concatenate([getattr(a, what) for a in found.twin]))
        outcome.check(f"twin_{what}_error_median_pct", float(np.median(error)), "<=", 5.0)
        outcome.check(f"twin_{what}_error_largest_pct", float(error.max()), "<=", 10.0)
    outcome.check("twin_or_plant_alone_lifts", sum(a.unlike for a in found.twin), "==", 0)
    outcome.details["twin_people"] = len(tried)
    outcome.details["twin_patterns_with_warning"] = sum(a.warned for a in found.twin)


def _span(values: Array) -> str:
    return f"{values.min():.3g} to {values.max():.3g}"
