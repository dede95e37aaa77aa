"""`spinemat evaluate course`: weeks of sessions of simulated people, and what the record says.

The people come in groups that share a twin, one process each; the record is written here, as
sessions write it. What the ledger must never allow is judged from the sessions themselves, not by
the ledger.
"""

from __future__ import annotations

import itertools
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spinemat.anatomy import TRUNK, region_of
from spinemat.back_model import UP
from spinemat.layout import PRESS_CEILING, load_layout
from spinemat.ledger import (
    FIRST_WEEK,
    FULL_PEAK,
    FULL_WORK,
    LESS,
    MOST_SESSIONS,
    PAIN,
    REST,
    RESTING,
    SOME_WORK,
    WEEK,
)
from spinemat.questionnaire import to_mapping
from spinemat.session_programme import load_programmes
from spinemat_bringup.evaluate import eligible
from spinemat_bringup.graph import share
from spinemat_bringup.outcome import Outcome, software_version
from spinemat_bringup.processes import in_processes
from spinemat_session.record import Dose, MeasuredLevel, Store
from spinemat_session.record.trends import FEWEST, PersonTrend, group_trend, person_trend
from spinemat_sim.course import SCAN_ERROR, Course, run_courses
from spinemat_sim.spot_check import Spot, press_plant
from spinemat_sim.volunteers import FIRST_DAY, volunteers

Array = NDArray[np.float64]

PROGRAMMES = ("course_8_weeks", "daily_5")  # first of a day, and later ones
CROWD = 10  # people who share a twin and a process
GROUP = "simulated"
LONGEST = 15 * 60.0  # s
WORK_OFF, PEAK_OFF = 0.25, 0.05  # plant against twin in a spot check (engineering choices)
CHANGED, SAME = 0.05, 0.01  # true change of a level from which, and below which, it counts as such
SOFTER_LEVELS = 3  # of 17, from which a person is softer: by chance 1 in 100 (binomial, 0.025)
SHOWN = 4  # people in the picture
_TRUNK = np.isin(UP, TRUNK)
_CEILING = np.array([PRESS_CEILING[region_of(v)] for v in UP])


class Judged(NamedTuple):
    """A person's course beside what the record says of it; arrays over T1 to L5, foot end first.

    Attributes:
        course: what happened.
        trend: of the record.
        true: true change of each level's stiffness from the first to the last week's mean.
        whole: the same from before the course to the last week's mean.
        said: change that the record says, over the first week's mean; NaN: not measured twice.
        softer, stiffer: whether the record says so.
    """

    course: Course
    trend: PersonTrend
    true: Array
    whole: Array
    said: Array
    softer: NDArray[np.bool_]
    stiffer: NDArray[np.bool_]


