"""The record that lasts: the same tests on a real SQLite file and on a real PostgreSQL server."""

from __future__ import annotations

import json
import os
import random
import re
import resource
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pyarrow.csv
import pyarrow.parquet
import pytest
import sqlalchemy as sa
import yaml
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from click import ClickException

from command_line import spinemat
from people import HEALTHY
from spinemat.allocation import allocate
from spinemat.back_model import UP
from spinemat.errors import InvalidInput
from spinemat.questionnaire import load_person, to_mapping
from spinemat_bringup.bench_record import record_bench
from spinemat_bringup.cli_session import into_trial
from spinemat_interfaces.action import RunSession
from spinemat_session.keeping import new_folder
from spinemat_session.record import BackgroundWriter, Dose, MeasuredLevel, Store, StoreError
from spinemat_session.record import opening as opening_module
from spinemat_session.record.export import FORMATS, export
from spinemat_session.record.faults import KINDS
from spinemat_session.record.note import append_notes, journal_path, read_notes
from spinemat_session.record.opening import VERSION, make_engine
from spinemat_session.record.schema import Base
from spinemat_session.record.server import LocalServer, NoServer
from spinemat_session.record.trends import NO_CHANGE, Week, group_trend, level_trend, person_trend
from spinemat_session.record.writes import Writes

REPOSITORY = Path(__file__).parents[1]
PERSONS = REPOSITORY / "config" / "persons"
AT = datetime(2030, 1, 7, 8, 0, tzinfo=timezone(timedelta(hours=2)))
PATIENCE = 60.0  # s, never waited for unless something is broken


# ---- two databases -----------------------------------------------------------------------


@pytest.fixture(scope="session")
def server() -> Iterator[LocalServer]:
    try:
        running = LocalServer()
    except NoServer as error:
        pytest.skip(str(error))
    with running:
        yield running


class Database:
    """A new, empty database and what can be done to it from outside."""

    def __init__(self, kind: str, folder: Path, server: LocalServer | None) -> None:
        self.folder, self.server = folder, server
        self.file = folder / "record.db"
        self.name = f"record_{os.getpid()}_{random.getrandbits(40):x}"
        self.url = str(self.file)
        if server:
            self.url = server.url(self.name)
            self.create()

    def create(self) -> None:
        if self.server:
            self.server.run(f"CREATE DATABASE {self.name}")

    def drop(self) -> None:
        """Take the whole database away."""
        if self.server:
            self.server.run(f"DROP DATABASE {self.name} WITH (FORCE)")
        else:
            self.file.unlink()

    def bytes(self) -> bytes:
        """Everything the database has on the disk, but for the server's log of changes."""
        if self.server:
            self.server.run("CHECKPOINT")
            files = [p for p in (self.server.data / "base").rglob("*") if p.is_file()]
        else:
            files = list(self.folder.glob("record.db*"))
        return b"".join(p.read_bytes() for p in files)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    wanted = request.param == "postgresql"
    return Database(request.param, tmp_path, request.getfixturevalue("server") if wanted else None)


@pytest.fixture
def store(database: Database) -> Iterator[Store]:
    with Store(database.url) as opened:
        yield opened


def begin(to: Writes, name: str = "s1", person: str = "p1", at: datetime = AT, **more: Any) -> str:
    intake = {"sex": "female", "age": 45, "notes": "Likes tea", "habits": ["sitting"]}
    to.begin_session(name, person, intake, at=at, programme="daily", **more)
    return name


def tell_all(to: Writes, name: str = "s1", person: str = "p1", **more: Any) -> None:
    """Tell one of everything."""
    begin(to, name, person, group="works", folder=f"/sessions/{name}", **more)
    to.note_progress(name, at=AT, phase="TREAT", plan={"levels": {"L4": 20.0}, "why": ["so"]})
    levels = [
        MeasuredLevel("L4", 11e3, 400.0, 1109.0, True),
        MeasuredLevel("T8", float("nan"), float("nan"), float("nan"), False, "no contact"),
        MeasuredLevel("lower neck", 7e3, 300.0, 830.0, True),
    ]
    to.add_levels(name, "before", levels, at=AT)
    shape = {"kyphosis": 0.7, "lordosis": 0.6, "asymmetry": -0.001}
    to.add_contour(name, "before", at=AT, **shape, evenness=0.9, evenness_error=float("nan"))
    to.add_dose(name, [Dose("L5", 1.0, 20.0, 10.0, 5)], at=AT)
    to.add_dose(name, [Dose("L5", 2.0, 21.0, 20.0, 10), Dose("C1", 0.5, 8.0, 5.0, 2)], at=AT)
    to.add_comfort(name, "L5", 3, at=AT + timedelta(seconds=9), action="ceiling lowered")
    to.add_event(name, "stop", "the hand control — let go \x00", at=AT)
    to.add_override(name, "clinician-3", "mild osteoporosis", "seen the scan", at=AT)
    to.add_outcome(person, "pain", 6, at=AT, session_id=name, moment="before")
    to.add_outcome(person, "function", 4, at=AT, item="tying shoes")
    to.add_outcome(person, "felt", 7, at=AT, session_id=name, item="L4", text="like a board")
    to.add_outcome(person, "note", at=AT, text="came by bicycle")
    to.end_session(name, "completed", at=AT + timedelta(minutes=10))


# ---- what was told is there --------------------------------------------------------------


