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
from spinemat.analysis.tables import gather
from spinemat.anatomy import LEVELS, check_intake
from spinemat.back_model import UP
from spinemat.body_pose import body_pose
from spinemat.errors import InvalidInput
from spinemat.layout import MatLayout, load_layout, parse_layout
from spinemat.posture import PostureEstimate
from spinemat.scan import Outcome, Samples, ScanRefused, SpineScan
from spinemat.scan_log import Begin, Entry, Evaluation, Learnt, Pressed, as_heights, evaluate, read
from spinemat.watches import FingerSample, Watches

WHAT = ("estimators", "safety")
WATCHED = ("breathing", "pressure", "guarding", "presence", "stiffness/running", "posture")
SCANNED = ("contour", "stiffness", "body_pose")
OVERTAKEN = 100_000_000  # ns by which topics may overtake each other (engineering choice)
LEVELS_UP = ("S1", *LEVELS[::-1])  # as `contour` lists them
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
    results = _Results(messages, comparisons, begins[0] if begins else 0, whole)
    watches, scans = Watches(layout), _Scans(layout, results, notes)
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
    return [(_nanoseconds(m), read(m.kind, m.data)) for m in messages]


class _Results:
    """Recorded results by their time, and their comparison with what comes again.

    Args:
        messages: recorded results by topic.
        comparisons: takes what is found, by topic.
        first: drive cycle of the first state after which results can be the same.
        whole: a topic without messages was not left out of the recording: it had none.
    """

    def __init__(
        self,
        messages: dict[str, list[Any]],
        comparisons: dict[str, Comparison],
        first: int,
        whole: bool = False,
    ) -> None:
        self._all, self._first = comparisons, first
        self._recorded = {
            name: {_nanoseconds(m): m for m in messages[name]}
            for name in (*WATCHED, *SCANNED)
            if messages[name] or whole
        }
        last = max((at for told in self._recorded.values() for at in told), default=0)
        self._ran = last - OVERTAKEN  # what comes again later may not have been told, or kept
        self._begin = -1  # ns, of the last state before results can be the same
        self._scanned: int | None = None  # ns, when the first scan of the recording began

    def compare(self, topic: str, at: int, recorded: Any, values: dict[str, Any]) -> None:
        """Compare values with those fields that a recorded message has."""
        there = {name: v for name, v in values.items() if hasattr(recorded, name)}
        self.add(topic, at, {name: (_told(recorded, name), v) for name, v in there.items()})

    def add(self, topic: str, at: int, values: dict[str, tuple[Any, Any]]) -> None:
        """Compare pairs of a recorded value and the same again."""
        self._all.setdefault(topic, Comparison()).add(1e-9 * at, values)

    def felt(self, state: FingerSample, felt: Any) -> None:
        """Compare what the watches said of one state with what was recorded of it."""
        if state.cycle <= self._first:
            self._begin = state.now
            return
        said, e, r = felt.reaction, felt.breath, felt.running
        nan = float("nan")
        told: dict[str, dict[str, Any]] = {}
        if felt.tell_guarding:
            told["guarding"] = {
                "active": said.guarding,
                "stiffening": said.stiffening,
                "confidence": said.confidence,
            }
        if felt.tell_presence:
            told["presence"] = {
                "presence": int(said.presence),
                "touching": said.touching,
                "moving": said.moving,
            }
        if felt.slow:
            told["pressure"] = {"fingers": felt.load}
            told["breathing"] = {
                "rate": e.rate if e else nan,
                "phase": e.phase if e else nan,
                "amplitude": e.amplitude if e else 0.0,
                "next_end_expiration": felt.next_end_expiration if e else 0,
                "quality": max(e.quality, 0.0) if e else 0.0,
                "valid": bool(e and e.valid),
            }
        if r is not None:
            told["stiffness/running"] = {
                "value": r.value,
                "standard_error": r.error,
                "change": r.change,
                "change_error": r.change_error,
            }
        for topic, values in told.items():
            message = self.take(topic, state.now)
            if message is not None:
                self.compare(topic, state.now, message, values)

    def curve(self, at: int, curve: PostureEstimate) -> None:
        """Compare a curve of the posture strip, told at `at` (ns)."""
        message = self.take("posture", at) if at > self._begin else None
        if message is not None:
            values = vars(curve) | {"levels": ", ".join(curve.levels)}
            del values["method"]
            self.compare("posture", at, message, values)

    def take(self, topic: str, at: int) -> Any:
        """Take the recorded result told at `at` (ns); None: there is none, which is counted."""
        if topic not in self._recorded:
            return None
        found = self._recorded[topic].pop(at, None)
        if found is None and at <= self._ran:
            self._all.setdefault(topic, Comparison()).unmatched += 1
        return found

    def scan_begins(self, at: int) -> None:
        """A scan begins at `at` (ns): what it leads to can be compared from here on."""
        self._scanned = at if self._scanned is None else self._scanned

    def end(self, last: int) -> None:
        """Count what was recorded up to the last state (ns) and did not come again."""
        for name, left in self._recorded.items():
            begin = self._scanned if name in SCANNED else self._begin
            missing = sum(begin < at <= last for at in left) if begin is not None else 0
            if missing:
                self._all.setdefault(name, Comparison()).missing += missing


