"""How fast the record answers when it is large: `record_bench(n)`.

    python -m spinemat_session.record.bench 100000 [--url URL]

Without a URL it does so on a file of SQLite and, where that is installed, on a PostgreSQL server
of its own that forces data to the disk; both are deleted afterwards.

The made-up record has the shape of the real one: 56 daily sessions a person, two maps of 19
levels, doses, comfort, events and outcomes; groups of 20 people, one of 200, and one person who
came 1,000 times. All but two people are copies of one.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa

from spinemat.anatomy import TRUNK
from spinemat.stiffness import NECK_REGIONS
from spinemat_session.record.note import Note
from spinemat_session.record.schema import Base, Person
from spinemat_session.record.server import LocalServer, NoServer
from spinemat_session.record.store import Store
from spinemat_session.record.trends import group_trend, person_trend
from spinemat_session.record.writes import Dose, MeasuredLevel, Notes

DAYS = 56
FAITHFUL = 1000  # sessions of the one person who came most often
LARGE = 200  # people of the large group
START = datetime(2030, 1, 7, 8, 0, tzinfo=timezone.utc)
LEVELS = (*TRUNK, *NECK_REGIONS)
REPEATS = 5
MODEL = "p00001"


def record_bench(n: int, url: str | Path | None = None) -> dict[str, float]:
    """Fill an empty record with `n` sessions and time what reports ask of it.

    Args:
        n: sessions, about; 600 or more.
        url: of an empty database; None: an SQLite file that is deleted afterwards.

    Returns:
        Seconds to fill it, size of the file (bytes, 0 for a server), and the median milliseconds
        of one small write and of each query over 5 calls, and how long this process computed in
        them, which a busy machine changes less.
    """
    with tempfile.TemporaryDirectory() as folder, Store(url or Path(folder) / "bench.db") as store:
        began = time.perf_counter()
        people = _fill(store, n)
        few = f"g{people // 20 - 1:03d}" if people > LARGE + 40 else "large"
        figures = {
            "fill_s": time.perf_counter() - began,
            "bytes": float(store.file.stat().st_size if store.file else 0),
        }
        today = date(2030, 6, 1)
        last = store.sessions("p00001")[-1]["id"]
        far = START - timedelta(days=5000)
        asked: dict[str, Callable[[], Any]] = {
            "small_write_ms": lambda: store.add_event(
                last, "bench", "x", at=datetime.now().astimezone()
            ),
            "past_doses_8_weeks_ms": lambda: store.past_doses("p00001", START),
            "past_doses_1000_sessions_ms": lambda: store.past_doses("p00000", far),
            "session_ms": lambda: store.session(last),
            "person_trend_8_weeks_ms": lambda: person_trend(store, "p00001", today),
            "person_trend_1000_sessions_ms": lambda: person_trend(store, "p00000", today),
            "group_trend_20_people_ms": lambda: group_trend(store, few, today),
            "group_trend_200_people_ms": lambda: group_trend(store, "large", today),
            "recover_ms": store.recover,
        }
        for name, ask in asked.items():
            times, busy = [], []
            for _ in range(REPEATS):
                began, spent = time.perf_counter(), time.process_time()
                ask()
                times.append(1e3 * (time.perf_counter() - began))
                busy.append(1e3 * (time.process_time() - spent))
            figures[name] = float(np.median(times))
            figures[name.replace("_ms", "_cpu_ms")] = float(np.median(busy))
        with store.reading() as connection:
            count = sa.select(sa.func.count()).select_from(sa.table("sessions"))
            figures["sessions"] = float(connection.execute(count).scalar_one())
    return figures


def _fill(store: Store, n: int) -> int:
    """Tell two people through the front door; the database then copies the second one."""
    rng = np.random.default_rng(0)
    faithful = min(FAITHFUL, n // 10)
    people = (n - faithful) // DAYS
    store.apply(_person("p00000", "g000", faithful, rng))
    store.apply(_person(MODEL, "large", DAYS, rng))
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


def _person(person: str, group: str, count: int, rng: np.random.Generator) -> list[Note]:
    to = Notes()
    for day in range(count):
        at = START + timedelta(days=day)
        name = f"{at:%Y%m%d-%H%M%S}-{person}"
        to.begin_session(
            name, person, {"age": 45}, at=at, programme="daily", group=group, folder=f"/s/{name}"
        )
        to.note_progress(name, at=at, phase="TREAT", plan={"levels": {}, "why": ["a reason"] * 10})
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


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(prog="spinemat_session.record.bench")
    parser.add_argument("sessions", type=int, help="600 or more")
    parser.add_argument("--url", help="of an empty database, instead of the two")
    asked = parser.parse_args()
    if asked.url:
        print(json.dumps(record_bench(asked.sessions, asked.url), indent=1))
        return
    figures: dict[str, Any] = {"sqlite": record_bench(asked.sessions)}
    try:
        with LocalServer(forced=True) as server:
            figures["postgresql"] = record_bench(asked.sessions, server.create("bench"))
    except NoServer as error:
        figures["postgresql"] = str(error)
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