def test_everything_told_reads_back_and_telling_it_twice_changes_nothing(store: Store) -> None:
    for _ in range(2):
        tell_all(store)
    there = store.session("s1")
    assert {name: len(rows) for name, rows in there.items()} == {
        "persons": 1, "sessions": 1, "plans": 1, "levels": 3, "summaries": 1, "doses": 2,
        "comforts": 1, "events": 1, "overrides": 1, "outcomes": 2,
    }  # fmt: skip
    session = there["sessions"][0]
    assert session["state"] == "completed" and session["phase"] == "TREAT"
    assert session["started"] == AT and session["ended"] == AT + timedelta(minutes=10)
    assert session["started"].utcoffset() == timedelta(0)
    assert date.fromordinal(session["day"]) == AT.date()
    assert there["persons"][0]["intake"]["age"] == 45 and there["persons"][0]["group_name"]
    assert session["intake"] == there["persons"][0]["intake"]
    levels = {row["level"]: row for row in there["levels"]}
    assert levels["L4"]["stiffness_n_per_m"] == 11e3 and levels["L4"]["valid"] is True
    assert levels["T8"]["stiffness_n_per_m"] is None and levels["T8"]["reason"] == "no contact"
    summary = there["summaries"][0]
    assert summary["evenness"] == 0.9 and summary["evenness_error"] is None
    assert summary["trunk_stiffness_ratio"] == pytest.approx(11e3 / 10.75e3, rel=0.02)
    assert there["events"][0]["text"] == "the hand control — let go \ufffd"
    assert there["plans"][0]["plan"]["why"] == ["so"]
    assert [row["id"] for row in store.sessions("p1")] == ["s1"]


def test_past_doses_are_arrays_from_l5_to_c1(store: Store) -> None:
    tell_all(store)
    begin(store, "s2", at=AT + timedelta(days=2), sham=True)
    begin(store, "other", "p2")
    one, two = store.past_doses("p1", AT - timedelta(days=1))
    assert one.work.shape == one.peak.shape == (24,)
    np.testing.assert_array_equal(np.flatnonzero(one.work), [UP.index("L5"), UP.index("C1")])
    assert (one.work[0], one.peak[0], one.work[23]) == (2.0, 21.0, 0.5)
    assert one.completed and one.comfort[0].place == "L5" and one.comfort[0].value == 3.0
    assert one.ended == AT + timedelta(minutes=10) and two.ended == two.started
    assert not two.completed and two.sham and not two.work.any()
    assert [p.session_id for p in store.past_doses("p1", AT + timedelta(days=1))] == ["s2"]


def test_doses_add_up_over_days_and_sessions_and_hide_trials(store: Store) -> None:
    tell_all(store)
    begin(store, "s2", at=AT + timedelta(hours=8))
    store.add_dose("s2", [Dose("L5", 1.0, 25.0, 10.0, 5)], at=AT)
    begin(store, "s3", at=AT + timedelta(days=1), allocation="treatment")
    store.add_dose("s3", [Dose("L5", 9.0, 9.0, 9.0, 9)], at=AT)
    begin(store, "s4", at=AT + timedelta(days=2))
    begin(store, "other", "p2")
    days = {dose.level: dose for dose in store.day_doses("p1", AT.date())}
    assert sorted(days) == ["C1", "L5"] and days["L5"].day == AT.date()
    assert (days["L5"].work, days["L5"].peak) == (3.0, 25.0)
    assert store.day_doses("p1", AT.date() + timedelta(days=1)) == []
    visits = store.visits("p1")
    assert [(v.session_id, v.trial, v.work, v.peak, v.most_pain) for v in visits] == [
        ("s1", False, 2.5, 21.0, 3.0), ("s2", False, 1.0, 25.0, None),
        ("s3", True, 9.0, 9.0, None), ("s4", False, 0.0, 0.0, None),
    ]  # fmt: skip
    assert visits[0].ended - visits[0].started == timedelta(minutes=10)


@pytest.mark.parametrize(
    "tell",
    [
        lambda w: w.begin_session("a/b", "p1", {}, at=AT, programme="x"),
        lambda w: w.begin_session("s", "", {}, at=AT, programme="x"),
        lambda w: w.begin_session("s", "p", {"x": float("nan")}, at=AT, programme="x"),
        lambda w: w.begin_session("s", "p", {}, at=AT, programme="x", seed=2**63),
        lambda w: w.note_progress("s1", at=AT.replace(tzinfo=None)),
        lambda w: w.note_progress("s1", at=AT, phase="SLEEP"),
        lambda w: w.add_levels("s1", "during", [], at=AT),
        lambda w: w.add_levels("s1", "after", [MeasuredLevel("L6", 1, 1, 1, True)], at=AT),
        lambda w: w.add_dose("s1", [Dose("L5", -1.0, 0.0, 0.0, 0)], at=AT),
        lambda w: w.add_comfort("s1", "L5", 11, at=AT),
        lambda w: w.add_override("s1", "clinician-3", "rule", " ", at=AT),
        lambda w: w.add_outcome("p1", "mood", 3, at=AT),
        lambda w: w.add_outcome("p1", "pain", None, at=AT),
        lambda w: w.end_session("s1", "running", at=AT),
    ],
)
def test_what_is_not_acceptable_is_refused_at_the_caller(
    tmp_path: Path, tell: Callable[[Writes], None]
) -> None:
    with Store(tmp_path / "r.db") as store:
        begin(store)
        with pytest.raises(InvalidInput):
            tell(store)


def test_wrong_ids_are_named(store: Store) -> None:
    begin(store)
    for kind, tell in (
        ("unknown", lambda: store.add_event("s9", "x", "y", at=AT)),
        ("unknown", lambda: store.add_outcome("p9", "pain", 3, at=AT)),
        ("unknown", lambda: store.session("s9")),
        ("unknown", lambda: store.delete_person("p9")),
        ("unknown", lambda: person_trend(store, "p9", AT.date())),
        ("taken", lambda: begin(store, "s1", "p2")),
    ):
        with pytest.raises(StoreError) as caught:
            tell()
        assert caught.value.kind == kind and "\n" not in str(caught.value)
    assert store.session("s1")["sessions"][0]["person_id"] == "p1"


# ---- opening and versions ----------------------------------------------------------------


