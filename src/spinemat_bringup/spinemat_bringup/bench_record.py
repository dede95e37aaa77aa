"""How fast the record answers when it is large: `record_bench(n)`.

The made-up record has the shape of the real one: 56 daily sessions a person, each with a plan of
real size, two maps of 19 levels, doses, comfort, events and outcomes; groups of 20 people, one of
200, and one person who came 1,000 times. All but two people are copies of one.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa

from spinemat.anatomy import TRUNK, check_intake
from spinemat.dosing import plan_session
from spinemat.layout import load_layout
from spinemat.level_dose import Felt
from spinemat.plan_record import plan_to_mapping
from spinemat.session_programme import Programme, load_programme
from spinemat.stiffness import NECK_REGIONS
from spinemat_bringup.graph import share
from spinemat_bringup.outcome import Outcome
from spinemat_bringup.reporting import course_of, of_session
from spinemat_session.planning import advice_now
from spinemat_session.record import Dose, MeasuredLevel, Store
from spinemat_session.record.note import Note
from spinemat_session.record.schema import Base, Person
from spinemat_session.record.server import LocalServer, NoServer
from spinemat_session.record.trends import group_trend
from spinemat_session.record.writes import Notes

DAYS = 56
FAITHFUL = 1000  # sessions of the one person who came most often
LARGE = 200  # people of the large group
START = datetime(2030, 1, 7, 8, 0, tzinfo=timezone.utc)
LEVELS = (*TRUNK, *NECK_REGIONS)
REPEATS = 5
MOST = 100.0  # ms for what one report asks (requirement)
OFTEN, MODEL = "p00000", "p00001"


def record_bench(n: int, url: str = "") -> Outcome:
    """Time what reports ask of a large record, each question against `MOST`.

    Args:
        n: sessions, about; 600 or more.
        url: of an empty database; empty: a file of SQLite and, where that is installed, a
            PostgreSQL server of its own that forces data to the disk, both deleted afterwards.
    """
    began = time.monotonic()
    outcome = Outcome("bench record")
    if url:
        _measure(n, url, "record", outcome)
    else:
        with tempfile.TemporaryDirectory() as folder:
            _measure(n, Path(folder) / "bench.db", "SQLite", outcome)
        try:
            with LocalServer(forced=True) as server:
                _measure(n, server.create("bench"), "PostgreSQL", outcome)
        except NoServer as error:
            outcome.details["PostgreSQL"] = str(error)
    outcome.seconds = time.monotonic() - began
    return outcome


def _measure(n: int, url: str | Path, name: str, outcome: Outcome) -> None:
    """Fill a record and take medians over `REPEATS` calls, ms.

    With each goes how long this process computed in it, which a busy machine changes less.
    """
    programme = load_programme(share("config", "programmes", "lower_back.yaml"))
    with Store(url) as store:
        began = time.perf_counter()
        people = _fill(store, n, programme)
        last = {who: store.sessions(who)[-1] for who in (MODEL, OFTEN)}
        few = f"g{people // 20 - 1:03d}" if people > LARGE + 40 else "large"
        today = date(2030, 6, 1)
        with store.reading() as connection:
            count = sa.select(sa.func.count()).select_from(sa.table("sessions"))
            sessions = connection.execute(count).scalar_one()
        figures: dict[str, Any] = {
            "sessions": sessions,
            "people": people,
            "fill_s": time.perf_counter() - began,
            "bytes": store.file.stat().st_size if store.file else None,
        }
        asked: dict[str, Callable[[], Any]] = {
            "one event written": lambda: store.add_event(
                last[MODEL]["id"], "bench", "x", at=datetime.now().astimezone()
            ),
            "recover": store.recover,
            f"group of 20 or so, {DAYS} sessions each": lambda: group_trend(store, few, today),
            f"group of {LARGE}, {DAYS} sessions each": lambda: group_trend(store, "large", today),
        }
        for who, row in last.items():
            of = f"{DAYS} sessions" if who == MODEL else f"{min(FAITHFUL, n // 10)} sessions"
            then = row["started"] + timedelta(days=1)
            asked[f"ledger before a session, {of}"] = partial(
                advice_now, store, who, programme, then
            )
            asked[f"course report, {of}"] = partial(course_of, store, who, then.date())
            asked[f"session report, {of}"] = partial(of_session, store, row["id"])
        for words, ask in asked.items():
            times, busy = [], []
            for _ in range(REPEATS):
                began, spent = time.perf_counter(), time.process_time()
                ask()
                times.append(1e3 * (time.perf_counter() - began))
                busy.append(1e3 * (time.process_time() - spent))
            figures[words] = {"ms": float(np.median(times)), "cpu_ms": float(np.median(busy))}
            outcome.check(f"{name}: {words}, ms", figures[words]["ms"], "<=", MOST)
        outcome.details[name] = figures


def _fill(store: Store, n: int, programme: Programme) -> int:
    """Tell two people through the front door; the database then copies the second one."""
    rng = np.random.default_rng(0)
    layout, intake = load_layout(share("config", "mat.yaml")), check_intake("male", 45, 1.78, 84.0)
    plan = plan_to_mapping(plan_session(programme, layout, intake, Felt.prior(layout, intake)))
    faithful = min(FAITHFUL, n // 10)
    people = (n - faithful) // DAYS
    store.apply(_person(OFTEN, "g000", faithful, plan, rng))
    store.apply(_person(MODEL, "large", DAYS, plan, rng))
    rows = [
        {
            "id": f"p{i:05d}",
            "group_name": "large" if i <= LARGE else f"g{i // 20:03d}",
            "study": "bench",
            "number": i,
            "intake": {"age": 45},
        }
        for i in range(2, people + 1)
    ]
    with store._writing() as connection:
        connection.execute(sa.insert(Person), rows)
        for table in Base.metadata.sorted_tables:
            if table.name in ("persons", "studies", "screenings"):
                continue
            key = table.c.id if table.name == "sessions" else table.c.session_id
            columns: list[Any] = [_copied(column) for column in table.c]
            copies = sa.select(*columns).select_from(table).where(key.like(f"%{MODEL}"))
            copies = copies.join(Person, Person.study == "bench")
            connection.execute(sa.insert(table).from_select(list(table.c.keys()), copies))
        if store.file is None:
            connection.execute(sa.text("ANALYZE"))  # a server does so by itself after a while
    return people


def _copied(column: sa.Column[Any]) -> Any:
    if "replace" in column.info and column.name in ("id", "session_id", "person_id"):
        return sa.func.replace(column, MODEL, Person.id)
    return column + Person.number if column.name == "id" else column


def _person(
    person: str, group: str, count: int, plan: dict[str, Any], rng: np.random.Generator
) -> list[Note]:
    to = Notes()
    for day in range(count):
        at = START + timedelta(days=day)
        name = f"{at:%Y%m%d-%H%M%S}-{person}"
        to.begin_session(
            name, person, {"age": 45}, at=at, programme="daily", group=group, folder=f"/s/{name}"
        )
        to.note_progress(name, at=at, phase="TREAT", plan=plan)
        for moment in ("before", "after"):
            values = 11e3 * np.exp(0.1 * rng.standard_normal(len(LEVELS)))
            levels = [
                MeasuredLevel(level, float(value), 500.0, 1386.0, True)
                for level, value in zip(LEVELS, values, strict=True)
            ]
            to.add_levels(name, moment, levels, at=at)
            to.add_contour(
                name,
                moment,
                at=at,
                kyphosis=0.7,
                lordosis=0.6,
                asymmetry=0.001,
                evenness=float(rng.uniform(0.8, 0.95)),
                evenness_error=0.02,
            )
            to.add_outcome(
                person, "pain", float(rng.integers(0, 8)), at=at, session_id=name, moment=moment
            )
        to.add_dose(name, [Dose(v, 5.0, 30.0, 40.0, 30) for v in TRUNK], at=at)
        to.add_comfort(name, "L4", float(rng.integers(0, 5)), at=at, action="lowered")
        for i in range(12):
            to.add_event(name, "phase", f"phase {i}", at=at + timedelta(minutes=i))
        for kind in ("sleep", "stress"):
            value = float(rng.integers(0, 10))
            to.add_outcome(person, kind, value, at=at, session_id=name, moment="before")
        to.end_session(name, "completed", at=at + timedelta(minutes=15))
    return to.notes
