"""`spinemat evaluate record`: sessions lose their process, their disk or their database.

Each trial begins a session on a simulated mat, with the real nodes, and breaks it at a random
moment: the session's process is killed; or its disk is full, or its database is dropped, some
seconds before it is killed. All the time the person reports how it feels, so that the record gets
something to keep four times a second. Judged are

- the release of the fingers, by the simulator's truth,
- the record as the next start has put it in order: whatever the mat had said it heard (its events)
  up to one second of drive time before the break, in the same order, and nothing else,
- that the next start says which session broke off.

What comes while the disk is full waits in memory and is lost with the process, so there the break
is the moment from which the disk is full; a dropped database comes back from the journal.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from spinemat.back_model import UP
from spinemat_bringup.campaign.fault import RELEASE_LIMIT
from spinemat_bringup.client import NoAnswer
from spinemat_bringup.graph import GraphOptions, NodeSpec, describe, share
from spinemat_bringup.outcome import Outcome
from spinemat_bringup.rig import DOWN, FREE, WALL_LIMIT, Disturbed, Rig, mat
from spinemat_interfaces.action import RunSession
from spinemat_interfaces.msg import ComfortReport, Event, SessionState
from spinemat_ros.codec import nanoseconds
from spinemat_session.keeping import FILE
from spinemat_session.record import Store, StoreError
from spinemat_session.record.server import LocalServer, NoServer
from spinemat_sim.population import find_patient

NODE = "session_orchestrator"
KINDS = ("killed", "disk full, then killed", "database dropped, then killed")
LATEST = 1.0  # s of drive time, at most lost
SPAN = (0.5, 110.0)  # s of drive time from the begin of a session to its break
LATER = 4.0  # s at most from the loss of disk or database to the kill
TELL = 0.25  # s between two reports of the person
DISK = "32m"  # size of the disk that gets full
TRIES = 3  # a busy machine may stop the mat before the break
PAINS = 4  # 0 to 3: reports that change nothing


@dataclass
class Broken:
    """What one trial showed.

    Attributes:
        moment: from the begin of the session to the break, s.
        release: from the kill to all fingers under 1 N, s.
        told: reports that the mat had said it heard when it was broken.
        kept: of them, in the record after the next start.
        behind: from the last thing kept to the break, s; NaN: nothing was told.
    """

    kind: str
    database: str
    moment: float
    phase: str = ""
    release: float = np.nan
    told: int = 0
    kept: int = 0
    behind: float = np.nan
    wall_seconds: float = 0.0
    failed: tuple[str, ...] = ()
    begun_again: tuple[str, ...] = ()


class _Database:
    """The database of the sessions, to be taken away and brought back."""

    def __init__(self, folder: Path, server: LocalServer | None) -> None:
        self._file, self._server, self._name = folder / FILE, server, f"record_{os.getpid()}"
        self.kind = "sqlite" if server is None else "postgresql"
        self.url = str(self._file) if server is None else server.create(self._name)

    def drop(self) -> None:
        if self._server is not None:
            self._server.drop(self._name)
            return
        for path in self._file.parent.glob(f"{FILE}*"):
            path.unlink()

    def create(self) -> None:
        if self._server is not None:
            self._server.create(self._name)


class _Disk:
    """A small disk of its own for the sessions; it needs the right to mount."""

    def __init__(self, folder: Path) -> None:
        self._filler = folder / "filler"

    def fill(self) -> None:
        with self._filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            for size in (1 << 16, 1):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(bytes(size))

    def free(self) -> None:
        self._filler.unlink(missing_ok=True)


@contextlib.contextmanager
def _disk(folder: Path) -> Iterator[_Disk]:
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK},mode=755", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        why = (getattr(error, "stderr", "") or str(error)).strip()
        raise NoAnswer(
            f"a small disk to fill needs the right to mount one (root): {why}"
        ) from None
    try:
        yield _Disk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=False)


class _Trials(Rig):
    """A mat whose sessions are broken."""

    def begin(self, disk: _Disk, database: _Database, who: dict[str, Any]) -> None:
        """Say what it stands on and who lies there."""
        self._disk, self._database, self._who = disk, database, who
        self._comfort = self.client.publisher("comfort")
        self.client.wait(
            lambda: self._comfort.get_subscription_count() > 0, WALL_LIMIT, "listener of comfort"
        )

    def run(self, kind: str, moment: float, later: float, back: bool) -> Broken:
        """Break one session.

        Args:
            kind: one of KINDS.
            moment: from its begin to the break, s.
            later: from there to the kill, s, where the break is not the kill itself.
            back: whether a dropped database is there again before the kill.
        """
        result = Broken(kind, self._database.kind, moment)
        began_wall = time.monotonic()
        self._known = len(self.client.events)
        self._reports = 0
        session = self._start()
        self._begin = begin = self.cycle
        self._tell_until(begin + round(moment / self.layout.cycle))
        cut = self.cycle
        if kind != KINDS[0]:
            if kind == KINDS[1]:
                self._disk.fill()
            else:
                self._database.drop()
                if back:
                    self._database.create()
            self._tell_until(cut + round(later / self.layout.cycle))
        # a session that falls silent is noticed by the clock: in lock-step, drive time runs ahead
        self.set("mat_simulator", "real_time", True)
        del self.truth[:-1]
        killed = self.cycle
        result.phase = self._phase_name()
        self.processes.kill(NODE)
        if kind != KINDS[1]:
            cut = killed
        self.client.wait(self.stopped, WALL_LIMIT, "STOPPED")
        self.released()
        failed = self._judge_release(result, killed)
        self.set("mat_simulator", "real_time", False)
        told = self._heard()
        self._disk.free()
        if kind == KINDS[2] and not back:
            self._database.create()
        known = len(self.client.events)
        self.restart(NODE)
        self.client.wait(
            lambda: any(e.kind == "broken_off" for e in self.client.events[known:]),
            WALL_LIMIT,
            "word of what broke off",
        )
        said = [e.text for e in self.client.events[known:] if e.kind == "broken_off"]
        if not any(session in text and "broken off in" in text for text in said):
            failed.append(f"the next start said: {'; '.join(said)}")
        failed += self._judge_record(result, session, told, cut * self.layout.cycle)
        result.failed = tuple(failed)
        result.wall_seconds = time.monotonic() - began_wall
        return result

    def _start(self) -> str:
        who = f"p{self.cycle}"  # somebody new: the ledger lets nobody come three times a day
        goal = RunSession.Goal(**self._who, person_id=who, programme="demo")
        self._sent = self.client.send(RunSession, "run_session", goal)
        before = self.client.session.session_id if self.client.session else ""

        def begun() -> bool:
            s = self.client.session
            return s is not None and s.phase != SessionState.IDLE and s.session_id != before

        try:
            self.until(self._sent, begun)
        except Disturbed as error:
            raise Disturbed(f"it did not begin: {error}") from error
        assert self.client.session is not None
        return str(self.client.session.session_id)

    def _phase_name(self) -> str:
        said = [e.text for e in self._said("phase")]
        return said[-1].split(":")[0] if said else ""

    def _said(self, kind: str) -> list[Event]:
        return [e for e in self.client.events[self._known :] if e.kind == kind]

    def _tell_until(self, cycle: int) -> None:
        """Report something every `TELL` seconds until then."""
        while self.cycle < cycle:
            end = min(cycle, self.cycle + round(TELL / self.layout.cycle))
            try:
                self.until(self._sent, lambda end=end: self.cycle >= end)  # type: ignore[misc]
            except Disturbed as error:
                after = (self.cycle - self._begin) * self.layout.cycle
                words = f"it ended after {after:.1f} s in {self._phase_name()}: {error}"
                raise Disturbed(words) from error
            number, self._reports = self._reports, self._reports + 1
            place, pain = UP[number % len(UP)], number // len(UP) % PAINS
            self._comfort.publish(ComfortReport(place=place, pain=pain))

    def _heard(self) -> list[tuple[float, str, float]]:
        """Reports that the session said it heard: drive time, s, place, pain."""
        found = []
        for event in self._said("comfort"):
            data = json.loads(event.data)
            found.append((1e-9 * nanoseconds(event.header.stamp), data["place"], data["pain"]))
        return found

    def _judge_release(self, result: Broken, killed: int) -> list[str]:
        loaded = [m.cycle for m in self.truth if max(m.force) >= FREE and m.cycle > killed]
        result.release = (max(loaded, default=killed - 1) + 1 - killed) * self.layout.cycle
        failed = []
        if result.release > RELEASE_LIMIT:
            failed.append(f"release after {result.release:.3f} s; allowed: {RELEASE_LIMIT:g} s")
        if max(self.truth[-1].position) > DOWN:
            failed.append("a tip is up after the release")
        return failed

    def _judge_record(
        self, result: Broken, session: str, told: list[tuple[float, str, float]], cut: float
    ) -> list[str]:
        """Compare the record with what was said; `cut`: drive time of the break, s."""
        try:
            with Store(self._database.url) as store:
                found = store.session(session)
        except StoreError as error:
            return [str(error)]
        failed = []
        kept = [(row["place"], row["value"]) for row in found["comforts"]]
        said = [(place, pain) for _, place, pain in told]
        result.told, result.kept = len(said), len(kept)
        if kept[: len(said)] != said[: len(kept)]:
            failed.append("the record has other reports than were told")
        owed = sum(at <= cut - LATEST for at, _, _ in told)
        if len(kept) < owed:
            failed.append(f"{owed - len(kept)} reports older than {LATEST:g} s are missing")
        if told and kept:
            result.behind = max(0.0, cut - told[min(len(kept), len(told)) - 1][0])
        phases = {
            e.text.split(":")[0]
            for e in self._said("phase")
            if 1e-9 * nanoseconds(e.header.stamp) <= cut - LATEST
        }
        if "PLAN" in phases and not found["levels"]:
            failed.append("the first scan is missing")
        if "TREAT" in phases and not found["plans"]:
            failed.append("the plan is missing")
        row = found["sessions"][0]
        if row["state"] != "broken_off":
            failed.append(f"the session counts as {row['state']}")
        return failed


def _nodes(seed: int, folder: Path, url: str) -> list[NodeSpec]:
    options = GraphOptions(
        share("config", "mat.yaml"), seed=seed, answer_wait=0.5,
        sessions_dir=folder / "sessions", state_dir=folder,
    )  # fmt: skip
    others: dict[str, dict[str, Any]] = {
        "mat_simulator": {"stiffness_truth": False},
        NODE: {"database": url},
    }
    return [  # without the recorder: bags are no part of this
        replace(spec, parameters=dict(spec.parameters) | others.get(spec.name, {}))
        for spec in describe(options)
        if spec.name != "recorder"
    ]


def _group(
    count: int,
    seed: int,
    server: LocalServer | None,
    say: Callable[[str], None],
    wanted: Callable[[], bool],
) -> list[Broken]:
    """Trials on one database; the graph is started anew where a trial went wrong."""
    rng = np.random.default_rng([seed, server is not None])
    patient = find_patient("", seed)
    who = {name: getattr(patient, name) for name in ("sex", "age", "stature", "mass")}
    first = 0 if server is None else 2  # a few trials shall have all kinds
    found: list[Broken] = []
    again: list[str] = []
    while len(found) < count and wanted():
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            disk = stack.enter_context(_disk(folder / "sessions"))
            database = _Database(folder / "sessions", server)
            stack.callback(database.drop)
            nodes = _nodes(seed, folder, database.url)
            client, processes = stack.enter_context(mat(nodes, folder / "log"))
            rig = _Trials(client, processes, nodes, patient.mass)
            rig.begin(disk, database, {**who, "age": float(who["age"])})
            while len(found) < count and wanted():
                kind = KINDS[(len(found) + first) % len(KINDS)]
                moment, later = rng.uniform(*SPAN), rng.uniform(0.0, LATER)
                try:
                    rig.prepare()
                    result = rig.run(kind, moment, later, bool(rng.random() < 0.5))
                except (Disturbed, NoAnswer, StoreError) as error:
                    words = f"{type(error).__name__}: {error}"
                    again.append(words)
                    if len(again) < TRIES:
                        break  # on a new graph
                    result = Broken(kind, database.kind, moment, failed=(words,))
                result.begun_again, again = tuple(again), []
                found.append(result)
                say(_words(result))
                if any("Error" in words or "NoAnswer" in words for words in result.failed):
                    break
    return found


def record(
    trials: int, seed: int, say: Callable[[str], None], wanted: Callable[[], bool]
) -> Outcome:
    """Break sessions and judge what is left.

    Args:
        trials: how many; half of them on SQLite, half on PostgreSQL where that is installed.
        seed: of person, plant and moments.
        say: takes a line per trial.
        wanted: false once the user asks to end.

    Raises:
        NoAnswer: no disk may be mounted.
    """
    started = time.monotonic()
    outcome = Outcome("evaluate record")
    missing = ""
    found: list[Broken] = []
    with ExitStack() as stack:
        try:
            server = stack.enter_context(LocalServer())
        except NoServer as error:
            server, missing = None, str(error)
            say(f"{missing}: all trials on SQLite")
        on_server = 0 if server is None else trials // 2
        for count, where in ((trials - on_server, None), (on_server, server)):
            if count and wanted():
                found += _group(count, seed, where, say, wanted)
    _checks(outcome, found)
    outcome.details = {"seed": seed, "missing": missing, "each": [asdict(r) for r in found]}
    outcome.seconds = time.monotonic() - started
    return outcome


def _words(r: Broken) -> str:
    figures = (
        f"{r.database}, {r.kind} in {r.phase or 'nothing'} after {r.moment:.1f} s: fingers free"
        f" after {r.release:.3f} s, {r.kept} of {r.told} kept, the last {r.behind:.2f} s before,"
        f" {r.wall_seconds:.0f} s"
    )
    again = f", begun again: {'; '.join(r.begun_again)}" if r.begun_again else ""
    return figures + again + (f" FAILED: {'; '.join(r.failed)}" if r.failed else "")


def _checks(outcome: Outcome, found: Sequence[Broken]) -> None:
    def worst(values: list[float]) -> float:
        return max((value for value in values if not np.isnan(value)), default=np.nan)

    outcome.check("trials", len(found), ">=", 1)
    outcome.check("trials_failed", sum(bool(r.failed) for r in found), "==", 0)
    outcome.check("worst_release_s", worst([r.release for r in found]), "<=", RELEASE_LIMIT)
    late = [r.behind for r in found]
    outcome.check("worst_loss_s", worst(late), "<=", LATEST + TELL)