def test_migrations_make_what_the_schema_says(store: Store) -> None:
    with store.reading() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_an_older_database_is_brought_here_with_its_rows(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store(database.url) as store:
        tell_all(store)
    folder = tmp_path / "migrations"
    shutil.copytree(opening_module.MIGRATIONS, folder)
    (folder / "versions" / "9999_more.py").write_text(
        "import sqlalchemy as sa\nfrom alembic import op\n"
        f"revision, down_revision = '9999', '{VERSION}'\n"
        "def upgrade():\n"
        "    with op.batch_alter_table('sessions') as table:\n"
        "        table.add_column(sa.Column('more', sa.Text()))\n"
    )
    monkeypatch.setattr(opening_module, "MIGRATIONS", folder)
    monkeypatch.setattr(opening_module, "VERSION", "9999")
    with Store(database.url) as store, store.reading() as connection:
        columns = [c["name"] for c in sa.inspect(connection).get_columns("sessions")]
        assert "more" in columns
        assert len(connection.execute(sa.text("SELECT * FROM levels")).all()) == 3
    monkeypatch.undo()
    with pytest.raises(StoreError, match=f"version 9999, known up to {VERSION}") as caught:
        Store(database.url)
    assert caught.value.kind == "newer" and not caught.value.temporary


def test_a_session_of_version_1_has_no_answers_of_its_own(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening_module, "VERSION", "0001")
    Store(database.url).close()
    monkeypatch.undo()
    engine = make_engine(opening_module.database_url(database.url), 1.0)
    old = "'p1','mat','2026-01-01','2026-01-01',1,'demo','1','REPORT','completed','','','0'"
    with engine.begin() as connection:
        connection.execute(sa.text("INSERT INTO persons (id, intake) VALUES ('p1', '{}')"))
        connection.execute(
            sa.text(
                "INSERT INTO sessions (id, person_id, mat, started, last_known, day, programme,"
                " programme_version, phase, state, cause, folder, software)"
                f" VALUES ('s1',{old})"
            )
        )
    engine.dispose()
    with Store(database.url) as store:
        (session,) = store.sessions("p1")
        assert session["intake"] is None and session["programme"] == "demo"


def test_tables_of_something_else_are_not_touched(database: Database) -> None:
    engine = make_engine(opening_module.database_url(database.url), 1.0)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE cats (name TEXT)"))
    engine.dispose()
    with pytest.raises(StoreError, match="cats") as caught:
        Store(database.url)
    assert caught.value.kind == "foreign"


def test_two_programs_may_open_an_empty_database_at_once(database: Database) -> None:
    code = f"from spinemat_session.record import Store; Store({database.url!r}).close()"
    both = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    assert [process.wait(PATIENCE) for process in both] == [0, 0]


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("mysql://u:secret@h/x", "url"),
        ("://", "url"),
        ("sqlite://", "url"),
        ("postgresql://u:secret@127.0.0.1:9/x", "lost"),
        ("postgresql://u:secret@127.0.0.1:notaport/x", "url"),
        ("/proc/none/record.db", "lost"),
    ],
)
def test_a_wrong_address_is_said_without_its_password(url: str, kind: str) -> None:
    with pytest.raises(StoreError) as caught:
        Store(url)
    assert caught.value.kind == kind
    assert "secret" not in str(caught.value) and "\n" not in str(caught.value)
    assert str(caught.value).endswith(KINDS[kind][1])


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "r.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(StoreError) as caught:
        Store(tmp_path / "r.db")
    assert caught.value.kind == "damaged"


def test_locked_and_read_only(database: Database) -> None:
    with Store(database.url, patience=0.2) as store:
        begin(store)
        if database.server:
            other: Any = psycopg.connect(database.url)
            other.execute("LOCK TABLE events")
        else:
            other = sqlite3.connect(database.file, isolation_level=None)
            other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError) as caught:
            store.add_event("s1", "x", "y", at=AT)
        assert caught.value.kind == "locked" and caught.value.temporary
        other.close()
        store.add_event("s1", "x", "y", at=AT)
        with store._engine.connect() as connection:  # the one connection of its pool
            connection.exec_driver_sql(
                "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"
                if database.server
                else "PRAGMA query_only=ON"
            )
            connection.commit()
        with pytest.raises(StoreError) as caught:
            store.add_event("s1", "x", "z", at=AT)
        assert caught.value.kind == "read_only"
        assert len(store.session("s1")["events"]) == 1


# ---- kills, full disks, lost databases ---------------------------------------------------

CHILD = """
import sys, time
from datetime import datetime
from spinemat_session.record import BackgroundWriter
writer = BackgroundWriter(sys.argv[1], sys.argv[2])
now = lambda: datetime.now().astimezone()
writer.begin_session("s1", "p1", {}, at=now(), programme="daily")
i = 0
while True:
    writer.add_event("s1", "tick", str(i), at=now())
    print(i, time.monotonic(), flush=True)
    i += 1
    time.sleep(0.003)
"""


def kill_a_writer(url: str, journals: Path, seconds: float) -> set[str]:
    """Run a writing process, kill it, and return the events told up to 1 s before."""
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, url, str(journals)], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        told = [child.stdout.readline()]
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            told.append(child.stdout.readline())
        killed = time.monotonic()
        child.kill()
    return {i for i, at in map(str.split, told) if float(at) < killed - 1.0}


@pytest.mark.parametrize("seconds", [1.3, 2.2])
def test_a_kill_costs_at_most_one_second(
    database: Database, tmp_path: Path, seconds: float
) -> None:
    journals = tmp_path / "sessions"
    told = kill_a_writer(database.url, journals, seconds + random.uniform(0.0, 0.1))
    assert told
    with Store(database.url) as store:
        broken = store.recover(journals)
        events = store.session("s1")["events"]
        assert told <= {row["text"] for row in events}
        assert [b.session_id for b in broken] == ["s1"]
        assert broken[0].last_known == max(row["at"] for row in events)
        session = store.session("s1")["sessions"][0]
        assert session["state"] == "broken_off" and session["ended"] == broken[0].last_known
        assert store.recover(journals) == []
    assert not list(journals.iterdir())


