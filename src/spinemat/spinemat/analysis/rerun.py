"""Estimators and safety rules over a recording, without ROS: `rerun`.

The same code as in the nodes gets what it got then, and what it says is compared with what was
recorded. Inputs on one topic are in the bag in the order in which they came. Across topics that
order is not known: it is taken by drive time. What a node knew from before the recording is not
known either, so estimators are compared from the first scan of a new person on, where the node
itself begins anew.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from spinemat.analysis import rerun_safety
from spinemat.analysis.bags import Bag, BagError, about_json
from spinemat.analysis.comparing import Comparison
from spinemat.analysis.rerun_posture import Strip
from spinemat.analysis.rerun_results import SCANNED, WATCHED, Results, nanoseconds
from spinemat.analysis.rerun_scans import Scans
from spinemat.analysis.tables import gather
from spinemat.errors import InvalidInput
from spinemat.layout import MatLayout, load_layout, parse_layout
from spinemat.scan_log import Begin, Entry, read
from spinemat.watches import FingerSample, Watches

WHAT = ("estimators", "safety")
_STATE_FIELDS = (
    "header.stamp.sec",
    "header.stamp.nanosec",
    "cycle",
    "position",
    "force",
    "set_point",
    "mode",
    "contact",
)


@dataclass
class Rerun:
    """What a rerun found.

    Attributes:
        comparisons: by the topic of the recorded results.
        bag_seconds: length of the recording, s.
        seconds: what the rerun took, by part, s, reading the bag included …
        cpu_seconds: … and the processor time in it, s, on which other work has less influence.
        notes: what could not be run again, and why.
    """

    bag_seconds: float
    comparisons: dict[str, Comparison] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    cpu_seconds: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def equal(self) -> bool:
        """Whether something was compared, all of it came again and is equal to the last digit."""
        found = self.comparisons.values()
        return any(c.compared for c in found) and all(c.equal for c in found)

    def speed(self, part: str) -> float:
        """How many times faster than real time a part ran."""
        return self.bag_seconds / self.seconds[part] if self.seconds.get(part) else float("nan")


def rerun(bag: Bag, layout: MatLayout | None = None, what: tuple[str, ...] = WHAT) -> Rerun:
    """Run estimators and safety rules over a recording and compare with what was recorded.

    Args:
        bag: the recording.
        layout: the mat; None: the description that the bag carries.
        what: ``estimators``, ``safety`` or both.

    Raises:
        BagError: the bag has no states of the fingers, or of the drives, or another mat's.
        InvalidInput: the bag carries no description of the mat, and none is given.
    """
    layout = layout or layout_of(bag)
    found = Rerun(bag.seconds)
    for part, run in (("estimators", _estimators), ("safety", rerun_safety.run)):
        if part in what:
            begun, used = time.perf_counter(), time.process_time()
            try:
                run(bag, layout, found.comparisons, found.notes)
            except BagError as error:  # a recording of few topics may hold what the other needs
                found.notes.append(error.problem)
                if part == what[-1] and not found.seconds:
                    raise
                continue
            found.seconds[part] = time.perf_counter() - begun
            found.cpu_seconds[part] = time.process_time() - used
    return found


def layout_of(bag: Bag, given: str | Path | None = None) -> MatLayout:
    """Return the mat of a recording: from a file that is given, else from the bag itself.

    Raises:
        InvalidInput: there is none, or it is not acceptable.
    """
    if given:
        return load_layout(given)
    mat = about_json(bag, "mat")
    if not isinstance(mat, dict) or "file" not in mat:
        raise InvalidInput("mat", None, "the mat's description: this bag carries none (--mat)")
    return parse_layout(yaml.safe_load(mat["file"]))


# ---- estimators --------------------------------------------------------------------------


def _estimators(
    bag: Bag, layout: MatLayout, comparisons: dict[str, Comparison], notes: list[str]
) -> None:
    try:
        found, messages = gather(
            bag,
            {"fingers/state": _STATE_FIELDS},
            ("scan/inputs", "posture/imu", *WATCHED, *SCANNED),
        )
    except BagError as error:
        raise BagError(bag.path, f"estimators need fingers/state: {error.problem}") from error
    states = list(_finger_samples(bag, layout, found["fingers/state"]))
    log = _scan_log(messages["scan/inputs"])
    if not log:
        notes.append("no scan/inputs were recorded: scans are not run again")
    begins = [e.cycle for _, e in log if isinstance(e, Begin) and not e.same_person]
    scans_begin = [at for at, e in log if isinstance(e, Begin)]
    strip = Strip(bag, messages, scans_begin[0] if scans_begin else 0, notes)
    whole = "profile" in bag.about  # our recorder kept every topic of the node
    results = Results(messages, comparisons, begins[0] if begins else 0, whole)
    watches, scans = Watches(layout), Scans(layout, results, notes)
    entries = iter([*log, (0, None)])
    stamp, entry = next(entries)
    cycles = np.array([s.cycle for s in states])
    if cycles.size > 1 and (np.diff(cycles) <= 0).any():
        notes.append("the drive stage was restarted during the recording")
    for state in states:
        while entry is not None and entry.cycle < state.cycle:
            if isinstance(entry, Begin):
                strip.lies_on(entry)
                if not entry.same_person:
                    watches.forget()
            done = scans.take(entry, stamp)
            if done is not None:
                watches.learn(done)
            stamp, entry = next(entries)
        for at, curve in strip.until(state.now):
            results.curve(at, curve)
        scans.samples.append(state)
        felt = watches.add(state)
        strip.felt(state.now, felt.reaction.presence)
        results.felt(state, felt)
    while entry is not None:
        scans.take(entry, stamp)
        stamp, entry = next(entries)
    for at, curve in strip.until(None):
        results.curve(at, curve)
    results.end(states[-1].now if states else 0)


def _finger_samples(bag: Bag, layout: MatLayout, a: dict[str, Any]) -> Iterator[FingerSample]:
    if a["position"].ndim != 2 or a["position"].shape[1] != layout.n:
        raise BagError(
            bag.path, f"{a['position'].shape[-1]} fingers were recorded, the mat has {layout.n}"
        )
    now = a["header.stamp.sec"].astype(np.int64) * 1_000_000_000 + a["header.stamp.nanosec"]
    good = np.isfinite(a["position"] + a["force"]).all(axis=1)
    mode, contact = a["mode"].astype(np.int64), a["contact"].astype(bool)
    for i in np.flatnonzero(good):
        yield FingerSample(
            int(a["cycle"][i]), int(now[i]), a["position"][i], a["force"][i], a["set_point"][i],
            mode[i], contact[i],
        )  # fmt: skip


def _scan_log(messages: list[Any]) -> list[tuple[int, Entry | None]]:
    """Return what scans were given, each with the time (ns) at which it was told."""
    return [(nanoseconds(m), read(m.kind, m.data)) for m in messages]