class _Scans:
    """The scans of a recording, worked out again from the states of the fingers."""

    def __init__(self, layout: MatLayout, results: _Results, notes: list[str]) -> None:
        self._layout, self._results, self._notes = layout, results, notes
        self._scan: SpineScan | None = None
        self._steps: Any = None
        self._told = False
        self.samples: list[FingerSample] = []  # of the press at hand

    def take(self, entry: Entry, at: int) -> SpineScan | None:
        """Take an entry of the log, told at `at` (ns); return the scan if it is done now."""
        if isinstance(entry, Begin):
            intake = check_intake(entry.sex, entry.age, entry.stature, entry.mass)
            self._scan = SpineScan(
                self._layout,
                intake,
                as_heights(entry.expected),
                entry.full,
                None if entry.share is None else np.array(entry.share),
            )
            self._results.scan_begins(at)
            self._steps = self._scan.steps(entry.start_cycle, entry.stiffness)
            self._told = False
            next(self._steps, None)
            self.samples.clear()
        elif self._scan is None:
            return None  # the scan began before the recording
        elif isinstance(entry, Pressed):
            self._press(entry, at)
        elif isinstance(entry, Learnt):
            return self._evaluate(at)
        return None

    def _press(self, entry: Pressed, at: int) -> None:
        assert self._scan is not None
        samples = Samples()
        for s in self.samples:
            if s.cycle <= entry.end_cycle:
                samples.add(s.cycle, s.position, s.force)
        self.samples.clear()
        contact = np.array(entry.contact, dtype=bool)
        cycles = entry.loaded_cycle, entry.end_cycle
        outcome = Outcome(*cycles, contact, entry.tense, entry.moved)
        try:
            self._scan.take(outcome, samples)
            if self._scan.contour is not None and not self._told:
                self._told = True
                self._compare_contour(at)
            next(self._steps, None)
        except ScanRefused as error:
            self._notes.append(f"scan: {error}")
            self._scan = None

    def _compare_contour(self, at: int) -> None:
        assert self._scan is not None and self._scan.contour is not None
        c, found = self._scan.contour, self._results.take("contour", at)
        if found is None:
            return
        names = ("x", "z", "z_std", "row_x", "left", "right", "valid")
        angles = ("kyphosis", "lordosis", "lateral_asymmetry")
        told = (*angles, *(f"{name}_std" for name in angles))
        values = {name: getattr(c, name) for name in (*names, *told) if hasattr(found, name)}
        at_levels = np.array([c.place.levels[v] for v in LEVELS_UP])
        values["level_x"] = at_levels
        values["level_x_std"] = [c.place.errors[v] for v in LEVELS_UP]
        values["level_pitch"] = c.pitch(at_levels)
        self._results.compare("contour", at, found, values)

    def _evaluate(self, at: int) -> SpineScan:
        assert self._scan is not None
        e = evaluate(self._scan)
        self._compare_contour(at)  # told again: the breath is known better
        m = self._results.take("stiffness", at)
        if m is not None:
            values: dict[str, tuple[Any, Any]] = {
                "finger_stiffness": (m.finger_stiffness, e.linear),
                "finger_toe_stiffness": (m.finger_toe_stiffness, e.toe),
                "levels": ([v.value for v in m.levels], [v.value for v in e.levels]),
                "errors": ([v.standard_error for v in m.levels], [v.error for v in e.levels]),
                "valid": ([v.valid for v in m.levels], [v.valid for v in e.levels]),
            }
            found = _findings(e)
            out = found.pop("stands_out")
            if all(hasattr(v, "stands_out") for v in m.levels):
                values["stands_out"] = ([v.stands_out for v in m.levels], out)
            if all(hasattr(v, "reason") for v in m.levels):
                reasons = [", ".join(v.reason for v in levels) for levels in (m.levels, e.levels)]
                values["reasons"] = reasons[0], reasons[1]
            values |= {k: (_told(m, k), v) for k, v in found.items() if hasattr(m, k)}
            self._results.add("stiffness", at, values)
        self._compare_pose(at, e)
        return self._scan

    def _compare_pose(self, at: int, e: Evaluation) -> None:
        assert self._scan is not None and self._scan.contour is not None
        m = self._results.take("body_pose", at) if e.lies is not None else None
        if m is None or e.lies is None:
            return
        again = body_pose(self._scan.contour, e.lies)
        p, q = m.pose.pose.position, m.pose.pose.orientation
        self._results.add(
            "body_pose",
            at,
            {
                "position": ([p.x, p.y, p.z], again.position),
                "orientation": ([q.x, q.y, q.z, q.w], again.orientation),
                "covariance": (m.pose.covariance, again.covariance.ravel()),
            },
        )