def test_a_kill_without_a_database_costs_at_most_one_second(
    server: LocalServer, tmp_path: Path
) -> None:
    database = Database("postgresql", tmp_path, server)
    server.stop()
    try:
        told = kill_a_writer(database.url, tmp_path / "journals", 1.3)
    finally:
        server.start()
    assert told
    with Store(database.url) as store:
        assert [b.session_id for b in store.recover(tmp_path / "journals")] == ["s1"]
        assert told <= {row["text"] for row in store.session("s1")["events"]}


def test_a_database_that_is_dropped_and_back_has_it_all(
    database: Database, tmp_path: Path
) -> None:
    with Store(database.url) as store:
        begin(store, "old", "p0")  # nothing keeps this one when its database is dropped
    writer = BackgroundWriter(database.url, tmp_path / "journals")
    begin(writer)
    writer.add_event("s1", "tick", "0", at=AT)
    assert writer.flush(PATIENCE) and not writer.trouble
    if database.server:
        database.server.stop()
        writer.add_event("s1", "tick", "1", at=AT)
        until(lambda: "no connection" in writer.trouble)
        assert not writer.flush(0.0) and writer.behind == 1
        database.server.start()
        assert writer.flush(PATIENCE) and not writer.trouble
    database.drop()
    writer.add_event("s1", "tick", "2", at=AT)
    if database.server:
        until(lambda: writer.trouble)
        database.create()
    writer.add_event("s1", "tick", "3", at=AT)
    assert writer.flush(PATIENCE)
    writer.end_session("s1", "completed", at=AT)
    assert writer.close(PATIENCE) and writer.lost == 0 and not writer.trouble
    with Store(database.url) as store:
        found = store.session("s1")
        ticks = {row["text"] for row in found["events"]}
        assert ticks == {"0", "2", "3"} | ({"1"} if database.server else set())
        assert found["sessions"][0]["state"] == "completed"
    assert not list((tmp_path / "journals").iterdir())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no small disk can be mounted here (needs root)")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_loses_nothing_and_is_used_again_when_there_is_room(
    small_disk: Path,
) -> None:
    store = Store(small_disk / "r.db")
    writer = BackgroundWriter(small_disk / "r.db", small_disk / "sessions")
    begin(writer)
    writer.add_event("s1", "tick", "0", at=AT)
    assert writer.flush(PATIENCE)
    filler = small_disk / "filler"
    with pytest.raises(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    with pytest.raises(StoreError) as caught:
        for i in range(100):
            store.add_event("s1", "direct", "x" * 50_000 + str(i), at=AT)
    assert caught.value.kind == "full" and caught.value.temporary
    kept = [row for row in store.session("s1")["events"] if row["kind"] == "direct"]
    assert len(kept) == i
    for k in range(1, 200):
        writer.add_event("s1", "tick", str(k), at=AT)
    until(lambda: "journal" in writer.trouble and "disk" in writer.trouble)
    assert writer.lost == 0 and not writer.flush(0.0)
    filler.unlink()
    assert writer.flush(PATIENCE)
    until(lambda: not writer.trouble)
    ticks = {row["text"] for row in store.session("s1")["events"] if row["kind"] == "tick"}
    assert ticks == {str(k) for k in range(200)}
    writer.end_session("s1", "aborted", at=AT, cause="the disk")
    assert writer.close(PATIENCE)
    assert not list((small_disk / "sessions").iterdir())
    store.close()


def test_a_file_that_may_not_grow_is_a_full_disk(tmp_path: Path) -> None:
    with Store(tmp_path / "r.db") as store:
        begin(store)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, hard))
        try:
            with pytest.raises(StoreError) as caught:
                for i in range(100):
                    store.add_event("s1", "x", "x" * 50_000 + str(i), at=AT)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert caught.value.kind == "full"
        store.add_event("s1", "x", "and on", at=AT)
        assert len(store.session("s1")["events"]) == i + 1


def test_the_writer_counts_what_nobody_can_keep(tmp_path: Path) -> None:
    with Store(tmp_path / "r.db") as store:
        begin(store)
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    writer = BackgroundWriter("postgresql://x@127.0.0.1:9/x", blocked / "journals", capacity=3)
    for i in range(5):
        writer.add_event("s1", "x", str(i), at=AT)
    assert writer.lost == 2 and writer.behind == 3
    assert not writer.close(0.2)
    writer = BackgroundWriter(tmp_path / "r.db", blocked / "journals")
    writer.add_event("s1", "x", "good", at=AT)
    writer.add_event("s9", "x", "of no session", at=AT)
    writer.add_event("s1", "x", "good, too", at=AT)
    assert writer.close(PATIENCE) and writer.lost == 1
    with Store(tmp_path / "r.db") as store:
        assert {row["text"] for row in store.session("s1")["events"]} == {"good", "good, too"}


def test_recovery_leaves_other_mats_alone_and_puts_unreadable_journals_aside(
    database: Database, tmp_path: Path
) -> None:
    with Store(database.url) as store, Store(database.url, mat="next door") as other:
        begin(store)
        begin(other, "s2")
        cut = journal_path(tmp_path, "s1")
        writer = BackgroundWriter("postgresql://x@127.0.0.1:9/x", tmp_path)
        writer.add_event("s1", "x", "kept", at=AT)
        writer.add_event("s1", "x", "kept, too", at=AT)
        until(lambda: cut.exists() and len(read_notes(cut)[0]) == 2)
        writer.close(0.0)
        with cut.open("a") as file:
            file.write('["s1", {"ut')  # cut off
        lines = cut.read_text().splitlines(keepends=True)
        damaged = [lines[0], "\0\0\0\n", *lines[1:]]
        journal_path(tmp_path, "odd").write_text("".join(damaged))
        cut.unlink()
        assert [b.session_id for b in store.recover(tmp_path)] == ["s1"]
        (trouble,) = store.troubles
        assert "odd" in trouble and "line 2 is not a note" in trouble
        assert len(store.session("s1")["events"]) == 2
        assert store.session("s2")["sessions"][0]["state"] == "running"
    assert [path.name for path in tmp_path.glob("*.jsonl*")] == ["odd.record.jsonl.unreadable"]


