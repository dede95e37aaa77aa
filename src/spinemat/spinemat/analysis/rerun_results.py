"""Recorded results of estimators beside the same results again; see `rerun`."""

from __future__ import annotations

from typing import Any

from spinemat.analysis.comparing import Comparison
from spinemat.posture import PostureEstimate
from spinemat.watches import FingerSample

WATCHED = ("breathing", "pressure", "guarding", "presence", "stiffness/running", "posture")
SCANNED = ("contour", "stiffness", "body_pose")
OVERTAKEN = 100_000_000  # ns by which topics may overtake each other (engineering choice)


class Results:
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
            name: {nanoseconds(m): m for m in messages[name]}
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
        self.add(topic, at, {name: (field_of(recorded, name), v) for name, v in there.items()})

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


def field_of(message: Any, name: str) -> Any:
    """Return a field of a recorded message: a time in ns, names as one text."""
    value = getattr(message, name)
    if hasattr(value, "nanosec"):
        return int(value.sec) * 1_000_000_000 + int(value.nanosec)
    if name in ("tension_points", "uneven_levels", "levels"):
        return ", ".join(value)
    return value


def nanoseconds(message: Any) -> int:
    """Stamp of a message, ns."""
    return int(field_of(message.header, "stamp"))