def _findings(e: Evaluation) -> dict[str, Any]:
    """Return what a map tells beside its levels, as `stiffness` has it; names are one text."""
    nan = float("nan")
    f, lies = e.found, e.lies
    if f is None or lies is None:
        names = dict.fromkeys(("tension_points", "uneven_levels"), "")
        lists = ("tension_ratio", "tension_probability", "side_difference", "side_probability")
        errors = dict.fromkeys(("evenness_error", "across_error", "rotation_error"), 0.0)
        none = dict.fromkeys(("evenness", "across", "rotation"), nan)
        empty: dict[str, Any] = {name: [] for name in lists}
        return names | empty | errors | none | {"stands_out": [nan] * len(e.levels)}
    out = dict(zip(UP, f.stands_out, strict=True))
    return {
        "evenness": f.evenness,
        "evenness_error": f.evenness_error,
        "tension_points": ", ".join(point.level for point in f.tension),
        "tension_ratio": [point.ratio for point in f.tension],
        "tension_probability": [point.probability for point in f.tension],
        "uneven_levels": ", ".join(side.level for side in f.sides),
        "side_difference": [side.difference for side in f.sides],
        "side_probability": [side.probability for side in f.sides],
        "across": lies.across[0],
        "across_error": lies.across[1],
        "rotation": lies.rotation[0],
        "rotation_error": lies.rotation[1],
        "stands_out": [
            out.get(v.level, nan) if v.valid and v.side == "both" else nan for v in e.levels
        ],
    }


def _told(message: Any, name: str) -> Any:
    """Return a field of a recorded message: a time in ns, names as one text."""
    value = getattr(message, name)
    if hasattr(value, "nanosec"):
        return int(value.sec) * 1_000_000_000 + int(value.nanosec)
    if name in ("tension_points", "uneven_levels", "levels"):
        return ", ".join(value)
    return value


def _nanoseconds(message: Any) -> int:
    return int(_told(message.header, "stamp"))