def test_two_mats_share_a_folder_and_a_database(tmp_path: Path) -> None:
    writer = BackgroundWriter(tmp_path / "r.db", tmp_path, mat="next_door")
    begin(writer, "s1")
    assert writer.flush(PATIENCE)
    live = journal_path(tmp_path, "s1")
    said = live.read_bytes()
    with Store(tmp_path / "r.db", mat="mat") as store:
        assert store.recover(tmp_path) == [] and live.read_bytes() == said
        assert store.session("s1")["sessions"][0]["state"] == "running"
        writer.end_session("s1", "completed", at=AT)
        assert writer.close(PATIENCE)
        assert store.session("s1")["sessions"][0]["state"] == "completed"
    names = [new_folder(str(tmp_path), "20300107-080000-p1").name for _ in range(3)]
    assert names == [f"20300107-080000-p1{end}" for end in ("", "-2", "-3")]


def test_a_journal_that_cannot_be_written_whole_is_not_written_at_all(tmp_path: Path) -> None:
    notes = read_back(tmp_path)
    path = tmp_path / "j.jsonl"
    append_notes(path, notes)
    assert read_notes(path) == (notes, "")
    size = path.stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, hard))
    try:
        with pytest.raises(OSError):
            append_notes(path, notes)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.stat().st_size == size and read_notes(path) == (notes, "")


def read_back(folder: Path) -> list[Any]:
    writer = BackgroundWriter("postgresql://x@127.0.0.1:9/x", folder / "journals")
    tell_all(writer)
    path = journal_path(folder / "journals", "s1")
    until(lambda: path.exists() and len(read_notes(path)[0]) >= 12)
    writer.close(0.0)
    return read_notes(path)[0]


# ---- deleting ----------------------------------------------------------------------------


def test_deleting_a_person_is_for_good(database: Database, tmp_path: Path) -> None:
    folder, foreign = tmp_path / "s-ZEBRA-1", tmp_path / "precious"
    journals = tmp_path / "journals"
    for path in (folder, foreign, journals):
        path.mkdir()
    journal_path(journals, "s-ZEBRA-1").write_text("")
    (journals / "s-ZEBRA-9.record.jsonl.unreadable").write_text('["s", "ZEBRA-77"')
    with Store(database.url) as store:
        tell_all(store)
        begin(store, "s-ZEBRA-1", "ZEBRA-77", folder=str(folder))
        with pytest.raises(InvalidInput, match="after s-ZEBRA-1 has ended"):
            store.delete_person("ZEBRA-77")
        store.end_session("s-ZEBRA-1", "completed", at=AT)
        begin(store, "s-ZEBRA-2", "ZEBRA-77", folder=str(foreign))
        store.end_session("s-ZEBRA-2", "completed", at=AT)
        for i in range(300):
            store.add_outcome("ZEBRA-77", "note", at=AT, text=f"ZEBRA likes {i}")
        assert b"ZEBRA" in database.bytes()
        left = store.delete_person("ZEBRA-77", journals=journals, folders=True)
        assert left == [foreign]  # does not bear the session's name
        assert b"ZEBRA" not in database.bytes()
        assert not folder.exists() and not list(journals.iterdir())
        assert len(store.session("s1")["outcomes"]) == 2
        with store.reading() as connection:
            for table in Base.metadata.tables.values():
                key = "person_id" if "person_id" in table.c else "session_id"
                for value in connection.execute(sa.select(table.c.get(key, table.c[0]))).scalars():
                    assert "ZEBRA" not in str(value)


def test_deleted_bytes_that_a_reader_holds_are_told(tmp_path: Path) -> None:
    with Store(tmp_path / "r.db", patience=0.2) as store:
        tell_all(store)
        with store.reading() as connection:
            connection.execute(sa.text("SELECT * FROM persons")).all()
            with pytest.raises(StoreError) as caught:
                store.delete_person("p1")
            assert caught.value.kind == "locked"
        store.overwrite_deleted()
        assert b"tying shoes" not in b"".join(p.read_bytes() for p in tmp_path.glob("r.db*"))


# ---- trends ------------------------------------------------------------------------------


def course(store: Store, person: str, levels: list[float], **more: Any) -> None:
    """One session a week with these values of L4."""
    for week, value in enumerate(levels):
        at = AT + timedelta(weeks=week)
        name = begin(store, f"{person}-{week}", person, at=at, **more)
        measured = [
            MeasuredLevel("L4", value, 300.0, 832.0, True),
            MeasuredLevel("L3", 12e3 + week, 300.0, 832.0, True),
            MeasuredLevel("T1", 9e3, 300.0, 832.0, week == 0),
        ]
        store.add_levels(name, "before", measured, at=at)
        store.add_contour(
            name,
            "before",
            at=at,
            kyphosis=0.6,
            lordosis=0.5,
            asymmetry=0.001 * week,
            evenness=0.9,
            evenness_error=0.02,
        )
        store.add_outcome(person, "pain", 6 - week, at=at, session_id=name, moment="before")
        store.add_outcome(person, "pain", 0, at=at, session_id=name, moment="after")
        store.add_outcome(person, "sleep", 5, at=at + timedelta(days=1))
        store.add_comfort(name, "L4", 2.0, at=at)
        store.end_session(name, "completed", at=at)


