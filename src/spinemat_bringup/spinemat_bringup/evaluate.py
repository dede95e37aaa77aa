"""`spinemat evaluate …`: what the software believes, beside the truth, over many people."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from spinemat.anatomy import TRUNK, check_intake
from spinemat.errors import InvalidInput
from spinemat.layout import load_layout
from spinemat_bringup.graph import share
from spinemat_bringup.outcome import Outcome
from spinemat_bringup.processes import in_processes
from spinemat_sim.patient import Patient
from spinemat_sim.population import sample
from spinemat_sim.reaction_trials import MOVES, Reacted, try_reactions
from spinemat_sim.reaction_trials import summary as reaction_summary
from spinemat_sim.sensing_trials import Person, summary, try_person

# Figure, relation, limit; errors are medians over people unless the name says otherwise.
LIMITS = (
    ("valid_levels", ">=", 15),
    ("half_width_pct", "<=", 30.0),
    ("contour_mm", "<=", 1.5),
    ("contour_neck_mm", "<=", 3.0),
    ("kyphosis_deg", "<=", 3.0),
    ("lordosis_deg", "<=", 3.0),
    ("places_mm", "<=", 8.0),
    ("places_95_mm", "<=", 20.0),
    ("thoracic_region_pct", "<=", 5.0),
    ("lumbar_region_pct", "<=", 5.0),
    ("lower_neck_pct", "<=", 5.0),
    ("upper_neck_pct", "<=", 5.0),
    ("thoracic_level_pct", "<=", 13.0),
    ("lumbar_level_pct", "<=", 13.0),
    ("inside_95_share", ">=", 0.90),
    ("inside_95_share", "<=", 0.98),
    ("icc_least", ">=", 0.95),
    ("stiff_level_auc", ">=", 0.88),
    ("side_right_share", ">=", 0.95),
    ("quick_scan_s", "<=", 60.0),
    ("full_scan_s", "<=", 300.0),
    ("over_probe_n", "<=", 0.0),
    ("breath_rate_per_min", "<=", 0.5),
    ("breath_phase_deg", "<=", 30.0),
    ("breath_next_s", "<=", 0.25),
    ("guarding_seen_s", "<=", 0.2),
    ("guarding_false_per_30_min", "<=", 1.0),
    ("sits_up_seen_s", "<=", 0.3),
    ("rolls_seen_s", "<=", 0.3),
    ("leaves_seen_s", "<=", 0.3),
    ("movement_false_per_30_min", "<=", 1.0),
    ("update_core_share", "<=", 0.25),  # 5 ms for an update every 20 ms
)


def eligible(count: int, seed: int) -> list[Patient]:
    """Draw people whom the device accepts."""

    def accepted() -> Iterator[Patient]:
        for patient in sample(2 * count + 20, seed):
            try:
                check_intake(patient.sex, patient.age, patient.stature, patient.mass)
            except InvalidInput:
                continue
            yield patient

    return list(itertools.islice(accepted(), count))


def sensing(patients: int, seed: int, jobs: int | None) -> tuple[Outcome, list[Person]]:
    """Scan sampled people in the noisy plant and compare with the truth.

    Args:
        patients: people, drawn from the survey.
        seed: of people, sensors and trials.
        jobs: processes; None: one per core.
    """
    started = time.monotonic()
    layout = load_layout(share("config", "mat.yaml"))
    people = eligible(patients, seed)
    seeds = [seed + i for i in range(len(people))]
    found: list[Person] = in_processes(partial(try_person, layout), (people, seeds), jobs)
    kinds = [MOVES[i % len(MOVES)] for i in range(len(people))]
    pressed = [i // len(MOVES) % 2 == 1 for i in range(len(people))]
    reacted: list[Reacted] = in_processes(
        partial(try_reactions, layout), (people, seeds, kinds, pressed), jobs
    )
    outcome = Outcome("evaluate sensing", time.monotonic() - started)
    figures = summary(found) | reaction_summary(reacted)
    for name, relation, limit in LIMITS:
        moves = name.removesuffix("_seen_s") in MOVES
        if name in figures or not moves:  # the fewest people do not move in all ways
            outcome.check(name, figures[name], relation, limit)
    outcome.details = {
        "seed": seed,
        "figures": figures,
        "people": [_row(p) for p in found],
        "reactions": [r._asdict() for r in reacted],
    }
    return outcome, found


def _row(person: Person) -> dict[str, Any]:
    first = person.first
    return {
        "name": person.name,
        "levels": list(TRUNK),
        "truth": person.truth,
        "value": first.value,
        "error": first.error,
        "again": person.again.value,
        "contour_mm": 1e3 * first.contour,
        "places_mm": 1e3 * first.places,
        "seconds": first.seconds,
        "refused": [f.refused for f in (first, person.again, person.stiff, person.one_sided)],
        "stiffened": TRUNK[person.level],
        "score": person.stiff.score,
    }


def draw(people: Sequence[Person], path: Any) -> None:
    """Draw estimates beside the truth, and errors level by level, as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    truth = 1e-3 * np.array([p.truth for p in people])
    value = 1e-3 * np.array([p.first.value for p in people])
    figure, (left, middle, right) = pyplot.subplots(1, 3, figsize=(15, 4.6))
    most = 1.05 * np.nanmax(truth)
    left.plot([0, most], [0, most], color="0.6", lw=1)
    left.plot(truth.ravel(), value.ravel(), ".", ms=3, color="C0")
    left.set(xlabel="true stiffness, N/mm", ylabel="estimate, N/mm", title="Levels T1 to L5")
    error = 100.0 * np.abs(value / truth - 1.0)
    middle.boxplot(
        [column[np.isfinite(column)] for column in error.T], sym=".", whis=(5, 95), widths=0.6
    )
    middle.set_xticks(range(1, len(TRUNK) + 1), TRUNK, rotation=90)
    middle.axhline(13.0, color="C3", lw=1, ls="--")
    middle.set(ylabel="error, % of the truth", title="Error by level; whiskers 5 to 95 %")
    places = 1e3 * np.array([p.first.places for p in people])
    right.boxplot(list(places.T), sym=".", whis=(5, 95), widths=0.6)
    right.set_xticks(range(1, places.shape[1] + 1), ("C7", *TRUNK, "S1"), rotation=90)
    right.set(ylabel="estimate minus truth, mm", title="Where the levels lie")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
