"""The scans of a recording, worked out again; see `rerun`."""

from __future__ import annotations

from typing import Any

import numpy as np

from spinemat.analysis.rerun_results import Results, field_of
from spinemat.anatomy import LEVELS, check_intake
from spinemat.back_model import UP
from spinemat.body_pose import body_pose
from spinemat.layout import MatLayout
from spinemat.scan import Outcome, Samples, ScanRefused, SpineScan
from spinemat.scan_log import Begin, Entry, Evaluation, Learnt, Pressed, as_heights, evaluate
from spinemat.watches import FingerSample

LEVELS_UP = ("S1", *LEVELS[::-1])  # as `contour` lists them


class Scans:
    """The scans of a recording, worked out again from the states of the fingers."""

    def __init__(self, layout: MatLayout, results: Results, notes: list[str]) -> None:
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
            values |= {k: (field_of(m, k), v) for k, v in found.items() if hasattr(m, k)}
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