def test_a_person_over_weeks(store: Store) -> None:
    course(store, "p1", [12e3, 11.5e3, 10e3])
    trend = person_trend(store, "p1", AT.date() + timedelta(days=20))
    found = {t.level: t for t in trend.stiffness}
    assert [t.level for t in trend.stiffness] == ["L4", "L3", "T1"]
    assert found["L4"].change == pytest.approx(-2e3) and found["L4"].verdict == "softer"
    assert found["L4"].mdc == pytest.approx(1.96 * np.sqrt(2) * 300.0)
    assert found["L3"].change == pytest.approx(2.0) and found["L3"].verdict == NO_CHANGE
    assert found["T1"].verdict == "not measured twice"
    assert [w.value for w in trend.measures["pain"]] == [6.0, 5.0, 4.0]
    assert [(w.week, w.n) for w in trend.measures["sleep"]] == [(0, 1), (1, 1), (2, 1)]
    assert trend.measures["comfort"][0].value == 2.0
    assert [w.value for w in trend.measures["kyphosis_rad"]] == [0.6, 0.6, 0.6]
    assert [w.value for w in trend.measures["lordosis_rad"]] == [0.5, 0.5, 0.5]
    assert [w.value for w in trend.measures["asymmetry_m"]] == [0.0, 0.001, 0.002]
    assert trend.first_day == AT.date() and trend.sessions == {"completed": 3}
    assert (trend.consistency.days_used, trend.consistency.days) == (3, 21)
    assert [w.value for w in trend.measures["days_used"]] == [1.0, 1.0, 1.0]
    assert trend.consistency.share == pytest.approx(1 / 7)
    assert trend.hands == () and trend.notes == ()


def test_what_hands_felt_stands_beside_what_the_mat_measured_that_day(store: Store) -> None:
    course(store, "p1", [12e3, 11e3])
    for day, level in ((7, "L4"), (7, "T9"), (9, "L4")):
        at = AT + timedelta(days=day)
        store.add_outcome("p1", "felt", 8, at=at, item=level, text="tight")
    store.add_outcome("p1", "note", at=AT, text="came by bicycle")
    trend = person_trend(store, "p1", AT.date())
    assert trend.notes == ((AT.date(), "came by bicycle"),)
    assert [(h.level, h.felt, h.text) for h in trend.hands] == [
        ("L4", 8.0, "tight"), ("T9", 8.0, "tight"), ("L4", 8.0, "tight"),
    ]  # fmt: skip
    assert [h.measured for h in trend.hands] == pytest.approx([11e3, np.nan, np.nan], nan_ok=True)
    assert trend.hands[0].error == 300.0


def test_people_and_their_groups(store: Store) -> None:
    course(store, "p1", [12e3, 11e3], group="works")
    store.put_person("p2", {}, at=AT)
    store.set_group("p2", "works")
    first, last = AT.date(), AT.date() + timedelta(days=7)
    assert store.persons() == [
        ("p1", "works", 2, 2, first, last), ("p2", "works", 0, 0, None, None),
    ]  # fmt: skip
    with pytest.raises(StoreError, match="person nobody"):
        store.set_group("nobody", "works")


def test_scatter_within_a_week_widens_the_detectable_change(store: Store) -> None:
    for day, value in enumerate([10e3, 14e3, 11e3, 13e3]):
        at = AT + timedelta(days=day)
        name = begin(store, f"s{day}", at=at)
        store.add_levels(name, "before", [MeasuredLevel("L4", value, 100, 277, True)], at=at)
    week = person_trend(store, "p1", AT.date()).stiffness[0].weeks[0]
    assert week.value == 12e3 and week.n == 4
    assert week.error == pytest.approx(np.std([10e3, 14e3, 11e3, 13e3], ddof=1) / 2.0)


def test_a_change_at_the_limit_is_none() -> None:
    weeks = [Week(0, 10e3, 300.0, 1), Week(1, 10e3 + 1.96 * np.hypot(300, 400), 400.0, 1)]
    assert level_trend("L4", weeks).verdict == NO_CHANGE
    assert level_trend("L4", [weeks[0], weeks[1]._replace(value=10_981.0)]).verdict == "stiffer"
    blind = [weeks[0], weeks[1]._replace(value=20e3, error=float("nan"))]
    assert level_trend("L4", blind).verdict == "not judged"


def test_a_group_shows_no_one_of_its_people(store: Store) -> None:
    for i in range(4):
        course(store, f"p{i}", [12e3, 11e3], group="works")
    with pytest.raises(InvalidInput, match="5 people or more"):
        group_trend(store, "works", AT.date())
    course(store, "p4", [12e3], group="works")
    course(store, "p5", [9e3], group="elsewhere")
    trend = group_trend(store, "works", AT.date() + timedelta(days=9))
    assert trend.people == 5
    assert trend.measures["pain"] == (Week(0, 6.0, 0.0, 5),)  # in week 1 there were only four
    assert trend.measures["days_used"] == (Week(0, 1.0, 0.0, 5),)
    assert trend.measures["trunk_stiffness_ratio"][0].n == 5
    assert trend.consistency == pytest.approx((4 * 0.2 + 0.1) / 5)
    assert "p4" not in repr(trend)


# ---- export ------------------------------------------------------------------------------


def load(folder: Path, kind: str, table: str) -> list[dict[str, Any]]:
    path = folder / f"{table}.{kind}"
    if kind == "json":
        rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        return rows
    read = pyarrow.csv.read_csv if kind == "csv" else pyarrow.parquet.read_table
    return list(read(path).to_pylist())


@pytest.mark.parametrize("kind", FORMATS)
def test_an_export_holds_what_the_record_holds(store: Store, tmp_path: Path, kind: str) -> None:
    tell_all(store)
    begin(store, "s2", seed=7)
    files = export(store, tmp_path / "out", kind)
    assert {path.stem for path in files} == set(Base.metadata.tables)
    with store.reading() as connection:
        for name, table in Base.metadata.tables.items():
            there = load(tmp_path / "out", kind, name)
            rows = connection.execute(sa.select(table).order_by(*table.primary_key)).mappings()
            wanted = [dict(row) for row in rows]
            assert len(there) == len(wanted)
            for got, want in zip(there, wanted, strict=True):
                for key, value in got.items():
                    expected = want[key]
                    if isinstance(expected, datetime) and kind == "json":
                        value = datetime.fromisoformat(value)
                    if isinstance(expected, dict) and kind != "json":
                        value = json.loads(value)
                    assert value == expected or (kind == "csv" and value in (None, "")), key
    with pytest.raises(InvalidInput, match="empty folder"):
        export(store, tmp_path / "out", kind)