def course(
    people: int, weeks: int, seed: int, jobs: int | None, spots: int, database: str | None
) -> tuple[Outcome, list[Judged]]:
    """Run the courses, write the record, ask it for trends and judge all of it.

    Args:
        people: drawn from the survey.
        weeks: how long they come.
        seed: of people, sensors and all that happens.
        jobs: processes; None: one per core.
        spots: sessions that are done once more on the full plant.
        database: where the record is written; None: a file that is removed afterwards.

    Raises:
        InvalidInput: there are no such programmes, or the database holds these people already.
        StoreError: the database cannot do its part.
    """
    started = time.monotonic()
    layout = load_layout(share("config", "mat.yaml"))
    programmes = load_programmes(share("config", "programmes"))
    who = volunteers(eligible(people, seed), seed)
    crowds = [who[i : i + CROWD] for i in range(0, people, CROWD)]
    run = partial(run_courses, layout, programmes, PROGRAMMES, weeks)
    courses: list[Course] = list(itertools.chain(*in_processes(run, (crowds,), jobs)))
    checked = _spots(
        [c for c in courses if c.last], spots, partial(press_plant, layout), seed, jobs
    )
    with tempfile.TemporaryDirectory() as folder, Store(database or Path(folder, "c.db")) as store:
        for one in courses:
            write(store, one, seed)
        today = (FIRST_DAY + weeks * WEEK - timedelta(days=1)).date()
        judged = [
            judge(one, person_trend(store, one.who.record.id, today))
            for one in courses
            if one.sessions
        ]
        group = group_trend(store, GROUP, today) if len(judged) >= FEWEST else None
    outcome = Outcome("evaluate course", time.monotonic() - started)
    length = programmes[PROGRAMMES[0]].weeks
    broken = [words for one in courses for words in broken_rules(one, length)]
    sessions = [s for one in courses for s in one.sessions]
    found = figures(judged)
    outcome.check("seconds", outcome.seconds, "<=", LONGEST)
    outcome.check("people_with_trends", sum(_has_trends(j, weeks) for j in judged), "==", people)
    if group is not None:
        last = max(week.week for week in group.measures["trunk_stiffness_ratio"])
        outcome.check("group_trend_last_week", last, "==", weeks - 1)
    outcome.check("over_limits_n", max(s.over for s in sessions), "<=", 0.0)
    outcome.check("sessions_near_lifting", sum(bool(s.lifting) for s in sessions), "==", 0)
    outcome.check("ledger_rules_broken", len(broken), "==", 0)
    if found["levels_truly_same"]:  # the fewest people have none
        outcome.check("levels_called_changed_that_are_not", found["false_share"], "<=", 0.05)
    for name, held, free in checked:
        outcome.check(f"plant_{name}_over_limits_n", max(held.over, free.over), "<=", 0.0)
        outcome.check(f"plant_{name}_peak_off", abs(held.peak), "<=", PEAK_OFF)
        off = float(np.nanmax(np.abs(held.work)))
        outcome.check(f"plant_{name}_work_off", off, "<=", WORK_OFF)
    used = [resource.getrusage(of) for of in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    outcome.details = {
        "seed": seed,
        "weeks": weeks,
        "processor_seconds": sum(u.ru_utime + u.ru_stime for u in used),
        "figures": found,
        "broken": broken,
        "group": group and {"consistency": group.consistency, **group.measures},
        "spots": {name: [spot._asdict() for spot in spots] for name, *spots in checked},
        "people": [_row(j) for j in judged],
    }
    return outcome, judged


def _spots(
    courses: Sequence[Course], count: int, press: Callable[..., Spot], seed: int, jobs: int | None
) -> list[tuple[str, Spot, Spot]]:
    """Last sessions of some people on the plant: id, with held breath, breathing."""
    at = np.linspace(0, len(courses) - 1, min(count, len(courses))).astype(int)
    some = [courses[i] for i in at]
    twice = [c.last for c in some for _ in range(2)]
    found = in_processes(
        press, (twice, itertools.cycle((False, True)), itertools.repeat(seed)), jobs
    )
    names = [c.who.record.id for c in some]
    return list(zip(names, found[::2], found[1::2], strict=True))


def write(store: Store, course: Course, seed: int) -> None:
    """Write a person's sessions into the record, as sessions do."""
    person = course.who.record.id
    intake = to_mapping(course.who.record)
    for i, s in enumerate(course.sessions):
        name = f"{person}-{i:03d}"
        store.begin_session(
            name, person, intake, at=s.begin, programme=s.programme[0],
            programme_version=str(s.programme[1]), group=GROUP, software=software_version(),
            seed=seed,
        )  # fmt: skip
        store.add_outcome(person, "pain", s.pain, at=s.begin, session_id=name, moment="before")
        store.add_levels(name, "before", _levels(s.before), at=s.begin)
        d = s.dose
        columns = (v.tolist() for v in (d.work, d.peak, d.time, np.rint(d.cycles)))
        doses = (Dose(v, *rest) for v, *rest in zip(UP, *columns, strict=True))
        store.add_dose(name, doses, at=s.end)
        for level, pain in s.comfort:
            store.add_comfort(name, level, pain, at=s.end)
        store.add_levels(name, "after", _levels(s.after), at=s.end)
        store.end_session(name, "completed", at=s.end)


def _levels(value: Array) -> list[MeasuredLevel]:
    reason = "not resolvable: rows are 46 mm apart, neck levels 15 to 18 mm"
    return [
        MeasuredLevel(
            level,
            float(k),
            float(SCAN_ERROR * k),
            float(1.96 * np.sqrt(2.0) * SCAN_ERROR * k),
            bool(np.isfinite(k)),
            "" if np.isfinite(k) else reason,
        )
        for level, k in zip(UP, value, strict=True)
    ]


def broken_rules(course: Course, weeks: int) -> list[str]:
    """What a person's sessions broke of the ledger's rules, in words; judged without the ledger.

    Args:
        course: what happened.
        weeks: of the course's programme.
    """
    found = []
    for i, s in enumerate(course.sessions):
        where = f"{course.who.record.id} {s.begin:%Y-%m-%d %H:%M}"
        recent = [p for p in course.sessions[:i] if s.begin - p.end < REST]
        if sum(p.dose.work.sum() >= SOME_WORK for p in recent) >= MOST_SESSIONS:
            found.append(f"{where}: more than {MOST_SESSIONS} sessions in {REST}")
        for p in recent:
            full = (p.dose.peak >= FULL_PEAK * _CEILING) | (p.dose.work >= FULL_WORK)
            if (s.advised[full] > RESTING).any():
                found.append(f"{where}: a level that rests gets more than {RESTING:g}")
        hurt = [UP.index(v) for v, pain in course.sessions[i - 1].comfort if pain >= PAIN]
        if i > 0 and (s.advised[hurt] > 1.0 - LESS + 1e-9).any():
            found.append(f"{where}: a level that hurt gets more than {1.0 - LESS:g}")
    mine = [s for s in course.sessions if s.programme[0] == PROGRAMMES[0]]
    step = (1.0 - FIRST_WEEK) / max(weeks - 1, 1)
    for last, s in itertools.pairwise(mine):
        gone = min((s.begin - mine[0].end) // WEEK, weeks - 1)
        if s.course > FIRST_WEEK + step * gone + 1e-9 or s.course > last.course + step + 1e-9:
            found.append(f"{course.who.record.id} {s.begin:%Y-%m-%d}: the course rose too fast")
    return found


def judge(course: Course, trend: PersonTrend) -> Judged:
    """Put what the record says of a person beside the truth."""
    first = course.sessions[0].begin.date()
    week = np.array([(s.begin.date() - first) // timedelta(days=7) for s in course.sessions])
    truth = np.array([s.truth for s in course.sessions])[:, _TRUNK]
    begin, end = (truth[week == w].mean(axis=0) for w in (week[0], week[-1]))
    known = {level.level: level for level in trend.stiffness}
    levels = [known[v] for v in UP if v in TRUNK]
    verdicts = np.array([level.verdict for level in levels])
    return Judged(
        course,
        trend,
        end / begin - 1.0,
        end / truth[0] - 1.0,
        np.array([level.change / level.weeks[0].value for level in levels]),
        verdicts == "softer",
        verdicts == "stiffer",
    )


def _has_trends(one: Judged, weeks: int) -> bool:
    """Whether every level of the trunk was followed to the last week, and pain too."""
    pain = one.trend.measures.get("pain", ())
    last = [weekly[-1].week for weekly in (*(t.weeks for t in one.trend.stiffness), pain[-1:])]
    return len(last) == len(TRUNK) + 1 and min(last) == weeks - 1


def figures(judged: Sequence[Judged]) -> dict[str, Any]:
    """Figures of all people together; changes are shares of the stiffness."""
    true, whole, said, softer, stiffer = (
        np.array([getattr(j, name) for j in judged])
        for name in ("true", "whole", "said", "softer", "stiffer")
    )
    sessions = [s for j in judged for s in j.course.sessions]
    changed, same = true <= -CHANGED, np.abs(true) < SAME
    is_softer, truly = softer.sum(axis=1) >= SOFTER_LEVELS, true.mean(axis=1) <= -CHANGED

    def share(of: NDArray[np.bool_], among: NDArray[np.bool_]) -> float:
        return float(of[among].mean()) if among.any() else float("nan")

    return {
        "people": len(judged),
        "sessions": len(sessions),
        "missed_days": sum(j.course.missed for j in judged),
        "refused_by_ledger": sum(j.course.refused for j in judged),
        "comfort_reports": sum(bool(s.comfort) for s in sessions),
        "bad_reports": sum(pain >= PAIN for s in sessions for _, pain in s.comfort),
        "lowered_by_rest_or_reports": sum((s.advised < s.course - 1e-9).any() for s in sessions),
        "course_share_last": [
            [s.course for s in j.course.sessions if s.programme[0] == PROGRAMMES[0]][-1]
            for j in judged
        ],
        "forecast_work_over_twin": float(
            np.median([s.expected.sum() / s.dose.work.sum() for s in sessions])
        ),
        "true_change_median": float(np.median(true)),
        "true_change_whole_median": float(np.median(whole)),
        "said_change_median": float(np.median(said)),
        "detectable_median": float(
            np.median([t.mdc / t.weeks[0].value for j in judged for t in j.trend.stiffness])
        ),
        "said_minus_true_sd": float(np.std(said - true)),
        "levels_truly_softer_share": float(changed.mean()),
        "sensitivity": share(softer, changed),
        "levels_truly_same": int(same.sum()),
        "false_share": share(softer | stiffer, same),
        "levels_called_softer_share": float(softer.mean()),
        "people_truly_softer": int(truly.sum()),
        "people_called_softer": int(is_softer.sum()),
        "people_rightly_called_softer": int((is_softer & truly).sum()),
    }


def _row(one: Judged) -> dict[str, Any]:
    sessions = one.course.sessions
    return {
        "person": one.course.who.record.id,
        "softening": one.course.who.patient.mobilisation.softening,
        "sessions": len(sessions),
        "true": one.true,
        "whole": one.whole,
        "said": one.said,
        "softer_levels": int(one.softer.sum()),
        "work": [s.dose.work.sum() for s in sessions],
        "peak": [s.dose.peak.max() for s in sessions],
        "course": [s.course for s in sessions],
        "lifting": [s.lifting for s in sessions if s.lifting],
        "consistency": one.trend.consistency.share,
    }


def draw(judged: Sequence[Judged], path: Any) -> None:
    """Draw stiffness and dose over weeks of a few people, those who changed most and least."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    order = sorted(judged, key=lambda j: float(j.true.mean()))
    count = min(SHOWN, len(order))
    shown = [order[i] for i in np.linspace(0, len(order) - 1, count).astype(int)]
    figure, axes = pyplot.subplots(2, count, figsize=(15, 6.4), sharex=True, squeeze=False)
    for one, upper, lower in zip(shown, *axes, strict=True):
        sessions = one.course.sessions
        days = [(s.begin - sessions[0].begin) / timedelta(days=7) for s in sessions]
        level = [v for v in UP if v in TRUNK][int(one.true.argmin())]
        i = UP.index(level)
        upper.plot(
            days,
            [1e-3 * s.truth[i] for s in sessions],
            color="0.4",
            label="truth before a session",
        )
        upper.plot(days, [1e-3 * s.before[i] for s in sessions], ".", ms=3, color="C0", alpha=0.5)
        weeks = next(t for t in one.trend.stiffness if t.level == level).weeks
        upper.errorbar(
            [w.week + 0.5 for w in weeks],
            [1e-3 * w.value for w in weeks],
            [1.96e-3 * w.error for w in weeks],
            fmt="o", ms=4, color="C0", capsize=3, label="week's mean ± 1.96 SE",
        )  # fmt: skip
        softening = one.course.who.patient.mobilisation.softening
        upper.set_title(f"{level}, softening up to {softening:.0%} a session", fontsize=10)
        kinds = ["C1" if s.programme[0] == PROGRAMMES[0] else "0.7" for s in sessions]
        lower.bar(days, [s.dose.work.sum() for s in sessions], 0.1, color=kinds)
        lower.set(xlabel="week")
    axes[0, 0].set(ylabel="stiffness, N/mm")
    axes[0, 0].legend(fontsize=8)
    axes[1, 0].set(
        ylabel="work of a session, J", title="grey: another programme, later in the day"
    )
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
