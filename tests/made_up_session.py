"""Made-up sessions for the tests of recording and report: never a result of the product.

`MadeUpSession` invents a person, a scan, a treatment with one stop and a second scan, and gives
them as messages in the order of drive time, so that they can be published to a recorder or
written with the recorder's own writer.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.serialization import serialize_message
from sensor_msgs.msg import JointState
from std_msgs.msg import Header

from spinemat.layout import MatLayout
from spinemat_interfaces import msg
from spinemat_recording.bag import Definitions, SessionFolder
from spinemat_recording.node import bag_topic, message_texts
from spinemat_ros.codec import bools, doubles, stamp, uint8s, uint16s

STEP = "spine, together: 22 fingers, up to 26 N at 0.5 Hz for 6 s, set 1 of 1"
LEVELS = [f"L{i}" for i in range(5, 0, -1)] + [f"T{i}" for i in range(12, 0, -1)]
NECK = [f"C{i}" for i in range(7, 0, -1)]
NECK_X = 0.49 + 0.015 * np.arange(len(NECK))
ANCHORS = {"L5": 10, "L3": 11.5, "L1": 11.5, "T10": 11.4, "T7": 10.7, "T4": 9.1, "T1": 7.2}
SCREENED = {
    "verdict": "allowed",
    "reasons": ["Mild disc degeneration: a clinician must decide (made up); overridden."],
    "override": {"clinician": "clinician-3", "reason": "seen last week"},
    "overridden": ["mild_disc_degeneration"],
}
SHARES = (  # phase, share of the whole session
    ("INTAKE", 0.02),
    ("ON_MAT", 0.03),
    ("SCAN", 0.25),
    ("PLAN", 0.03),
    ("TREAT", 0.40),
    ("RESCAN", 0.24),
    ("REPORT", 0.03),
)


class MadeUpSession:
    """A session of `seconds` on the mat `layout`, in the session folder `folder`."""

    def __init__(
        self,
        layout: MatLayout,
        folder: Path,
        seconds: float = 24.0,
        *,
        truth: bool = True,
        stop: bool = True,
        seed: int = 3,
    ) -> None:
        self.layout, self.folder, self.truth = layout, folder, truth
        self.rng = np.random.default_rng(seed)
        n = layout.n
        self.t = 2.0 + layout.cycle * np.arange(round(seconds / layout.cycle) + 1)
        self.cycle = np.arange(self.t.size) + 500
        edges = self.t[0] + seconds * np.cumsum([0.0] + [s for _, s in SHARES])
        self.phases = [(name, edges[i], edges[i + 1]) for i, (name, _) in enumerate(SHARES)]
        self.stop_time = float(edges[4] + 0.55 * (edges[5] - edges[4])) if stop else np.inf
        self.skin = (
            np.interp(layout.x, [0, 0.08, 0.18, 0.3, 0.45, 0.5, 0.56], [8, 22, 16, 2, 8, 26, 42])
            * 1e-3
        )
        self.stiffness = np.interp(layout.x, [0, 0.1, 0.3, 0.5, 0.56], [10, 11.5, 11, 7, 5]) * 500
        self.breath = 0.5 - 0.5 * np.cos(2 * np.pi * 0.23 * self.t)
        self.set_point = np.zeros((self.t.size, n))
        self._fill()
        ripple = 1 + 0.05 * (self.breath[:, None] - 0.5)
        lag = np.apply_along_axis(_smooth, 0, self.set_point) * ripple
        since = self.t - self.stop_time
        released = (since >= 0) & (since < 1.5)
        lag[released] *= np.exp(-since[released] / 0.03)[:, None]
        self.set_point[released] = 0.0
        self.force = np.maximum(lag, 0.0)
        self.indentation = self.force / self.stiffness
        self.position = np.where(
            self.force > 0.05, self.skin + self.indentation, layout.finger.stroke[0]
        )
        self.measured = np.round((self.force + self.rng.normal(0, 0.1, self.force.shape)) / 0.02)
        self.measured *= 0.02

    def _fill(self) -> None:
        """Write the set-points: rows one after the other in the scans, a rhythm in between."""
        layout, t = self.layout, self.t
        limit = layout.press_limit
        for name, start, end in self.phases:
            inside = (t >= start) & (t < end)
            if name in ("SCAN", "RESCAN"):
                share = (t - start) / (end - start) * len(layout.rows)
                for row in range(len(layout.rows)):
                    on = inside & (np.floor(share) == row)
                    for finger in (2 * row, 2 * row + 1):
                        wave = 0.5 - 0.5 * np.cos(6 * np.pi * (share[on] % 1))
                        peak = min(18.0, 0.9 * limit[finger])
                        self.set_point[on, finger] = 2.5 + (peak - 2.5) * wave
            elif name == "TREAT":
                for finger in range(layout.n):
                    wave = 0.5 - 0.5 * np.cos(2 * np.pi * 0.5 * (t[inside] - start))
                    scale = {"lumbar": 0.75, "thoracic": 0.5, "neck": 0.0}[layout.regions[finger]]
                    amplitude = scale * limit[finger] * (1 - 0.3 * self.breath[inside])
                    self.set_point[inside, finger] = (scale > 0) * 5.0 + amplitude * wave

    # ---- results -------------------------------------------------------------------------

    def contour(self, when: float, shift: float = 0.0, noise: float = 0.0) -> msg.Contour:
        """Return a contour at `when` (s); `shift` bends it, `noise` (m) blurs it."""
        x = np.linspace(0.0, 0.552, 140)
        z = np.interp(x, self.layout.row_x, np.convolve(self.skin[::2], [1.0], "same"))
        z = np.convolve(np.pad(z, 12, mode="edge"), np.ones(25) / 25, "valid") + shift * x
        z = z + noise * np.sin(40 * x)
        row_z = np.interp(self.layout.row_x, x, z)
        m = msg.Contour(header=_header(when), kyphosis=0.62 + shift, lordosis=0.41 - shift)
        m.kyphosis_std, m.lordosis_std, m.lateral_asymmetry_std = 0.04, 0.05, 1e-4
        m.x, m.z, m.z_std = doubles(x), doubles(z), doubles(np.full(x.size, 4e-4))
        m.row_x = doubles(self.layout.row_x)
        m.left, m.right = doubles(row_z - 3e-4), doubles(row_z + 3e-4)
        m.valid = bools(np.ones(row_z.size))
        m.lateral_asymmetry = 6e-4
        m.levels = ["S1", *LEVELS, *NECK]
        m.level_x = doubles([0.0, *(0.02 + 0.0285 * np.arange(len(LEVELS))), *NECK_X])
        m.level_x_std = doubles(np.full(len(m.levels), 0.004))
        m.level_pitch = doubles(np.zeros(len(m.levels)))
        m.method = "skin height at 1 to 3 N, extrapolated to 0 N, at end-expiration; test data"
        return m

    def stiffness_map(
        self, when: float, change: float = 0.0, error: float = 0.0, spread: float = 0.03
    ) -> msg.StiffnessMap:
        """Return a map; lumbar levels differ by the factor 1 + `change`, all by `error`."""
        m = msg.StiffnessMap(header=_header(when))
        m.method = (
            "slope of force over indentation per pair, 20-38 N, after two preconditioning cycles,"
            " 5 N preload, 0.25 Hz; test data"
        )
        nan = float("nan")
        numbers = np.interp(
            np.arange(len(LEVELS)),
            [LEVELS.index(k) for k in ANCHORS],
            list(ANCHORS.values()),
        )
        for i, level in enumerate(LEVELS):
            x = 0.02 + 0.0285 * i
            value = 1e3 * numbers[i] * (1 + error) * (1 + change * level.startswith("L"))
            for side, part in ((0, 1.0), (1, 0.51), (2, 0.49)):
                valid = not (level == "T1" and error != 0.0)
                se = spread * value * part
                m.levels.append(
                    msg.LevelStiffness(
                        level=level,
                        side=side,
                        x=x,
                        valid=valid,
                        value=float(value * part) if valid else nan,
                        standard_error=float(se) if valid else nan,
                        minimal_detectable_change=float(1.96 * 2**0.5 * se) if valid else nan,
                        reason="" if valid else "no finger pair within 25 mm of this level",
                    )
                )
        for region, x, value in (("lower neck", 0.506, 6.4e3), ("upper neck", 0.552, 4.7e3)):
            m.levels.append(
                msg.LevelStiffness(
                    level=region,
                    side=0,
                    x=x,
                    value=value,
                    standard_error=300.0,
                    minimal_detectable_change=830.0,
                    valid=True,
                    reason="",
                )
            )
        if error:  # a scan of the mat, not the truth
            m.evenness, m.evenness_error = 0.90 + 0.4 * abs(change), 0.01
            m.tension_points, m.tension_ratio = ["T7"], doubles([1.31])
            m.tension_probability = doubles([0.93])
            m.uneven_levels, m.side_difference = ["L4"], doubles([-0.14])
            m.side_probability = doubles([0.88])
        m.finger_stiffness = doubles(self.stiffness)
        m.finger_toe_stiffness = doubles(0.4 * self.stiffness)
        return m

    # ---- messages ------------------------------------------------------------------------

    def before(self) -> list[tuple[str, Any]]:
        """Return what is latched before the session: truth, and an older session's results."""
        found: list[tuple[str, Any]] = [("contour", self.contour(0.5, shift=0.2))]
        if self.truth:
            pressure = msg.Pressure(header=_header(0.0))
            pressure.x = doubles([-0.2, 0.1, 0.4])
            pressure.padding, pressure.fingers = doubles([90, 120, 160]), doubles([0, 5, 5])
            found += [
                ("truth/contour", self.contour(0.0)),
                ("truth/stiffness", self.stiffness_map(0.0)),
                ("truth/pressure", pressure),
            ]
        return found

    def session_state(self, time: float, phase: str) -> msg.SessionState:
        """Return the session's state in `phase` at `time`."""
        return msg.SessionState(
            header=_header(time),
            phase=getattr(msg.SessionState, phase),
            session_id="made-up-1",
            folder=str(self.folder),
            programme="low_back",
            detail=STEP if phase == "TREAT" else "",
            time_left=0.0,
            progress=float((time - self.t[0]) / (self.t[-1] - self.t[0])),
        )

    def safety_state(self, i: int) -> msg.SafetyState:
        """Return the supervisor's state at sample `i`."""
        since = self.t[i] - self.stop_time
        stopped = 0 <= since < 1.5
        m = msg.SafetyState(header=_header(self.t[i]), cycle=int(self.cycle[i]))
        moving = bool(self.set_point[i].any())
        m.state = 3 if stopped else 2 if moving else 1
        m.stops = int(since >= 0)
        if stopped:
            m.cause, m.detail = "hand_control", "released by the person on the mat"
        m.force_limit = doubles(self.layout.trip_limit)
        return m

    def plan(self, time: float) -> msg.SessionPlan:
        """Return a plan in which every trunk level is pressed ten times."""
        m = msg.SessionPlan(header=_header(time), session_id="made-up-1", programme="low_back")
        m.title, m.total, m.pressing = "Made up", 16.0, 6.4
        m.steps = ["scan, quick", STEP, "scan again"]
        m.notes = ["Suggestion: low back, from made-up complaints."]
        for i, level in enumerate([*LEVELS, *NECK]):
            dose = msg.LevelDose(level=level, why=["The programme asks for this."])
            if i < len(LEVELS):
                dose.peak, dose.cycles, dose.work = 20.0, 10.0, 0.5
                dose.why = [*dose.why, f"Stiffness of {level} is known well."]
            m.levels.append(dose)
        return m

    def event(self, time: float, kind: str, text: str, severity: int = 0, **data: Any) -> Any:
        """Return an event of the session node."""
        return msg.Event(
            header=_header(time),
            source="session_orchestrator",
            severity=severity,
            kind=kind,
            text=text,
            data=json.dumps(data),
        )

    def messages(self) -> Iterator[tuple[float, str, Any]]:
        """Yield (time in s, topic, message) from the first phase to IDLE."""
        phase = ""
        for i, time in enumerate(self.t):
            now = next((p for p, a, b in self.phases if a <= time < b), "IDLE")
            yield time, "drive/state", self._drive_state(i)
            if now != phase or i % 25 == 0:
                yield time, "session/state", self.session_state(time, now)
                yield time, "safety/state", self.safety_state(i)
            if now != phase:
                yield from self._at_phase(time, now)
                phase = now
            if abs(time - self.stop_time) < self.layout.cycle / 2:
                yield time, "safety/state", self.safety_state(i)
                yield (
                    time,
                    "events",
                    self.event(time, "stop", "stopped: the hand control was released", 2),
                )
            yield time, "drive/command", self._command(i)
            if i % 2 == 0:
                yield time, "drive/permit", self._permit(i)
            if self.truth:
                yield time, "truth/state", self._truth(i)
            if i % 5 == 0:
                yield time, "fingers/state", self._finger_state(i)
                yield time, "joint_states", self._joints(i)
            if i % 25 == 0 and now not in ("INTAKE", "ON_MAT"):
                yield time, "breathing", self._breathing(i)
            if i % 25 == 0:
                yield time, "guarding", self._guarding(i)
            if i % 250 == 0:
                yield time, "/diagnostics", self._diagnostics(i)

    def write(
        self, folder: Path | None = None, about: dict[str, str] | None = None
    ) -> SessionFolder:
        """Write the session with the recorder's own writer and return it, closed."""
        topics = {}
        definitions = Definitions(message_texts())
        target = SessionFolder(folder or self.folder, definitions, about=about)
        start = round(self.t[0] * 1e9)

        def put(name: str, time: int, message: Any) -> None:
            full = name if name.startswith("/") else f"/mat/{name}"
            topic = topics.setdefault(name, bag_topic(name, full))
            target.write(topic, time, serialize_message(message))

        for name, message in self.before():
            put(name, start, message)
        for time, name, message in self.messages():
            put(name, round(time * 1e9), message)
            if name == "events":
                severity = ("info", "warning", "stop")[message.severity]
                target.line(
                    {
                        "t": float(time),
                        "source": message.source,
                        "severity": severity,
                        "kind": message.kind,
                        "text": message.text,
                        "data": json.loads(message.data),
                    }
                )
        target.close()
        target.close_lines()
        return target

    def _at_phase(self, time: float, phase: str) -> Iterator[tuple[float, str, Any]]:
        words = f"{phase.lower()} begins"
        yield time, "events", self.event(time, "phase", words, phase=phase)
        if phase == "INTAKE":
            yield time, "events", self.event(time, "screening", "screening: allowed", **SCREENED)
        elif phase == "TREAT":
            report = {"pain": 4, "place": "L4", "action": "less force at L4"}
            words = "pain 4 of 10 at L4: less force at L4"
            yield time, "events", self.event(time, "comfort", words, **report)
        if phase == "PLAN":
            yield time, "plan", self.plan(time)
            yield time, "contour", self.contour(time, noise=5e-4)
            yield time, "stiffness", self.stiffness_map(time, error=0.06)
        elif phase == "REPORT":
            yield time, "contour", self.contour(time, shift=0.004, noise=6e-4)
            yield time, "stiffness", self.stiffness_map(time, change=-0.13, error=0.05)

    def _drive_state(self, i: int) -> msg.DriveState:
        m = msg.DriveState(header=_header(self.t[i]), cycle=int(self.cycle[i]), boot_id="made-up")
        m.period, m.stage = self.layout.cycle, 1
        m.position, m.force = doubles(self.position[i]), doubles(self.measured[i])
        j = max(i - 1, 0)
        moved = self.position[i] - self.position[j]
        m.velocity = doubles(np.clip(moved / self.layout.cycle, -0.1, 0.1))
        noise = self.rng.normal(0, 0.002, self.layout.n)
        m.current = doubles((self.force[i] + 8) / self.layout.finger.force_constant + noise)
        m.temperature = doubles(
            np.round(31 + 0.01 * self.t[i] + 0.1 * np.arange(self.layout.n), 1)
        )
        m.status = uint16s(np.zeros(self.layout.n))
        return m

    def _command(self, i: int) -> msg.DriveCommand:
        m = msg.DriveCommand(header=_header(self.t[i]), cycle=int(self.cycle[i]))
        m.velocity = doubles(0.002 * (self.set_point[i] - self.measured[i]))
        m.force_ceiling = doubles(self.layout.press_limit)
        return m

    def _permit(self, i: int) -> msg.DrivePermit:
        stopped = 0 <= self.t[i] - self.stop_time < 1.5
        return msg.DrivePermit(
            header=_header(self.t[i]),
            cycle=int(self.cycle[i]),
            sequence=i // 2 + 1,
            boot_id="made-up",
            granted=bool(not stopped),
            category=0,
        )

    def _truth(self, i: int) -> msg.PlantTruth:
        m = msg.PlantTruth(header=_header(self.t[i]), cycle=int(self.cycle[i]), hand_held=True)
        m.force, m.position = doubles(self.force[i]), doubles(self.position[i])
        m.indentation, m.peak_force = doubles(self.indentation[i]), doubles(1.01 * self.force[i])
        m.padding, m.breath = float(420 - self.force[i].sum()), float(self.breath[i])
        m.late_cycles = 7 + (2 if self.t[i] > self.t[-1] - 1 else 0)
        return m

    def _finger_state(self, i: int) -> msg.FingerState:
        m = msg.FingerState(header=_header(self.t[i]), cycle=int(self.cycle[i]))
        m.position, m.force = doubles(self.position[i]), doubles(self.measured[i])
        m.set_point = doubles(self.set_point[i])
        m.mode = uint8s(np.where(self.set_point[i] > 0, 3, 1))
        m.contact, m.clamped = bools(self.force[i] > 1), bools(np.zeros(self.layout.n))
        return m

    def _joints(self, i: int) -> JointState:
        m = JointState(header=_header(self.t[i]), name=list(self.layout.joint_names))
        m.position, m.effort = doubles(self.position[i]), doubles(self.measured[i])
        return m

    def _guarding(self, i: int) -> msg.Guarding:
        m = msg.Guarding(header=_header(self.t[i]), confidence=0.9)
        treat = next((a for name, a, _ in self.phases if name == "TREAT"), np.inf)
        m.active = bool(1.0 <= self.t[i] - treat < 2.0)
        m.stiffening = doubles(np.full(self.layout.n, 1.6 if m.active else 1.0))
        return m

    def _diagnostics(self, i: int) -> DiagnosticArray:
        status = DiagnosticStatus(name="finger_actuation", message="made up")
        return DiagnosticArray(header=_header(self.t[i]), status=[status])

    def _breathing(self, i: int) -> msg.Breathing:
        m = msg.Breathing(header=_header(self.t[i]), valid=True, quality=0.8, amplitude=3.0)
        m.rate = float(0.23 + 0.006 * np.sin(0.2 * self.t[i]))
        m.phase = float((2 * np.pi * 0.23 * self.t[i]) % (2 * np.pi))
        m.next_end_expiration = stamp(round((self.t[i] + 2) * 1e9))
        return m


def _header(time: float) -> Header:
    return Header(stamp=stamp(round(time * 1e9)), frame_id="mat/mat")


def _smooth(values: np.ndarray) -> np.ndarray:
    """Lag a set-point by a few cycles, as a drive does."""
    kernel = np.exp(-np.arange(12) / 4.0)
    return np.convolve(values, kernel / kernel.sum())[: values.size]