@pytest.mark.parametrize("kind", FORMATS)
def test_an_anonymised_export_knows_nobody(store: Store, tmp_path: Path, kind: str) -> None:
    tell_all(store)
    begin(store, "s2", at=AT + timedelta(days=3), folder="/sessions/s2", group="works")
    begin(store, "t1", "p2", group="works")
    key = b"of one study"
    for name in ("a", "b"):
        export(store, tmp_path / name, kind, anonymous=True, key=key)
    sessions, again = (load(tmp_path / name, kind, "sessions") for name in ("a", "b"))
    assert sessions == again
    people = load(tmp_path / "a", kind, "persons")
    assert {row["person_id"] for row in sessions} == {row["id"] for row in people}
    assert len({row["group_name"] for row in people}) == 1
    by_person: dict[str, list[Any]] = {}
    for row in sessions:
        by_person.setdefault(row["person_id"], []).append(row)
    pair = next(rows for rows in by_person.values() if len(rows) == 2)
    assert abs(pair[0]["day"] - pair[1]["day"]) == 3
    assert pair[0]["day"] not in {AT.date().toordinal() + d for d in (0, 3)}
    times = [t if isinstance(t, datetime) else datetime.fromisoformat(t) for t in
             (row["started"] for row in pair)]  # fmt: skip
    assert abs(times[0] - times[1]) == timedelta(days=3)
    assert {row["session_id"] for row in load(tmp_path / "a", kind, "levels")} <= {
        row["id"] for row in sessions
    }
    whole = b"".join(path.read_bytes() for path in (tmp_path / "a").iterdir())
    for word in (
        "p1",
        "works",
        "tying",
        "osteoporosis",
        "/sessions",
        "clinician-3",
        "tea",
        "board",
        "bicycle",
        "2030-01-07",
    ):
        assert not re.search(rf"\b{re.escape(word)}\b".encode(), whole), word
    items = {row["item"] or "" for row in load(tmp_path / "a", kind, "outcomes")}
    assert "L4" in items and any(item.startswith("words-") for item in items)
    assert not (tmp_path / "a" / f"plans.{kind}").exists()


def test_an_anonymised_export_keeps_answers_from_closed_lists_alone(
    tmp_path: Path,
) -> None:
    person = load_person(PERSONS / "degeneration_45.yaml")
    answers = to_mapping(person)
    with Store(tmp_path / "r.db") as store:
        store.begin_session("s1", person.id, answers, at=AT, programme="daily")
        store.add_outcome(person.id, "function", 4, at=AT, item="golf")
        store.add_event("s1", "smith", "free words", at=AT)
        export(store, tmp_path / "out", "json", anonymous=True)
    whole = "".join(path.read_text() for path in (tmp_path / "out").iterdir())
    assert person.id not in whole and "golf" not in whole and "smith" not in whole
    kept = {key: value for key, value in answers.items() if key != "id"}
    for table in ("persons", "sessions"):
        (row,) = load(tmp_path / "out", "json", table)
        assert row["intake"] == json.loads(json.dumps(kept))


def test_a_trial_is_blind_until_it_is_unsealed(store: Store, tmp_path: Path) -> None:
    tell_all(store, "s1", "p1")
    arm = store.enrol("p1", "trial", 3)
    tell_all(store, "s2", "p1", sham=True, allocation=arm)
    for name, unsealed in (("sealed", False), ("unsealed", True)):
        export(store, tmp_path / name, "json", unsealed=unsealed)
        sessions = {row["id"]: row for row in load(tmp_path / name, "json", "sessions")}
        assert sessions["s1"]["programme"] == "daily" and sessions["s1"]["sham"] is False
        hidden = {key: sessions["s2"][key] for key in ("sham", "allocation", "programme")}
        assert hidden == ({"sham": True, "allocation": arm, "programme": "daily"} if unsealed
                          else dict.fromkeys(hidden))  # fmt: skip
        for table in ("doses", "plans"):
            told = {row["session_id"] for row in load(tmp_path / name, "json", table)}
            assert told == ({"s1", "s2"} if unsealed else {"s1"})


# ---- trials ------------------------------------------------------------------------------


def test_people_are_enrolled_in_order_and_once(store: Store) -> None:
    for i in range(6):
        store.put_person(f"p{i}", {}, at=AT)
    arms = [store.enrol(f"p{i}", "trial", 42) for i in range(6)]
    assert arms == [allocate(42, i) for i in range(6)]
    assert store.enrol("p3", "trial", 42) == arms[3]
    store.put_person("p6", {}, at=AT)
    for person in ("p3", "p6"):
        with pytest.raises(InvalidInput, match=r"seed: 43 .* the one with which the trial trial"):
            store.enrol(person, "trial", 43)
    assert store.enrol("p6", "another", 43) == allocate(43, 0)
    with pytest.raises(InvalidInput, match="in which this person is"):
        store.enrol("p3", "another", 42)
    with pytest.raises(StoreError, match="person p9"):
        store.enrol("p9", "trial", 42)


def test_deleting_people_frees_no_number_and_forgets_no_seed(store: Store) -> None:
    for i in range(4):
        store.put_person(f"p{i}", {}, at=AT)
    arms = [store.enrol(f"p{i}", "trial", 42) for i in range(2)]
    for person in ("p1", "p0"):
        store.delete_person(person)
    with pytest.raises(InvalidInput, match="the one with which the trial trial began"):
        store.enrol("p2", "trial", 43)
    arms += [store.enrol(f"p{i}", "trial", 42) for i in (2, 3)]
    assert arms == [allocate(42, i) for i in range(4)]


