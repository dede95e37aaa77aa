"""One case of the fault campaign, judged by the plant's truth.

A case brings the mat to its moment, lets the fault in, waits until the mat has stopped (or, where
that is allowed, has gone on), keeps the fault for a while, mends it and resets. The truth of the
simulator says what the person felt; the supervisor is only believed about what it latched. Every
rule has a case of its own, which is then run again with the rule switched off.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from spinemat.drive import SLOW_SPEED, Category, Stage
from spinemat.rules import RULES
from spinemat_bringup.campaign.cases import STOP
from spinemat_bringup.campaign.fault import RELEASE_LIMIT, Fault
from spinemat_bringup.campaign.tamper import remappings
from spinemat_bringup.campaign.trial import Trial
from spinemat_bringup.client import NoAnswer, Sent
from spinemat_bringup.graph import GraphOptions, NodeSpec, describe, share
from spinemat_bringup.rig import DOWN, FREE, WALL_LIMIT, Disturbed, Missed, mat
from spinemat_recording.session_record import read_session
from spinemat_sim.population import find_patient

FORCE_MARGIN = 1.1  # of the trip limit, for the true force on any finger
FASTEST = 3.0  # times the speed of a slow retraction that a tip off the back may reach
KEEP = 50  # cycles for which a fault goes on once every finger is down
TRIES = 3  # a busy machine may end a press before its moment, or not come back
GRAPHS: dict[str, dict[str, Any]] = {  # parameters of the supervisor
    "mat": {},
    "campaign": {},  # the supervisor of `supervisor.py`
    "short": {"max_session_time": 15.0, "max_pressing_time": 10.0},
}


@dataclass
class Result:
    """What one case showed.

    Attributes:
        release: from the fault to all fingers under 1 N, s; NaN: the mat went on. Where the mat
            may go on under the fault, from when the drive let go …
        since_fault: … and here always from the fault.
        force: largest true force of any finger over its trip limit.
        highest: highest tip after all were down and before the reset, m.
    """

    fault: str
    moment: str
    software: bool
    cause: str = ""
    detail: str = ""
    release: float = np.nan
    since_fault: float = np.nan
    force: float = np.nan
    highest: float = np.nan
    wall_seconds: float = 0.0
    without: str = ""
    failed: tuple[str, ...] = ()
    begun_again: tuple[str, ...] = ()


def _nodes(seed: int, folder: Path, graph: str) -> list[NodeSpec]:
    options = GraphOptions(
        share("config", "mat.yaml"),
        seed=seed,
        answer_wait=0.5,
        sessions_dir=folder / "sessions",
        state_dir=folder,
    )
    nodes = [NodeSpec("tamper", "spinemat_bringup", "tamper")]
    for spec in describe(options):
        parameters = dict(spec.parameters)
        package, executable = spec.package, spec.executable
        if spec.name == "mat_simulator":
            parameters["stiffness_truth"] = False
        if spec.name == "safety_supervisor":
            parameters |= GRAPHS[graph]
            if graph != "mat":
                package, executable = "spinemat_bringup", "campaign_supervisor"
        nodes.append(
            replace(
                spec,
                package=package,
                executable=executable,
                parameters=parameters,
                remappings=remappings(spec.name),
            )
        )
    return nodes


class Campaign:
    """Runs cases, each on a mat that an earlier case may have used."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._patient = find_patient("", seed)
        self._begun = False  # the fault of the present case has come
        self._graph = ""
        self._folder = Path()
        self._trial: Trial | None = None

    @contextmanager
    def _mat(self, graph: str) -> Iterator[Trial]:
        with tempfile.TemporaryDirectory() as name:
            self._folder = Path(name)
            nodes = _nodes(self._seed, self._folder, graph)
            with mat(nodes, self._folder / "log") as (client, processes):
                trial = Trial(client, processes, nodes, self._patient)
                trial.learn()
                yield trial

    def _on(self, graph: str) -> Trial:
        """Return a mat with this supervisor, the running one if it is of the kind."""
        if self._trial is None or self._graph != graph:
            self.end()
            self._manager = self._mat(graph)
            self._trial = self._manager.__enter__()
            self._graph = graph
        return self._trial

    def end(self) -> None:
        """End what runs."""
        if self._trial is not None:
            self._trial = None
            self._manager.__exit__(None, None, None)

    def run(self, fault: Fault, moment: str, without: str = "") -> Result:
        """Run one case, again if the mat did not reach its moment; `without` a rule."""
        again: list[str] = []
        began = time.monotonic()
        while True:
            self._begun = False
            try:
                trial = self._on("campaign" if without and fault.graph == "mat" else fault.graph)
                result = self._case(trial, fault, moment, without)
                break
            except (Disturbed, NoAnswer) as error:
                words = f"{type(error).__name__}: {error}"
                self.end()
                came = self._begun and not isinstance(error, Missed)
                if came or len(again) + 1 == TRIES:  # what follows a fault is its result
                    result = Result(fault.name, moment, fault.software, failed=(*again, words))
                    break
                again.append(words)
        result.begun_again = tuple(again)
        result.wall_seconds = time.monotonic() - began
        if fault.kills:
            self.end()
        return result

    def _case(self, t: Trial, fault: Fault, moment: str, without: str) -> Result:
        result = Result(fault.name, moment, fault.software, without=without)
        t.odd = []
        t.prepare()
        stops = len(self._stops())
        if without:
            t.set("safety_supervisor", "without_rule", without)
        sent = t.at(moment)
        if fault.paced:
            t.set("mat_simulator", "real_time", True)
        known = len(t.client.events)
        since, self._begun = t.cycle, True
        since = fault.begin(t) or since
        goes_on = self._wait(t, fault, since, sent, without)
        down = t.cycle
        if not goes_on:
            t.cycles(KEEP)
        fault.mend(t)
        if not goes_on:
            t.client.wait(t.stopped, WALL_LIMIT, "STOPPED")
        safety = t.client.safety
        assert safety is not None
        result.cause, result.detail = safety.cause, safety.detail
        if without:
            t.set("safety_supervisor", "without_rule", "")
        if fault.paced:
            t.set("mat_simulator", "real_time", False)
        if not goes_on:
            t.cycles(KEEP)
        may_go_on = "" in fault.causes
        self._judge(t, result, since, down, goes_on, may_go_on)
        if not without and not goes_on:
            self._check_category(t, result.cause, since)
        t.leave()
        self._check_cause(t, fault, result, without, goes_on)
        self._check_record(t, result, known, stops)
        if not fault.kills:
            t.come_back()
        result.failed = (*result.failed, *t.odd)
        return result

    def _wait(self, t: Trial, fault: Fault, since: int, sent: Sent | None, without: str) -> bool:
        """Wait for the release; return whether the mat went on instead."""
        end = since + fault.patience / t.layout.cycle

        def over() -> bool:
            return t.cycle > end or t.stopped()

        t.client.wait(lambda: over() or (fault.quiet and t.down()), WALL_LIMIT, "a stop")
        if t.stopped() or fault.quiet:
            t.released()
            return False
        if without or "" not in fault.causes:
            if not without:
                t.odd.append("nothing stopped the mat")
            t.client.trigger("stop")
            t.released()
            return False
        if sent is not None:
            if not sent.done:
                sent.cancel()
            t.client.wait(lambda: sent.done, WALL_LIMIT, "the end of what ran")
        t.released()
        return True

    def _judge(
        self, t: Trial, result: Result, since: int, down: int, goes_on: bool, may_go_on: bool
    ) -> None:
        """Take the figures of the truth; a fault that needs no stop is timed from its stop."""
        cycle = np.array([m.cycle for m in t.truth])
        force = np.array([m.force for m in t.truth])
        peak = np.array([m.peak_force for m in t.truth])
        height = np.array([m.position for m in t.truth])
        result.force = float((peak / t.layout.trip_limit).max())
        if not goes_on:
            result.since_fault = self._free(t, cycle, force, since)
            if may_go_on:
                stopping = (
                    m.cycle for m in t.truth if m.stage != Stage.RUNNING and m.cycle > since
                )
                since = next(stopping, since)
            result.release = self._free(t, cycle, force, since)
            result.highest = float(height[cycle >= down].max())

    @staticmethod
    def _free(t: Trial, cycle: Any, force: Any, since: int) -> float:
        """Time from a cycle until no finger presses any more, s."""
        loaded = cycle[(cycle > since) & (force >= FREE).any(axis=1)]
        return float((int(loaded.max(initial=since - 1)) + 1 - since) * t.layout.cycle)

    def _check_cause(
        self, t: Trial, fault: Fault, result: Result, without: str, goes_on: bool
    ) -> None:
        bad = []
        before = STOP if result.moment == "stopping" else ()
        if without:
            if result.cause == without:
                bad.append(f"'{without}' is the cause although it is switched off")
        elif not goes_on and result.cause not in (*fault.causes, *before):
            bad.append(f"first cause '{result.cause}' ({result.detail}): not one of those of it")
        if result.force > FORCE_MARGIN:
            bad.append(f"{result.force:.2f} of a trip limit; allowed: {FORCE_MARGIN:g}")
        if fault.software and not without and result.release > RELEASE_LIMIT:
            bad.append(f"release after {result.release:.3f} s; allowed: {RELEASE_LIMIT:g} s")
        if result.highest > DOWN:
            bad.append(f"a tip at {1e3 * result.highest:.1f} mm before the reset")
        result.failed = tuple(bad)

    def _check_category(self, t: Trial, cause: str, since: int) -> None:
        """Whether the drive let go the way that the cause asks for, if nothing worse came."""
        category = {rule.name: rule.category for rule in RULES}.get(cause)
        safety = t.client.safety
        if safety is None or safety.later_causes or category is None:
            return
        powered = (Stage.RELEASING, Stage.RETRACTING)  # released, a tip drops the last millimetre
        after = [m for m in t.truth if m.cycle > since and m.stage in powered]
        retracting = any(m.stage == Stage.RETRACTING for m in after)
        if category is Category.RELEASE_AND_POWER_OFF and retracting:
            t.odd.append("a drive that reports a fault was driven")
        if category is Category.RETRACT_SLOWLY and len(after) > 1:
            height = np.array([m.position for m in after])
            off = np.array([m.force for m in after])[:-1] == 0.0  # tissue pushes no more
            cycles = np.diff([m.cycle for m in after])[:, None]
            fall = -(np.diff(height, axis=0) / cycles * off).min() / t.layout.cycle
            if fall > FASTEST * SLOW_SPEED:
                t.odd.append(f"a slow retraction at {1e3 * fall:.0f} mm/s")

    def _stops(self) -> list[dict[str, Any]]:
        """What the safety log says of stops."""
        log = self._folder / "safety_events.jsonl"
        lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
        return [entry for line in lines if (entry := json.loads(line))["kind"] == "stop"]

    def _check_record(self, t: Trial, result: Result, known: int, before: int) -> None:
        """What was written has to be readable, and to hold what happened.

        Args:
            t: the running mat.
            result: of the case.
            known, before: events of the graph, and stops in the safety log, when it began.
        """
        full = "disk full" in result.fault

        def stops() -> list[dict[str, Any]]:
            return self._stops()[before:]

        try:
            if result.cause not in ("", "restart") and not full:
                t.client.wait(
                    lambda: bool(stops()) and stops()[-1]["cause"] == result.cause,
                    WALL_LIMIT,
                    f"'{result.cause}' in the safety log",
                )
                states = self._folder / stops()[-1]["drive_states"]
                if "safety_supervisor killed" not in result.fault:  # it is to write them later
                    t.client.wait(states.exists, WALL_LIMIT, "drive states beside the log")
                    if np.load(states)["cycle"].size == 0:
                        t.odd.append("no drive states beside the log")
        except (NoAnswer, OSError, ValueError, KeyError) as error:
            t.odd.append(f"safety log: {error!r}")
        if t.recorded and "recorder" not in result.fault:
            try:
                if not full:
                    t.client.wait(
                        lambda: any(
                            e.kind == "recorded" and t.recorded in e.data
                            for e in t.client.events[known:]
                        ),
                        WALL_LIMIT,
                        "the record",
                    )
                    read_session(t.recorded)
                kept = json.loads((Path(t.recorded) / "session.json").read_text(encoding="utf-8"))
                if kept["session_id"] not in t.recorded:
                    t.odd.append("session.json is of another session")
            except (NoAnswer, OSError, ValueError, KeyError) as error:
                t.odd.append(f"record: {error!r}")