def test_a_trial_of_version_3_goes_on_where_it_was(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store(database.url) as store:
        store.put_person("p0", {}, at=AT)
        store.enrol("p0", "trial", 42)
        with store.reading() as connection:
            check = connection.execute(sa.text("SELECT seed_check FROM studies")).scalar()
    fresh = Database("old", database.folder / "old", database.server)
    fresh.folder.mkdir()
    monkeypatch.setattr(opening_module, "VERSION", "0003")
    Store(fresh.url).close()
    monkeypatch.undo()
    engine = make_engine(opening_module.database_url(fresh.url), 1.0)
    rows = [("p0", "trial", 0, None), ("p4", "trial", 4, check), ("p5", None, None, None)]
    with engine.begin() as connection:
        for row in rows:
            connection.execute(
                sa.text("INSERT INTO persons VALUES (:i, NULL, :s, :n, '{}', :c)"),
                dict(zip("isnc", row, strict=True)),
            )
    engine.dispose()
    with Store(fresh.url) as store:
        with pytest.raises(InvalidInput, match="the one with which the trial trial began"):
            store.enrol("p5", "trial", 43)
        assert store.enrol("p5", "trial", 42) == allocate(42, 5)
        assert store.enrol("p4", "trial", 42) == allocate(42, 4)


def test_who_is_excluded_gets_no_arm_and_their_screening_is_kept(tmp_path: Path) -> None:
    url = str(tmp_path / "trial.db")
    pregnant = HEALTHY | {"id": "q1", "conditions": [{"name": "pregnancy", "levels": []}]}
    goal = RunSession.Goal(programme="daily_10", person=yaml.safe_dump(pregnant))
    with pytest.raises(ClickException, match="screening: 'excluded"):
        into_trial(goal, ("back", 11), url)
    assert not goal.allocation
    goal = RunSession.Goal(programme="daily_10", person=yaml.safe_dump(HEALTHY))
    into_trial(goal, ("back", 11), url)
    assert goal.allocation == allocate(11, 0), "the first number is still there"
    with Store(url) as store, store.reading() as connection:
        (kept,) = connection.execute(sa.select(Base.metadata.tables["screenings"])).mappings()
    assert kept["verdict"] == "excluded" and "no session is possible" in kept["reasons"]


def test_a_trial_from_enrolment_to_unsealing(tmp_path: Path) -> None:
    url = str(tmp_path / "trial.db")
    record = (PERSONS / "athlete_25.yaml").read_text()
    given = {}
    for i in range(12):
        person = re.sub(r"(?m)^id: .*", f"id: q{i}", record)
        for visit in range(2):  # the second time they are in already
            goal = RunSession.Goal(programme="daily_10", person=person)
            into_trial(goal, ("back", 11), url)
            assert goal.allocation == allocate(11, i)
            assert goal.programme == "daily_10", "nothing but the allocation tells the arm"
            given[f"q{i}-{visit}"] = goal.allocation
            with Store(url) as store:
                store.begin_session(
                    f"q{i}-{visit}", f"q{i}", {}, at=AT, programme=goal.programme,
                    sham=goal.allocation == "sham", allocation=goal.allocation,
                )  # fmt: skip
                store.end_session(f"q{i}-{visit}", "completed", at=AT)
        with pytest.raises(ClickException, match="the one with which the trial back began"):
            into_trial(goal, ("back", 12), url)
    assert abs(sum({"active": 1, "sham": -1}[arm] for arm in given.values())) <= 6
    status, listed = spinemat("record", "list", "--person", "q0", "--database", url)
    assert status == 0 and "(trial)" in listed
    with Store(url) as store:
        for name, unsealed in (("sealed", False), ("unsealed", True)):
            export(store, tmp_path / name, "json", unsealed=unsealed)
    sealed = "".join(path.read_text() for path in (tmp_path / "sealed").iterdir())
    assert not any(word in sealed for word in ("daily_10", "active", '"sham": true', "seed_check"))
    told = {
        row["id"]: row["allocation"] for row in load(tmp_path / "unsealed", "json", "sessions")
    }
    assert told == given


def test_allocation_is_balanced_repeatable_and_hard_to_guess() -> None:
    arms = [allocate(1, i) for i in range(600)]
    excess = np.cumsum([1 if arm == "active" else -1 for arm in arms])
    assert np.abs(excess).max() <= 3 and abs(excess[-1]) <= 3
    assert [allocate(1, i) for i in (599, 0)] == [arms[599], arms[0]]
    assert [allocate(2, i) for i in range(600)] != arms
    assert {allocate(1, i, ("a", "b", "c")) for i in range(12)} == {"a", "b", "c"}
    for block in ({arms[i : i + 4].count("active") for i in range(0, 400, 4)},):
        assert len(block) > 1  # blocks of one size would all hold two
    twice = [allocate(5, i, ("active", "active", "sham"), (1,)) for i in range(300)]
    assert twice.count("active") == 200


@pytest.mark.parametrize(
    ("number", "arms", "blocks"),
    [(-1, "ab", (1,)), (10**9, "ab", (1,)), (0, "a", (1,)), (0, "ab", ()), (0, "ab", (0,))],
)
def test_an_allocation_that_makes_no_sense_is_refused(
    number: int, arms: str, blocks: tuple[int, ...]
) -> None:
    with pytest.raises(InvalidInput):
        allocate(1, number, arms, blocks)


# ---- the rest ----------------------------------------------------------------------------


def test_the_bench_runs(database: Database) -> None:
    outcome = record_bench(600, database.url)
    assert outcome.details["record"]["sessions"] == 564
    assert {"course report", "session report"} <= {
        check.name.removeprefix("record: ").split(",")[0] for check in outcome.checks
    }


def test_the_documentation_has_every_table_and_column() -> None:
    text = (REPOSITORY / "docs" / "record.md").read_text(encoding="utf-8")
    for name, table in Base.metadata.tables.items():
        section = re.search(rf"^### {name}\n(.*?)(?=^##|\Z)", text, re.M | re.S)
        assert section, name
        rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \|", section.group(1), re.M)
        wanted = [(c.name, _kind(c)) for c in table.c]
        assert [(column, kind.strip()) for column, kind in rows] == wanted, name


def _kind(column: sa.Column[Any]) -> str:
    kind = type(column.type).__name__.lower()
    words = {"biginteger": "integer", "double": "number", "utc": "time", "json": "JSON"}
    words |= {"boolean": "yes or no"}
    return words.get(kind, kind) + (" or null" if column.nullable else "")


def until(condition: Callable[[], Any]) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.01)
